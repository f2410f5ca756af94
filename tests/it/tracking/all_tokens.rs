//! The invalidation of everything, seen by instances that are tracked.

use super::world::{BOUND, TENANT, TOKEN, World};
use crate::common::{Row, found, is_invalid};
use tower_api_token::Origin;

const OTHER: &str = "app-fedcba9876543210";

#[tokio::test]
async fn it_is_seen_at_once_by_another_instance() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let (one, two) = (world.instance().await, world.instance().await);
        for version in 0..5 {
            assert_eq!(*found(&two, TOKEN).await.metadata(), version);
            assert_eq!(found(&two, TOKEN).await.origin(), Origin::Local);
            two.advance(BOUND).await;
            assert_eq!(found(&two, TOKEN).await.origin(), Origin::Local);
            world.db.change(TOKEN, |_| {});
            one.invalidate_all().await.unwrap();
            two.catch_up().await;
        }
    }
}

/// Whatever happens to tokens and tenants, everything else stays watched.
#[tokio::test]
async fn no_other_invalidation_ends_its_watch() {
    let Some(world) = World::new(None) else {
        return;
    };
    world.db.insert(OTHER, Row::new("app").of_tenant(TENANT));
    let (one, two) = (world.instance().await, world.instance().await);
    for token in [TOKEN, OTHER] {
        found(&two, token).await;
    }
    let generation = "GET api_token:tokens";
    let reads = two.proxy.received(generation);
    for _ in 0..20 {
        one.invalidate_tenant(TENANT).await.unwrap();
        one.invalidate(OTHER).await.unwrap();
        two.advance(BOUND).await;
        found(&two, OTHER).await;
        assert_eq!(found(&two, TOKEN).await.origin(), Origin::Local);
    }
    // Only with the leases of the loads, where it is not watched.
    let with_leases = 20;
    assert!(two.proxy.received(generation) <= reads + with_leases);
}

/// The push for it is lost with its connection.
#[tokio::test]
async fn during_a_reconnect_it_is_seen_within_the_bound() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let (one, two) = (world.instance().await, world.instance().await);
        found(&two, TOKEN).await;
        assert_eq!(found(&two, TOKEN).await.origin(), Origin::Local);
        two.proxy.hold("");
        world.db.change(TOKEN, |_| {});
        one.invalidate_all().await.unwrap();
        two.proxy.forward();
        two.reconnects().await;
        // What is read over the next connection proves nothing of before.
        assert!(is_invalid(&two, "app-unknown").await);
        two.advance(BOUND).await;
        assert_eq!(*found(&two, TOKEN).await.metadata(), 1);
    }
}
