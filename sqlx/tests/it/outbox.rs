//! The outbox: what is committed and not confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use test_support::RedisServer;
use tower_api_token::test_util::ManualClock;
use tower_api_token::{ApiTokenCache, RedisStore};
use tower_api_token_sqlx::{ApiKeys, ChangeError, UnconfirmedCause};

use crate::world::{World, answer, eventually, issue};

crate::on_both!(
    revocation_while_redis_is_down_is_confirmed_when_it_is_back,
    outbox_is_worked_at_once_when_redis_is_back_after_an_hour,
    two_instances_work_one_outbox,
    confirming_an_older_invalidation_keeps_the_newer_one,
    failed_invalidation_is_sorted_behind_the_others,
    row_that_cannot_be_read_does_not_block_the_others,
    panic_in_the_services_code_ends_one_round_and_not_all,
    round_works_more_rows_than_it_reads_at_once,
);

fn cache(keys: &ApiKeys, redis: &RedisServer) -> ApiTokenCache {
    let store = RedisStore::new(&redis.url()).unwrap();
    keys.cache().store(store).build().unwrap()
}

async fn revocation_while_redis_is_down_is_confirmed_when_it_is_back(world: World) {
    let redis = RedisServer::start();
    let keys = world.keys().await;
    let cache = cache(&keys, &redis);
    let issued = issue(&keys).await;
    assert_eq!(answer(&cache, &issued.token).await, "valid");

    redis.kill();
    for _ in 0..2 {
        let error = keys.revoke(&issued.key.id).await.unwrap_err();
        let ChangeError::Unconfirmed(unconfirmed) = error else {
            panic!("{error}");
        };
        let cause = matches!(unconfirmed.cause, UnconfirmedCause::Invalidation(_));
        assert!(cause && unconfirmed.value.revoked_at.is_some());
        assert_eq!(keys.pending_count().await.unwrap(), 1, "one row a subject");
    }
    // A new key needs no Redis.
    issue(&keys).await;
    redis.restart();
    eventually("the outbox is empty", async || {
        keys.pending_count().await.unwrap() == 0
    })
    .await;
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
}

/// The pauses grow to 8 s. Without the probe, the old answer would stay in the store for as long.
async fn outbox_is_worked_at_once_when_redis_is_back_after_an_hour(world: World) {
    let redis = RedisServer::start();
    let clock = ManualClock::new();
    let builder = world.builder().await.clock(clock.clone());
    let keys = builder.build().await.unwrap();
    let cache = cache(&keys, &redis);
    let issued = issue(&keys).await;
    redis.kill();
    keys.revoke(&issued.key.id).await.unwrap_err();
    // The task sleeps twice: until the end of its pause, and until the next probe.
    let sleeps_after = async |attempts| {
        eventually("another attempt failed, and the task sleeps", async || {
            let pending = keys.pending(10).await.unwrap();
            pending.len() == 1 && pending[0].attempts >= attempts && clock.sleepers() == 2
        })
        .await;
    };
    for minutes in 1..=10 {
        sleeps_after(minutes).await;
        clock.advance(Duration::from_secs(360));
    }
    sleeps_after(11).await;

    redis.restart();
    eventually("the store answers", async || {
        cache.check_store().await.is_ok()
    })
    .await;
    clock.advance(Duration::from_millis(250));
    eventually("the revocation is confirmed", async || {
        keys.pending_count().await.unwrap() == 0
    })
    .await;
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
}

async fn two_instances_work_one_outbox(world: World) {
    let redis = RedisServer::start();
    let instances = [world.keys().await, world.keys().await];
    let caches = [0, 1].map(|one| cache(&instances[one], &redis));
    // What a third process committed and did not confirm.
    let third = world.keys().await;
    let mut issued = Vec::new();
    for _ in 0..40 {
        let key = issue(&third).await;
        assert_eq!(answer(&caches[0], &key.token).await, "valid");
        issued.push(key);
    }
    for key in &issued {
        third.revoke(&key.key.id).await.unwrap_err();
    }
    eventually("the outbox is empty", async || {
        third.pending_count().await.unwrap() == 0
    })
    .await;
    for key in &issued {
        assert_eq!(answer(&caches[0], &key.token).await, "invalid");
    }
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    for key in &issued {
        assert_eq!(answer(&caches[1], &key.token).await, "invalid");
    }
}

async fn confirming_an_older_invalidation_keeps_the_newer_one(world: World) {
    let redis = RedisServer::start();
    let quiet = world.builder().await.outbox_interval(None);
    let keys = quiet.build().await.unwrap();
    let _cache = cache(&keys, &redis);
    let issued = issue(&keys).await;
    redis.kill();
    // An older change, whose confirmation takes long.
    let older = keys.rotate(&issued.key.id, Duration::from_secs(60));
    let older = older.retry_for(Duration::from_secs(60)).into_future();
    let older = tokio::spawn(older);
    eventually("it is committed", async || {
        keys.pending_count().await.unwrap() == 1
    })
    .await;
    let before = keys.pending(1).await.unwrap().remove(0);
    // A newer change of the same key, by a process that cannot confirm it.
    let other = world.keys().await;
    other.revoke(&issued.key.id).await.unwrap_err();
    redis.restart();
    older.await.unwrap().unwrap();
    let left = keys.pending(10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].subject, before.subject);
    assert_ne!(left[0].id, before.id);
}

async fn failed_invalidation_is_sorted_behind_the_others(world: World) {
    let keys = world.keys().await;
    let (first, second) = (issue(&keys).await, issue(&keys).await);
    for key in [&first, &second] {
        keys.revoke(&key.key.id).await.unwrap_err();
    }
    let subjects = async || {
        let pending = keys.pending(10).await.unwrap();
        pending.into_iter().map(|it| it.subject).collect::<Vec<_>>()
    };
    let before = subjects().await;
    keys.work_outbox().await.unwrap_err();
    let after = subjects().await;
    assert_eq!((&after[0], &after[1]), (&before[1], &before[0]));
}

async fn row_that_cannot_be_read_does_not_block_the_others(world: World) {
    let keys = world.keys().await;
    let time = match &world {
        World::Sqlite(_) => "1",
        World::Postgres(..) => "now()",
    };
    let insert = format!(
        "INSERT INTO ~outbox (id, kind, subject, created_at) VALUES ('inv_0', 'key', 'not a digest', {time})"
    );
    world.execute(&insert).await;
    let issued = issue(&keys).await;
    let cache = keys.cache().build().unwrap();
    keys.revoke(&issued.key.id).await.unwrap();
    keys.work_outbox().await.unwrap();
    assert_eq!(keys.pending_count().await.unwrap(), 1);
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
}

async fn panic_in_the_services_code_ends_one_round_and_not_all(world: World) {
    let writer = world.keys().await;
    let issued = issue(&writer).await;
    writer.revoke(&issued.key.id).await.unwrap_err();

    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let builder = world.builder().await.texts(move |_| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            assert!(!first, "the service's code panics");
            Ok(None)
        }
    });
    let interval = Duration::from_millis(10);
    let keys = builder.outbox_interval(interval).build().await.unwrap();
    let _cache = keys.cache().build().unwrap();
    eventually("the outbox is empty", async || {
        keys.pending_count().await.unwrap() == 0
    })
    .await;
    assert!(asked.load(Ordering::SeqCst) >= 2);
}

async fn round_works_more_rows_than_it_reads_at_once(world: World) {
    let keys = world.builder().await.outbox_interval(None);
    let keys = keys.build().await.unwrap();
    let _cache = keys.cache().build().unwrap();
    let insert = match &world {
        World::Sqlite(_) => {
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200) \
             INSERT INTO ~outbox (id, kind, subject, created_at) SELECT n, 'tenant', n, n FROM n"
        }
        World::Postgres(..) => {
            "INSERT INTO ~outbox (id, kind, subject, created_at) \
             SELECT n, 'tenant', n, now() FROM generate_series(1, 200) AS n"
        }
    };
    assert_eq!(world.execute(insert).await, 200);
    assert_eq!(keys.work_outbox().await.unwrap(), 200);
}
