//! Invalidations of a tenant, by both sides.

use crate::common::{APP, ENTRY, TOKEN, World, found, is_absent, record, record_of, start};
use fleet::interop::database::Row;
use fleet::interop::python::Version;
use tower_api_token::test_util::SyncPoint;

const INDEX: &str = "tenant_tokens:t-1";

#[tokio::test]
async fn ours_reaches_entries_with_and_without_an_index() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    let rust = world.rust();
    let (mut first, mut current) = (world.python(Version::First), world.python(Version::Current));
    found(&rust, TOKEN).await;
    current.set(APP, &record_of("py-1", "indexed", "t-1"));
    first.set(APP, &record_of("py-2", "in-no-index", "t-1"));
    first.set(None, &record_of("py-3", "in-no-index", "t-1"));
    current.set(APP, &record_of("py-4", "of-another", "t-10"));
    first.set(APP, &record_of("py-5", "of-another-too", "t-2"));
    current.set(APP, &record("py-6", "of-none"));
    current.set_null("unknown", APP);
    rust.invalidate_tenant("t-1").await.unwrap();
    for python in [&mut first, &mut current] {
        assert_eq!(python.get(TOKEN, APP).why, "missing");
        assert_eq!(python.get("indexed", APP).why, "missing");
        assert_eq!(python.get("in-no-index", APP).why, "missing");
        assert_eq!(python.get("in-no-index", None).why, "missing");
        assert_eq!(python.get("of-another", APP).why, "record");
        assert_eq!(python.get("of-another-too", APP).why, "record");
        assert_eq!(python.get("of-none", APP).why, "record");
        assert_eq!(python.get("unknown", APP).why, "null");
    }
    assert!(world.redis.keys(INDEX).is_empty());
    assert_eq!(
        world.members("tenant_tokens:t-10"),
        ["api_token:app:of-another"]
    );
}

#[tokio::test]
async fn later_pythons_reach_our_entries_by_the_index() {
    for version in [Version::Second, Version::Current] {
        let world = World::with(Row::new("tok-1").of_tenant("t-1"));
        world
            .database
            .commit("of-another", Row::new("tok-2").of_tenant("t-2"));
        let (rust, mut python) = (world.rust(), world.python(version));
        found(&rust, TOKEN).await;
        rust.authenticate(TOKEN).await.unwrap();
        found(&rust, "of-another").await;
        world.database.revoke(TOKEN);
        world.database.revoke("of-another");
        python.invalidate_tenant("t-1");
        assert!(is_absent(&rust, TOKEN).await);
        let elsewhere = rust.authenticate(TOKEN).await.unwrap();
        assert!(elsewhere.valid().is_none());
        assert_eq!(found(&rust, "of-another").await.id(), "tok-2");
    }
}

#[tokio::test]
async fn second_pythons_scan_reaches_our_unindexed_entries() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    world
        .database
        .commit("of-another", Row::new("tok-2").of_tenant("t-2"));
    let mut python = world.python(Version::Second);
    let rust = world.rust();
    found(&rust, TOKEN).await;
    found(&rust, "of-another").await;
    assert!(is_absent(&rust, "unknown").await);
    world.redis.command(&["DEL", INDEX]).int();
    // Our lease is not JSON, so it is skipped, and the entry after it is found.
    let lease = "L10123456789abcdef0123456789abcdef";
    world.redis.command(&["SET", "api_token:app:a", lease]).ok();
    world.database.revoke(TOKEN);
    python.invalidate_tenant("t-1");
    assert!(is_absent(&rust, TOKEN).await);
    assert_eq!(found(&rust, "of-another").await.id(), "tok-2");
    assert_eq!(world.text("api_token:app:a").as_deref(), Some(lease));
}

#[tokio::test]
async fn weaker_with_an_index_the_second_python_does_not_scan() {
    let world = World::new();
    let rust = world.rust();
    let (mut first, mut second) = (world.python(Version::First), world.python(Version::Second));
    first.set(APP, &record_of("py-1", TOKEN, "t-1"));
    second.set(APP, &record_of("py-2", "indexed", "t-1"));
    second.invalidate_tenant("t-1");
    assert_eq!(found(&rust, TOKEN).await.id(), "py-1");
    // The index was deleted with its entries, so the next invalidation scans.
    second.invalidate_tenant("t-1");
    assert!(is_absent(&rust, TOKEN).await);
}

#[tokio::test]
async fn first_pythons_deletion_of_everything_only_costs_loads() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    world
        .database
        .commit("of-another", Row::new("tok-2").of_tenant("t-2"));
    let (rust, mut python) = (world.rust(), world.python(Version::First));
    for token in [TOKEN, "of-another"] {
        found(&rust, token).await;
        world.use_token(token, crate::common::APP).await;
    }
    assert!(is_absent(&rust, "unknown").await);
    let ours = || world.redis.keys("api_token~*");
    let before = ours();
    assert!(!before.is_empty());
    world.database.revoke(TOKEN);
    python.invalidate_tenant("t-1");
    assert!(world.redis.keys("api_token:*").is_empty());
    assert_eq!(ours(), before, "what is ours alone is outside its pattern");
    assert!(is_absent(&rust, TOKEN).await);
    assert_eq!(found(&rust, "of-another").await.id(), "tok-2");
    assert_eq!(world.database.loads(), 5);
    let used = rust.last_used_at(TOKEN).await.unwrap();
    assert!(used.is_some());
    // Our later invalidations are confirmed as before.
    rust.invalidate(TOKEN).await.unwrap();
    rust.invalidate_tenant("t-2").await.unwrap();
}

#[tokio::test]
async fn first_pythons_deletes_our_lease_and_rejects_our_fill() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    let mut python = world.python(Version::First);
    let (rust, points) = world.held();
    let fill = points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&rust, TOKEN);
    fill.reached(1).await;
    world.database.revoke(TOKEN);
    python.invalidate_tenant("t-1");
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!((world.text(ENTRY), rust.stats().fills_refused), (None, 1));
    assert!(is_absent(&rust, TOKEN).await);
}

#[tokio::test]
async fn current_pythons_deletes_our_lease_by_the_index() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    let mut python = world.python(Version::Current);
    let (rust, points) = world.held();
    let fill = points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&rust, TOKEN);
    fill.reached(1).await;
    assert_eq!(world.members(INDEX), [ENTRY]);
    world.database.revoke(TOKEN);
    python.invalidate_tenant("t-1");
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!((world.text(ENTRY), rust.stats().fills_refused), (None, 1));
    assert!(is_absent(&rust, TOKEN).await);
}

#[tokio::test]
async fn not_promised_our_unindexed_load_outlives_current_pythons() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    let mut python = world.python(Version::Current);
    let (rust, points) = world.held();
    let loaded = points.at(SyncPoint::Loaded);
    loaded.close();
    let slow = start(&rust, TOKEN);
    loaded.reached(1).await;
    world.database.revoke(TOKEN);
    python.invalidate_tenant("t-1");
    loaded.open();
    slow.await.unwrap().unwrap();
    assert_eq!(found(&rust, TOKEN).await.id(), "tok-1");
    // Our invalidation also reaches what Python's missed.
    rust.invalidate_tenant("t-1").await.unwrap();
    assert!(is_absent(&rust, TOKEN).await);
}

#[tokio::test]
async fn weaker_current_pythons_misses_entries_of_the_first() {
    let world = World::new();
    let rust = world.rust();
    let (mut first, mut current) = (world.python(Version::First), world.python(Version::Current));
    first.set(APP, &record_of("py-1", TOKEN, "t-1"));
    current.invalidate_tenant("t-1");
    assert_eq!(found(&rust, TOKEN).await.id(), "py-1");
    rust.invalidate_tenant("t-1").await.unwrap();
    assert!(is_absent(&rust, TOKEN).await);
}

#[tokio::test]
async fn denial_of_a_suspended_tenant_is_not_in_redis() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1").of_tenant("t-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        world.database.suspend("t-1");
        let answer = crate::common::ask(&rust, TOKEN).await.unwrap();
        assert!(matches!(answer, tower_api_token::Answer::Denied(_)));
        assert_eq!(python.get(TOKEN, APP).why, "missing");
        assert!(world.redis.keys("api_token_query_lock:*").is_empty());
    }
}
