//! Loads of one side during a deletion or a write by the other.

use crate::common::{
    APP, ENTRY, LOCK, TOKEN, World, found, found_shared, is_absent, record, start,
};
use fleet::interop::database::Row;
use fleet::interop::python::{Python, Version};
use test_support::Gate;
use tower_api_token::ApiTokenCache;
use tower_api_token::test_util::SyncPoint;

/// Starts one of our loads, which has read the row and is paused before its fill.
async fn held(world: &World) -> (ApiTokenCache, Gate, crate::common::Answering) {
    let (rust, points) = world.held();
    let fill = points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&rust, TOKEN);
    fill.reached(1).await;
    (rust, fill, slow)
}

#[tokio::test]
async fn our_lease_is_a_miss_for_python() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (_rust, fill, slow) = held(&world).await;
        assert!(world.text(ENTRY).unwrap().starts_with("L1"));
        let seen = world.python(version).get(TOKEN, APP);
        assert_eq!((seen.record, &*seen.why), (None, "undecodable"));
        fill.open();
        slow.await.unwrap().unwrap();
        assert_eq!(world.python(version).get(TOKEN, APP).why, "record");
    }
}

#[tokio::test]
async fn pythons_deletion_between_load_and_fill_rejects_the_fill() {
    let deletions: [fn(&mut Python); 2] = [
        |python| python.delete(TOKEN, "app"),
        |python| python.delete_all_scopes(TOKEN),
    ];
    for version in Version::ALL {
        for delete in deletions {
            let world = World::with(Row::new("tok-1"));
            let (rust, fill, slow) = held(&world).await;
            world.database.revoke(TOKEN);
            delete(&mut world.python(version));
            fill.open();
            slow.await.unwrap().unwrap();
            assert_eq!((world.text(ENTRY), rust.stats().fills_refused), (None, 1));
            assert_eq!(world.text(LOCK), None, "the lock is given back");
            assert!(is_absent(&rust, TOKEN).await);
        }
    }
}

#[tokio::test]
async fn request_after_pythons_deletion_does_not_join_an_older_load() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, fill, slow) = held(&world).await;
        world.database.revoke(TOKEN);
        world.python(version).delete(TOKEN, "app");
        let later = start(&rust, TOKEN);
        tokio::task::yield_now().await;
        fill.open();
        assert!(slow.await.unwrap().unwrap().valid().is_some());
        assert!(later.await.unwrap().unwrap().valid().is_none());
    }
}

#[tokio::test]
async fn pythons_write_over_our_lease_stays_and_rejects_our_fill() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, fill, slow) = held(&world).await;
        world.python(version).set(APP, &record("py-1", TOKEN));
        fill.open();
        slow.await.unwrap().unwrap();
        assert_eq!(rust.stats().fills_refused, 1);
        assert_eq!(found_shared(&rust, TOKEN).await.id(), "py-1");
    }
}

#[tokio::test]
async fn first_python_takes_no_lock_and_its_write_stays() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::First);
    let (rust, fill, slow) = held(&world).await;
    python.fetch_loaded(TOKEN, APP, &record("py-1", TOKEN));
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!(found_shared(&rust, TOKEN).await.id(), "py-1");
}

#[tokio::test]
async fn weaker_pythons_unfenced_write_revives_a_revoked_token() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        python.start_fetch(TOKEN, APP);
        python.query();
        let old = world.database.for_python(TOKEN);
        world.database.revoke(TOKEN);
        rust.invalidate(TOKEN)
            .wait_for_all_instances()
            .await
            .unwrap();
        python.answer(&old);
        python.end().unwrap();
        assert_eq!(found_shared(&rust, TOKEN).await.id(), "tok-1");
        rust.invalidate(TOKEN).await.unwrap();
        assert!(is_absent(&rust, TOKEN).await);
    }
}

#[tokio::test]
async fn our_invalidation_takes_effect_for_python() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        python.fetch_loaded(TOKEN, APP, &world.database.for_python(TOKEN));
        found(&rust, TOKEN).await;
        world.database.revoke(TOKEN);
        rust.invalidate(TOKEN).await.unwrap();
        let now = world.database.for_python(TOKEN);
        assert!(python.fetch_loaded(TOKEN, APP, &now).is_null());
    }
}
