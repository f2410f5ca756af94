//! Deletions by Python take effect in our local level without an invalidation: within the maximum staleness, and at once
//! where Redis reports them.

use std::time::Duration;

use crate::common::{APP, TOKEN, World, found, is_absent, record_of, until};
use fleet::interop::database::{Row, patient};
use fleet::interop::python::{Python, Version};
use tower_api_token::store::KeyLayout;
use tower_api_token::test_util::ManualClock;
use tower_api_token::{ApiTokenCache, Origin};

const ALMOST: Duration = Duration::from_millis(999);
const REST: Duration = Duration::from_millis(1);

/// Each deletes the entry of [`TOKEN`].
const DELETIONS: [fn(&mut Python); 3] = [
    |python| python.delete(TOKEN, "app"),
    |python| python.delete_all_scopes(TOKEN),
    |python| python.invalidate_tenant("t-1"),
];

/// Creates an instance that hears of no deletion.
fn rust(world: &World) -> (ApiTokenCache, ManualClock) {
    tracked(world, false)
}

fn tracked(world: &World, tracking: bool) -> (ApiTokenCache, ManualClock) {
    let clock = ManualClock::new();
    let store = patient(&world.redis).key_layout(KeyLayout::dify());
    let builder = world.builder().store(store.client_tracking(tracking));
    let cache = builder.clock(clock.clone()).build().unwrap();
    (cache, clock)
}

#[tokio::test]
async fn entry_that_python_deletes_ends_at_once_with_client_tracking() {
    for version in Version::ALL {
        for delete in DELETIONS {
            let world = World::with(Row::new("tok-1").of_tenant("t-1"));
            let (rust, clock) = tracked(&world, true);
            rust.check_store().await.unwrap();
            until(|| rust.stats().client_tracking).await;
            found(&rust, TOKEN).await;
            clock.advance(Duration::from_millis(60));
            assert_eq!(found(&rust, TOKEN).await.origin(), Origin::Local);
            world.database.revoke(TOKEN);
            delete(&mut world.python(version));
            // The clock stands still.
            while !is_absent(&rust, TOKEN).await {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn entry_that_python_deletes_ends_with_the_bound() {
    for version in Version::ALL {
        for delete in DELETIONS {
            for pythons in [true, false] {
                let world = World::with(Row::new("tok-1").of_tenant("t-1"));
                let (rust, clock) = rust(&world);
                let mut python = world.python(version);
                if pythons {
                    python.set(APP, &record_of("py-1", TOKEN, "t-1"));
                }
                found(&rust, TOKEN).await;
                world.database.revoke(TOKEN);
                delete(&mut python);
                clock.advance(ALMOST);
                assert_eq!(found(&rust, TOKEN).await.origin(), Origin::Local);
                // Waits for the refresh that this has started.
                until(|| rust.in_flight() == 0).await;
                clock.advance(REST);
                assert!(is_absent(&rust, TOKEN).await);
            }
        }
    }
}

#[tokio::test]
async fn null_that_python_replaces_ends_with_the_bound() {
    for version in Version::ALL {
        let world = World::new();
        let (rust, clock) = rust(&world);
        let mut python = world.python(version);
        assert!(is_absent(&rust, TOKEN).await);
        python.fetch_loaded(TOKEN, APP, &record_of("py-1", TOKEN, "t-1"));
        clock.advance(Duration::from_millis(499));
        assert!(is_absent(&rust, TOKEN).await);
        clock.advance(Duration::from_millis(501));
        assert_eq!(found(&rust, TOKEN).await.id(), "py-1");
        assert_eq!(world.database.loads(), 1);
    }
}

#[tokio::test]
async fn our_invalidation_of_pythons_entry_is_immediate_here() {
    for version in Version::ALL {
        let world = World::new();
        let (rust, _clock) = rust(&world);
        world
            .python(version)
            .set(APP, &record_of("py-1", TOKEN, "t-1"));
        assert_eq!(found(&rust, TOKEN).await.id(), "py-1");
        rust.invalidate(TOKEN).await.unwrap();
        assert!(is_absent(&rust, TOKEN).await);
    }
}
