//! The background task: when it begins and ends, and which processes confirm.

use std::sync::Arc;
use std::time::Duration;

use test_support::RedisServer;
use tower_api_token::test_util::ManualClock;
use tower_api_token::{ApiTokenCache, BearerToken, BoxError, RedisStore};
use tower_api_token_sqlx::{ApiKeys, AuditQuery, ChangeError, Error, UnconfirmedCause};

use crate::world::{World, answer, eventually, issue};

crate::on_both!(
    cache_in_memory_does_not_confirm_what_a_shared_store_holds,
    pending_invalidation_is_discarded_with_an_audit_row,
    outbox_waits_for_its_replicas,
    task_ends_with_the_last_cache_that_is_unbound,
    shutdown_ends_a_round,
    change_after_a_shutdown_does_not_begin_the_task_again,
);

fn redis_cache(keys: &ApiKeys, redis: &RedisServer) -> ApiTokenCache {
    let store = RedisStore::new(&redis.url()).unwrap();
    keys.cache().store(store).build().unwrap()
}

async fn is_empty(keys: &ApiKeys) -> bool {
    keys.pending_count().await.unwrap() == 0
}

async fn cache_in_memory_does_not_confirm_what_a_shared_store_holds(world: World) {
    let redis = RedisServer::start();
    let quiet = async || {
        let builder = world.builder().await.outbox_interval(None);
        builder.build().await.unwrap()
    };
    let service = quiet().await;
    let cache = redis_cache(&service, &redis);
    let issued = issue(&service).await;
    assert_eq!(answer(&cache, &issued.token).await, "valid");

    let job = quiet().await;
    let _memory = job.cache().build().unwrap();
    let error = job.revoke(&issued.key.id).await.unwrap_err();
    let ChangeError::Unconfirmed(unconfirmed) = error else {
        panic!("{error}");
    };
    let cause = unconfirmed.cause;
    assert!(matches!(cause, UnconfirmedCause::OtherStore(_)), "{cause}");
    job.work_outbox().await.unwrap_err();
    assert_eq!(job.pending_count().await.unwrap(), 1);
    // A random text is in no store.
    issue(&job).await;

    assert_eq!(service.work_outbox().await.unwrap(), 1);
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
}

async fn pending_invalidation_is_discarded_with_an_audit_row(world: World) {
    let keys = world.keys().await;
    let issued = issue(&keys).await;
    keys.revoke(&issued.key.id).await.unwrap_err();
    let id = keys.pending(10).await.unwrap().remove(0).id;
    keys.discard_pending(&id).by("alice").await.unwrap();
    assert!(is_empty(&keys).await);
    let last = keys.audit(AuditQuery::new()).await.unwrap().pop().unwrap();
    assert_eq!(last.action, "invalidation_discarded");
    assert_eq!(last.actor.as_deref(), Some("alice"));
    assert_eq!(last.detail, Some(format!("key {}", issued.key.digest)));
    let again = keys.discard_pending(&id).await.unwrap_err();
    assert!(matches!(again, ChangeError::Failed(Error::NotPending)));
    assert!(keys.pending(0).await.is_err() && keys.pending(10_001).await.is_err());
}

async fn outbox_waits_for_its_replicas(world: World) {
    let redis = RedisServer::start();
    let job = world.keys().await;
    let issued = issue(&job).await;
    job.revoke(&issued.key.id).await.unwrap_err();
    let builder = world.builder().await.outbox_interval(None);
    let keys = builder.outbox_replicas(1).build().await.unwrap();
    let _cache = redis_cache(&keys, &redis);
    keys.work_outbox().await.unwrap_err();
    assert_eq!(keys.pending_count().await.unwrap(), 1);
}

async fn task_ends_with_the_last_cache_that_is_unbound(world: World) {
    let clock = ManualClock::new();
    let builder = world.builder().await.clock(clock.clone());
    let keys = builder.build().await.unwrap();
    let caches = [0, 1].map(|_| keys.cache().build().unwrap());
    let issued = issue(&keys).await;
    keys.unbind(&caches[0]);
    eventually("the task sleeps", async || clock.sleepers() == 1).await;
    assert_eq!(answer(&caches[0], &issued.token).await, "valid");
    assert_eq!(answer(&caches[1], &issued.token).await, "valid");
    keys.revoke(&issued.key.id).await.unwrap();
    assert_eq!(answer(&caches[1], &issued.token).await, "invalid");
    assert_eq!(answer(&caches[0], &issued.token).await, "valid");

    keys.unbind(&caches[1]);
    eventually("the task has ended", async || clock.sleepers() == 0).await;
    let error = keys.revoke(&issued.key.id).await.unwrap_err();
    assert!(
        matches!(error, ChangeError::Unconfirmed(it) if matches!(it.cause, UnconfirmedCause::NoCache))
    );
    keys.bind(&caches[0]);
    eventually("the outbox is empty", async || is_empty(&keys).await).await;
}

async fn shutdown_ends_a_round(world: World) {
    let job = world.keys().await;
    let issued = issue(&job).await;
    job.revoke(&issued.key.id).await.unwrap_err();

    let asked = Arc::new(());
    let counted = Arc::clone(&asked);
    // The clock stands still, so that the text is asked for without end.
    let builder = world.builder().await.clock(ManualClock::new());
    let builder = builder.texts(move |_| {
        let held = Arc::clone(&counted);
        async move {
            let _held = held;
            std::future::pending::<Result<Option<BearerToken>, BoxError>>().await
        }
    });
    let keys = builder.build().await.unwrap();
    let _cache = keys.cache().build().unwrap();
    let holders = || Arc::strong_count(&asked);
    eventually("the text is asked for", async || holders() == 3).await;
    keys.shutdown().await;
    eventually("the round has ended", async || holders() == 2).await;
}

async fn change_after_a_shutdown_does_not_begin_the_task_again(world: World) {
    let job = world.keys().await;
    let left = issue(&job).await;
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    keys.shutdown().await;
    job.revoke(&left.key.id).await.unwrap_err();
    // The task would begin with what is pending.
    for _ in 0..5 {
        let issued = issue(&keys).await;
        keys.revoke(&issued.key.id).await.unwrap();
    }
    assert!(!is_empty(&keys).await);
}

/// SQLite, whose connections are not bound to a runtime.
#[test]
fn task_whose_runtime_has_ended_is_started_again_by_the_next_change() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let world = World::sqlite();
    let first = runtime();
    let (keys, cache) = first.block_on(async {
        let builder = world.builder().await;
        let interval = Duration::from_millis(10);
        let keys = builder.outbox_interval(interval).build().await.unwrap();
        let cache = keys.cache().build().unwrap();
        (keys, cache)
    });
    drop(first);
    runtime().block_on(async {
        let job = world.keys().await;
        let issued = issue(&job).await;
        job.revoke(&issued.key.id).await.unwrap_err();
        issue(&keys).await;
        eventually("the outbox is empty", async || is_empty(&job).await).await;
    });
    drop(cache);
}
