//! Tests of generations, and of the epoch, on every store.

use super::backend::Deletion;
use super::conformance::{AnyStore, LEASE, each, key};
use super::entry::{Generation, Group, Nonce};

async fn of(store: &AnyStore, group: &Group, fresh: Generation) -> Generation {
    store.generation(group, fresh).await.unwrap().generation
}

#[tokio::test]
async fn a_tenants_generation_lasts_until_the_tenant_is_invalidated() {
    each(async |store| {
        let (a, b, none) = (Generation::new(), Generation::new(), Generation::new());
        let (t, u) = (Group::tenant("t"), Group::tenant("u"));
        assert_eq!(of(&store, &t, a).await, a);
        assert_eq!(of(&store, &t, b).await, a);
        assert_eq!(of(&store, &u, b).await, b);
        let tenant = Deletion::Tenant("t");
        store.delete(tenant, false, None).await.unwrap();
        assert_eq!(of(&store, &t, none).await, none);
        assert_eq!(of(&store, &u, none).await, b);
    })
    .await;
}

#[tokio::test]
async fn the_generation_of_all_lasts_until_all_is_invalidated() {
    each(async |store| {
        let acquired = async |token| {
            let acquired = store.acquire(&key(token), None, Nonce::new(), LEASE).await;
            acquired.unwrap().all
        };
        let (a, b, c) = (Generation::new(), Generation::new(), Generation::new());
        let (all, tenant) = (Group::All, Group::tenant("tokens"));
        assert_eq!(acquired("a").await, None);
        assert_eq!(of(&store, &all, a).await, a);
        assert_eq!(
            (of(&store, &all, b).await, acquired("b").await),
            (a, Some(a))
        );
        // No tenant's name makes its generation this one.
        assert_eq!(of(&store, &tenant, b).await, b);
        let one = Deletion::Tenant("tokens");
        store.delete(one, false, None).await.unwrap();
        assert_eq!(of(&store, &all, c).await, a);
        assert_eq!(of(&store, &tenant, b).await, b);
        store.delete(Deletion::All, false, None).await.unwrap();
        assert_eq!((acquired("c").await, of(&store, &all, c).await), (None, c));
        assert_eq!(of(&store, &tenant, c).await, b);
    })
    .await;
}

#[tokio::test]
async fn an_acquire_reads_the_epoch_which_any_tenants_invalidation_deletes() {
    each(async |store| {
        let missing = store
            .acquire(&key("a"), None, Nonce::new(), LEASE)
            .await
            .unwrap()
            .epoch;
        assert_eq!(missing, None);
        let epoch = Generation::new();
        assert_eq!(store.epoch(epoch).await.unwrap(), epoch);
        assert_eq!(store.epoch(Generation::new()).await.unwrap(), epoch);
        let read = store
            .acquire(&key("b"), None, Nonce::new(), LEASE)
            .await
            .unwrap()
            .epoch;
        assert_eq!(read, Some(epoch));
        let tenant = Generation::new();
        let key = key("a");
        let read = store.tenant_then_epoch(&key, "t", tenant).await.unwrap();
        assert_eq!((read.0.generation, read.1), (tenant, Some(epoch)));
        store
            .delete(Deletion::Tenant("any other"), false, None)
            .await
            .unwrap();
        let fresh = Generation::new();
        let read = store.tenant_then_epoch(&key, "t", fresh).await.unwrap();
        assert_eq!((read.0.generation, read.1), (tenant, None));
    })
    .await;
}
