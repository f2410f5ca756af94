//! The times of last uses, which a job of each side writes to the database.

use crate::common::{APP, TOKEN, World, micros_after};
use fleet::interop::database::Row;
use fleet::interop::python::{Python, Version};
use serde_json::json;
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::store::KeyLayout;

#[tokio::test]
async fn each_side_reads_last_uses_of_the_other() {
    let world = World::with(Row::new("tok-1"));
    let (rust, mut python) = (world.rust(), world.python(Version::Current));
    for scope in [None, APP] {
        python.record_use(TOKEN, scope, "2026-01-02T03:04:05.000006");
        let read = rust.last_used_at(TOKEN).await.unwrap();
        assert_eq!(read, Some(micros_after(6)));
    }
    for scope in [APP, None] {
        world.use_token(TOKEN, scope).await;
        let read = python.read_use(TOKEN, scope).unwrap();
        assert!(read.as_str() > "2026-01-02T03:04:05.000006", "{read}");
    }
    assert_eq!(
        world.redis.keys("api_token_active*"),
        [
            format!("api_token_active:None:{TOKEN}"),
            format!("api_token_active:app:{TOKEN}"),
        ]
    );
}

#[tokio::test]
async fn last_uses_expire_after_an_hour_on_both_sides() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::Current);
    let name = format!("api_token_active:app:{TOKEN}");
    let left = || world.redis.command(&["TTL", &name]).int();
    python.record_use(TOKEN, APP, "2026-01-02T05:04:05+02:00");
    assert!((3590..=3600).contains(&left()));
    assert_eq!(world.text(&name).as_deref(), Some("2026-01-02T03:04:05"));
    world.redis.command(&["EXPIRE", &name, "100"]).int();
    world.use_token(TOKEN, APP).await;
    assert!((3590..=3600).contains(&left()));
}

#[tokio::test]
async fn later_use_by_python_is_not_overwritten() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::Current);
    let later = "2999-01-02T03:04:05.000006";
    python.record_use(TOKEN, APP, later);
    world.use_token(TOKEN, APP).await;
    assert_eq!(python.read_use(TOKEN, APP).as_deref(), Some(later));
}

#[tokio::test]
async fn last_uses_survive_deletions_of_entries() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1").of_tenant("t-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        world.use_token(TOKEN, APP).await;
        rust.invalidate(TOKEN).await.unwrap();
        rust.invalidate_tenant("t-1").await.unwrap();
        python.delete_all_scopes(TOKEN);
        python.invalidate_tenant("t-1");
        assert!(python.read_use(TOKEN, APP).is_some());
    }
}

#[tokio::test]
async fn newest_python_shows_the_later_of_two_last_uses() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::Current);
    world.use_token(TOKEN, APP).await;
    let ours = python.read_use(TOKEN, APP);
    let later = Some("2999-01-02T03:04:05".to_owned());
    for (persisted, shown) in [
        (None, &ours),
        (Some("2020-01-02T03:04:05"), &ours),
        (later.as_deref(), &later),
    ] {
        assert_eq!(&python.effective_use(TOKEN, APP, persisted), shown);
    }
}

#[tokio::test]
async fn pythons_flusher_writes_our_last_uses_to_the_database() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::Current);
    world.use_token(TOKEN, APP).await;
    let at = python.read_use(TOKEN, APP).unwrap();
    assert_eq!(python.flush_uses(), json!([[TOKEN, "app", at]]));
    assert_eq!(python.read_use(TOKEN, APP), None);
}

#[tokio::test]
async fn with_a_prefix_pythons_flusher_finds_no_last_uses() {
    let world = World::with(Row::new("tok-1"));
    let mut python = Python::with_prefix(Version::Current, &world.redis, "prod");
    let layout = KeyLayout::dify().key_prefix("prod");
    let builder = world
        .builder()
        .store(fleet::interop::database::patient(&world.redis).key_layout(layout));
    let rust = builder
        .last_use(LastUseRecorder::store_only())
        .build()
        .unwrap();
    rust.authenticate_typed(TOKEN, "app").await.unwrap();
    assert_eq!(rust.shutdown().await, 0);
    python.record_use("pythons-token", APP, "2026-01-02T03:04:05");
    assert_eq!(python.flush_uses(), json!([]));
    // They are in Redis, and the newest version shows them until they expire.
    assert!(python.effective_use(TOKEN, APP, None).is_some());
}
