//! Invalidations that fail, and what they must not keep from others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use test_support::RedisServer;
use tokio::task::JoinHandle;
use tower_api_token::test_util::ManualClock;
use tower_api_token::{BearerToken, BoxError, RedisStore, TokenDigest};
use tower_api_token_sqlx::{ApiKeys, ChangeError, Subject, UnconfirmedCause};

use crate::world::{World, answer, eventually, issue};

crate::on_both!(
    cache_that_fails_does_not_keep_a_revocation_from_the_others,
    text_of_another_digest_confirms_nothing,
    text_that_is_never_found_fails_the_invalidation,
    rows_that_never_succeed_do_not_delay_one_that_failed_once,
    store_that_is_away_fails_one_row_of_a_round,
);

fn cause<T>(error: ChangeError<T>) -> UnconfirmedCause {
    match error {
        ChangeError::Unconfirmed(unconfirmed) => unconfirmed.cause,
        other => panic!("{other}"),
    }
}

async fn cache_that_fails_does_not_keep_a_revocation_from_the_others(world: World) {
    let (away, there) = (RedisServer::start(), RedisServer::start());
    let builder = world.builder().await.outbox_interval(None);
    let keys = builder.build().await.unwrap();
    let [_first, second] = [&away, &there].map(|redis| {
        let store = RedisStore::new(&redis.url()).unwrap();
        keys.cache().store(store).build().unwrap()
    });
    let issued = [issue(&keys).await, issue(&keys).await];
    for key in &issued {
        assert_eq!(answer(&second, &key.token).await, "valid");
    }
    away.kill();
    let error = keys.revoke(&issued[0].key.id).await.unwrap_err();
    assert!(matches!(cause(error), UnconfirmedCause::Invalidation(_)));
    assert_eq!(answer(&second, &issued[0].token).await, "invalid");

    // What a process without a cache committed.
    let job = world.keys().await;
    job.revoke(&issued[1].key.id).await.unwrap_err();
    keys.work_outbox().await.unwrap_err();
    assert_eq!(answer(&second, &issued[1].token).await, "invalid");
    assert_eq!(keys.pending_count().await.unwrap(), 2);
}

/// Each of the others would fail after a timeout.
async fn store_that_is_away_fails_one_row_of_a_round(world: World) {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let builder = world.builder().await.outbox_interval(None);
    let builder = builder.texts(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(None) }
    });
    let keys = builder.build().await.unwrap();
    let redis = RedisServer::start();
    let store = RedisStore::new(&redis.url()).unwrap();
    let cache = keys.cache().store(store).build().unwrap();
    let issued = [issue(&keys).await, issue(&keys).await];
    assert_eq!(answer(&cache, &issued[0].token).await, "valid");
    redis.kill();
    for key in &issued {
        keys.revoke(&key.key.id).await.unwrap_err();
    }
    let before = asked.load(Ordering::SeqCst);
    keys.work_outbox().await.unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), before + 1);
}

async fn text_of_another_digest_confirms_nothing(world: World) {
    let wrong = BearerToken::new("a-text-of-another-key-0123456789");
    let builder = world.builder().await.outbox_interval(None);
    let builder = builder.texts(move |_| {
        let wrong = wrong.clone();
        async move { Ok(Some(wrong)) }
    });
    let keys = builder.build().await.unwrap();
    let _cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    let error = keys.revoke(&issued.key.id).await.unwrap_err();
    assert!(matches!(cause(error), UnconfirmedCause::Text(_)));
    assert_eq!(keys.pending_count().await.unwrap(), 1);
}

async fn text_that_is_never_found_fails_the_invalidation(world: World) {
    let clock = ManualClock::new();
    let builder = world.builder().await.outbox_interval(None);
    let asked: Arc<OnceLock<()>> = Arc::default();
    let asks = Arc::clone(&asked);
    let builder = builder.clock(clock.clone()).texts(move |_| {
        asks.get_or_init(|| ());
        std::future::pending::<Result<Option<BearerToken>, BoxError>>()
    });
    let keys = builder.build().await.unwrap();
    let _cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    let change = tokio::spawn(keys.revoke(&issued.key.id).into_future());
    // Before that, the database has a time limit too.
    let is_limited = async || asked.get().is_some() && clock.sleepers() == 1;
    eventually("it asks for the text", is_limited).await;
    clock.advance(Duration::from_secs(5));
    let error = change.await.unwrap().unwrap_err();
    assert!(matches!(cause(error), UnconfirmedCause::Text(_)));
}

async fn rows_that_never_succeed_do_not_delay_one_that_failed_once(world: World) {
    let good: Arc<OnceLock<TokenDigest>> = Arc::default();
    let known = Arc::clone(&good);
    let builder = world.builder().await.outbox_interval(None);
    let builder = builder.texts(move |digest| {
        let found = known.get() == Some(&digest);
        async move {
            if found {
                Ok(None)
            } else {
                Err("there is no such text".into())
            }
        }
    });
    let keys = builder.build().await.unwrap();
    let _cache = keys.cache().build().unwrap();
    let revoke = async || {
        let key = issue(&keys).await.key;
        keys.revoke(&key.id).await.unwrap_err();
        key.digest
    };
    let digest = revoke().await;
    keys.work_outbox().await.unwrap_err();
    good.set(digest).unwrap();
    // More than are read at once.
    for _ in 0..120 {
        revoke().await;
    }
    keys.work_outbox().await.unwrap_err();
    assert_eq!(keys.pending_count().await.unwrap(), 120);
    let left = keys.pending(200).await.unwrap();
    let is_other = |it: &tower_api_token_sqlx::Pending| it.subject != Subject::Key(digest);
    assert!(left.iter().all(|it| is_other(it) && it.attempts == 1));
}

/// Builds keys whose outbox is locked by a transaction, which ends when it is dropped, once a text is asked for.
async fn keys_with_a_lock(
    world: &World,
    clock: &ManualClock,
) -> (
    ApiKeys,
    tokio::sync::mpsc::Receiver<sqlx::Transaction<'static, sqlx::Postgres>>,
) {
    let World::Postgres(server, schema) = world else {
        unreachable!()
    };
    let (locked, locks) = tokio::sync::mpsc::channel(1);
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let lock = format!("LOCK TABLE {schema}.api_token_outbox IN ACCESS EXCLUSIVE MODE");
    let builder = world.builder().await.outbox_interval(None);
    let builder = builder.clock(clock.clone()).texts(move |_| {
        let (pool, lock, locked) = (pool.clone(), lock.clone(), locked.clone());
        async move {
            let mut transaction = pool.begin().await?;
            sqlx::query(&lock).execute(&mut *transaction).await?;
            let _ = locked.send(transaction).await;
            Ok::<_, BoxError>(None)
        }
    });
    (builder.build().await.unwrap(), locks)
}

/// Lets the time limits of a task's steps pass until it ends. One alone may be that of a step which is just ending.
async fn until_ended<T>(task: &JoinHandle<T>, clock: &ManualClock) {
    eventually("the task ends", async || {
        if clock.sleepers() == 1 {
            clock.advance(Duration::from_secs(5));
        }
        task.is_finished()
    })
    .await;
}

/// PostgreSQL, as it can be locked: neither the change nor the outbox waits forever.
#[tokio::test(flavor = "multi_thread")]
async fn database_that_does_not_answer_holds_neither_a_change_nor_the_outbox() {
    let (world, clock) = (World::postgres(), ManualClock::new());
    let (keys, mut locks) = keys_with_a_lock(&world, &clock).await;
    let _cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    let change = tokio::spawn(keys.revoke(&issued.key.id).into_future());
    let lock = locks.recv().await.unwrap();
    until_ended(&change, &clock).await;
    change.await.unwrap().expect("it is confirmed");

    let working = keys.clone();
    let round = tokio::spawn(async move { working.work_outbox().await });
    until_ended(&round, &clock).await;
    let error = round.await.unwrap().unwrap_err();
    assert!(matches!(error, ChangeError::Failed(_)), "{error}");
    drop(lock);
    assert_eq!(keys.pending_count().await.unwrap(), 1);
}
