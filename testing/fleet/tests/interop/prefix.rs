//! Python's `REDIS_KEY_PREFIX` and its quirk: entries, locks and TTLs have the prefix, sets and scans do not.

use crate::common::{
    APP, ENTRY, LOCK, TOKEN, World, found, found_shared, is_absent, record, record_of, until,
};
use fleet::interop::database::Row;
use fleet::interop::python::{Python, Version};
use tower_api_token::ApiTokenCache;
use tower_api_token::store::KeyLayout;

const INDEX: &str = "tenant_tokens:t-1";

fn rust(world: &World) -> ApiTokenCache {
    let layout = KeyLayout::dify().key_prefix("prod");
    let builder = world
        .builder()
        .store(fleet::interop::database::patient(&world.redis).key_layout(layout))
        .local_capacity(0);
    builder.build().unwrap()
}

fn python(world: &World, version: Version) -> Python {
    Python::with_prefix(version, &world.redis, "prod")
}

#[tokio::test]
async fn entries_and_nulls_work_in_both_directions_with_a_prefix() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1").of_tenant("t-1"));
        let (rust, mut python) = (rust(&world), python(&world, version));
        found(&rust, TOKEN).await;
        assert_eq!(python.fetch_cached(TOKEN, APP)["id"], "tok-1");
        python.set(APP, &record("py-1", TOKEN));
        assert_eq!(found_shared(&rust, TOKEN).await.id(), "py-1");
        python.set_null(TOKEN, APP);
        assert!(is_absent(&rust, TOKEN).await);
        assert_eq!(
            world.redis.keys("*api_token:*"),
            [format!("prod:{ENTRY}")],
            "and nothing beside it"
        );
    }
}

#[tokio::test]
async fn keys_of_a_service_without_the_prefix_are_kept() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    let (ours, mut plain) = (rust(&world), world.python(Version::Current));
    plain.set(APP, &record_of("py-1", TOKEN, "t-9"));
    assert_eq!(found(&ours, TOKEN).await.id(), "tok-1");
    ours.invalidate(TOKEN).await.unwrap();
    ours.invalidate_tenant("t-9").await.unwrap();
    assert_eq!(plain.get(TOKEN, APP).why, "record");
}

#[tokio::test]
async fn deletions_of_a_type_take_effect_on_both_sides() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1").of_tenant("t-1"));
        let (rust, mut python) = (rust(&world), python(&world, version));
        found(&rust, TOKEN).await;
        world.database.revoke(TOKEN);
        python.delete(TOKEN, "app");
        assert!(is_absent(&rust, TOKEN).await);
        python.set(APP, &record("py-1", TOKEN));
        python.set(None, &record("py-1", TOKEN));
        rust.invalidate(TOKEN).of_type("app").await.unwrap();
        assert_eq!(python.get(TOKEN, APP).why, "missing");
        assert_eq!(python.get(TOKEN, None).why, "record");
        rust.invalidate(TOKEN).await.unwrap();
        assert_eq!(python.get(TOKEN, None).why, "missing");
    }
}

#[tokio::test]
async fn quirk_pythons_searches_find_nothing_with_a_prefix() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (rust(&world), python(&world, version));
        found(&rust, TOKEN).await;
        world.database.revoke(TOKEN);
        python.delete_all_scopes(TOKEN);
        assert_eq!(found(&rust, TOKEN).await.id(), "tok-1");
        if version != Version::Current {
            python.invalidate_tenant("t-1");
            assert_eq!(found(&rust, TOKEN).await.id(), "tok-1");
        }
        rust.invalidate(TOKEN).await.unwrap();
        assert!(is_absent(&rust, TOKEN).await);
    }
}

#[tokio::test]
async fn quirk_the_index_has_no_prefix_and_works_on_both_sides() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    let (rust, mut python) = (rust(&world), python(&world, Version::Current));
    found(&rust, TOKEN).await;
    assert_eq!(world.members(INDEX), [ENTRY]);
    world.database.revoke(TOKEN);
    python.invalidate_tenant("t-1");
    assert!(is_absent(&rust, TOKEN).await);
    assert_eq!(world.members(INDEX), [ENTRY], "its DEL has the prefix");
    python.set(APP, &record_of("py-1", "pythons-token", "t-1"));
    rust.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(python.get("pythons-token", APP).why, "missing");
}

#[tokio::test]
async fn lock_and_last_use_have_the_prefix() {
    let world = World::with(Row::new("tok-1"));
    let (rust, mut python) = (rust(&world), python(&world, Version::Current));
    python.start_fetch(TOKEN, APP);
    python.query();
    assert!(world.text(&format!("prod:{LOCK}")).is_some());
    world.redis.reset_stats();
    let waiting = crate::common::start(&rust, TOKEN);
    until(|| world.redis.command_count("eval") >= 2).await;
    python.answer(&record("py-1", TOKEN));
    python.end().unwrap();
    let token = waiting.await.unwrap().unwrap().valid().unwrap();
    assert_eq!((token.id(), world.database.loads()), ("py-1", 0));
    let at = crate::common::micros_after(6);
    python.record_use(TOKEN, APP, "2026-01-02T03:04:05.000006");
    let read = rust.last_used_at(TOKEN).await.unwrap();
    assert_eq!(read, Some(at));
}
