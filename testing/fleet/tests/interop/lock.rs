//! The load lock: both sides share one load, and wait for each other for a limited time.

use std::time::Duration;

use crate::common::{APP, LOCK, TOKEN, World, found, is_absent, record, start, until};
use fleet::interop::database::Row;
use fleet::interop::python::Version;
use serde_json::Value;
use tower_api_token::test_util::SyncPoint;

#[tokio::test]
async fn we_wait_for_pythons_load_and_read_its_entry() {
    let world = World::with(Row::new("tok-1"));
    let (rust, mut python) = (world.rust(), world.python(Version::Current));
    python.start_fetch(TOKEN, APP);
    python.query();
    let lock = world.text(LOCK).expect("Python holds it");
    assert_eq!(lock.len(), 32);
    world.redis.reset_stats();
    let waiting: Vec<_> = (0..5).map(|_| start(&rust, TOKEN)).collect();
    // We tried to take the lock, and read the entry again.
    until(|| world.redis.command_count("eval") >= 2).await;
    assert_eq!(world.text(LOCK), Some(lock), "it is Python's to release");
    python.answer(&record("py-1", TOKEN));
    python.end().unwrap();
    for answer in waiting {
        let token = answer.await.unwrap().unwrap().valid().unwrap();
        assert_eq!(token.id(), "py-1");
    }
    assert_eq!(world.database.loads(), 0);
    assert_eq!(world.text(LOCK), None);
}

#[tokio::test]
async fn python_waits_for_our_load_and_reads_our_entry() {
    for scope in [APP, None] {
        let world = World::with(Row::new("tok-1"));
        let mut python = world.python(Version::Current);
        let (rust, points) = world.held();
        let fill = points.at(SyncPoint::BeforeFill);
        fill.close();
        let cache = rust.clone();
        let slow = tokio::spawn(async move { crate::common::ask_in(&cache, TOKEN, scope).await });
        fill.reached(1).await;
        world.redis.reset_stats();
        python.start_fetch(TOKEN, scope);
        // Python retries to take the lock.
        until(|| world.redis.command_count("set") >= 2).await;
        assert_eq!(python.has_said(), None);
        fill.open();
        slow.await.unwrap().unwrap();
        let answer = python.end().expect("no load of its own");
        assert_eq!(answer["id"], "tok-1");
        assert_eq!(world.database.loads(), 1);
    }
}

#[tokio::test]
async fn our_null_makes_a_waiting_python_query_its_database() {
    let world = World::new();
    let mut python = world.python(Version::Current);
    let (rust, points) = world.held();
    let fill = points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&rust, TOKEN);
    fill.reached(1).await;
    world.redis.reset_stats();
    python.start_fetch(TOKEN, APP);
    until(|| world.redis.command_count("set") >= 2).await;
    fill.open();
    slow.await.unwrap().unwrap();
    // Python treats a null as a miss.
    python.query();
    python.answer(&Value::Null);
    assert!(python.end().unwrap().is_null());
    assert!(is_absent(&rust, TOKEN).await);
    assert_eq!(world.database.loads(), 1);
}

#[tokio::test]
async fn lock_without_a_type_is_the_same_on_both_sides() {
    let world = World::with(Row::new("tok-1"));
    let (rust, mut python) = (world.rust(), world.python(Version::Current));
    python.start_fetch(TOKEN, None);
    python.query();
    assert_eq!(
        world.redis.keys("api_token_query_lock:*"),
        [format!("api_token_query_lock:None:{TOKEN}")]
    );
    world.redis.reset_stats();
    let waiting = tokio::spawn(async move { rust.authenticate(TOKEN).await });
    until(|| world.redis.command_count("eval") >= 2).await;
    python.answer(&record("py-1", TOKEN));
    python.end().unwrap();
    let token = waiting.await.unwrap().unwrap().valid().unwrap();
    assert_eq!((token.id(), world.database.loads()), ("py-1", 0));
}

#[tokio::test]
async fn lock_of_a_dead_python_delays_us_for_a_bounded_time() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::Current);
    python.start_fetch(TOKEN, APP);
    python.query();
    drop(python);
    assert!(world.text(LOCK).is_some());
    // We wait for the other's load for a second longer than the timeout of our own.
    let rust = world.builder().load_timeout(Duration::from_millis(100));
    let rust = rust.local_capacity(0).build().unwrap();
    assert_eq!(found(&rust, TOKEN).await.id(), "tok-1");
    assert_eq!(
        world.text(crate::common::ENTRY),
        None,
        "it is answered, not cached"
    );
}

#[tokio::test]
async fn our_failed_load_returns_the_lock_to_python() {
    let world = World::new();
    let mut python = world.python(Version::Current);
    // The load times out.
    world.database.gate.close();
    let rust = world.builder().load_timeout(Duration::from_millis(50));
    let rust = rust.local_capacity(0).build().unwrap();
    assert!(crate::common::ask(&rust, TOKEN).await.is_err());
    assert_eq!(
        (world.text(LOCK), world.text(crate::common::ENTRY)),
        (None, None)
    );
    python.fetch_loaded(TOKEN, APP, &record("py-1", TOKEN));
}
