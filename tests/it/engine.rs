//! Tests of answers, caching and loads, over both stores.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::common::{
    Builder, Cache, Db, Mode, Points, Row, ask, entry, found, is_invalid, local_entries, redis,
    until,
};
use chrono::Utc;
use test_support::RedisServer;
use tokio::sync::Semaphore;
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::metrics::Outcome;
use tower_api_token::store::KeyLayout;
use tower_api_token::test_util::{ManualClock, SyncPoint};
use tower_api_token::{
    Answer, ApiTokenCache, BoxError, ConfigError, InvalidReason, Lookup, MemoryStore, Origin,
    RedisStore, TokenDigest, TokenLoader, TokenRecord, UnavailableKind,
};

const TOKEN: &str = "app-0123456789abcdef";

/// Runs a test with the in-memory store, with Redis, and with Redis and no local level.
async fn each(test: impl AsyncFn(&dyn Fn(Builder) -> Cache)) {
    test(&|builder| builder.build().unwrap()).await;
    let server = RedisServer::start();
    test(&|builder| builder.store(redis(&server)).build().unwrap()).await;
    server.flushall();
    test(&|builder| {
        builder
            .store(redis(&server))
            .local_capacity(0)
            .build()
            .unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_valid_token_is_loaded_once_and_then_cached() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
        let cache = build(db.cache());
        let first = found(&cache, TOKEN).await;
        assert_eq!((first.origin(), first.id()), (Origin::Loaded, "tok-1"));
        assert_eq!(
            (first.tenant_id(), first.token().expose()),
            (Some("t-1"), TOKEN)
        );
        for _ in 0..3 {
            let again = found(&cache, TOKEN).await;
            assert_ne!(again.origin(), Origin::Loaded);
            assert_eq!(
                (again.tenant_id(), again.token().expose()),
                (Some("t-1"), TOKEN)
            );
        }
        assert_eq!((db.loads(), cache.stats().loads), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn types_arcs_functions_and_closures_are_loaders() {
    struct Own;

    impl TokenLoader for Own {
        type Metadata = ();

        async fn load(&self, _: Lookup) -> Result<Option<TokenRecord>, BoxError> {
            Ok(Some(TokenRecord::new("own").token_type("app")))
        }
    }

    async fn function(_: Lookup) -> std::io::Result<Option<TokenRecord>> {
        Ok(Some(TokenRecord::new("function").token_type("app")))
    }

    let closure = |_: Lookup| async {
        Ok::<_, BoxError>(Some(TokenRecord::new("closure").token_type("app")))
    };
    for (builder, id) in [
        (ApiTokenCache::builder(Own), "own"),
        (ApiTokenCache::builder(Arc::new(Own)), "own"),
        (ApiTokenCache::builder(function), "function"),
        (ApiTokenCache::builder(closure), "closure"),
    ] {
        let cache = builder.build().unwrap();
        let answer = cache.authenticate_typed(TOKEN, "app").await.unwrap();
        assert_eq!(answer.valid().unwrap().id(), id);
    }
}

#[tokio::test]
async fn the_origin_tells_where_an_answer_came_from() {
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db.cache().build().unwrap();
    found(&cache, TOKEN).await;
    assert_eq!(
        found(&cache, TOKEN).await.origin(),
        Origin::Local,
        "the in-memory store"
    );

    let server = RedisServer::start();
    let one = db.cache().store(redis(&server)).build().unwrap();
    let two = db.cache().store(redis(&server)).build().unwrap();
    assert_eq!(found(&one, TOKEN).await.origin(), Origin::Loaded);
    assert_eq!(found(&one, TOKEN).await.origin(), Origin::Local);
    assert_eq!(found(&two, TOKEN).await.origin(), Origin::Shared);
    assert_eq!(found(&two, TOKEN).await.origin(), Origin::Local);
    let counted = two.stats();
    assert_eq!(counted.lookups_of(Outcome::Valid, Some(Origin::Shared)), 1);
    assert_eq!(counted.lookups_of(Outcome::Valid, Some(Origin::Local)), 1);
    assert_eq!(counted.lookups().count(), 2);
}

#[tokio::test]
async fn an_unknown_token_is_loaded_once_and_then_cached() {
    each(async |build| {
        let db = Db::new();
        let cache = build(db.cache());
        for _ in 0..5 {
            assert!(is_invalid(&cache, TOKEN).await);
        }
        assert_eq!(db.loads(), 1);
    })
    .await;
}

#[tokio::test]
async fn one_entry_answers_for_every_token_type() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("dataset"));
        let cache = build(db.cache());
        for _ in 0..3 {
            let answer = cache.authenticate_typed(TOKEN, "app").await;
            assert!(matches!(answer, Ok(Answer::Invalid(_))), "{answer:?}");
        }
        assert_eq!((db.loads(), cache.stats().wrong_token_type), (1, 3));
        let token = cache
            .authenticate_typed(TOKEN, "dataset")
            .await
            .unwrap()
            .valid()
            .unwrap();
        assert_eq!(token.token_type(), Some("dataset"));
        let token = cache.authenticate(TOKEN).await.unwrap().valid().unwrap();
        assert_eq!(token.token_type(), Some("dataset"));
        // An empty name is a mistake of the service, such as an unset variable, and no token's type.
        let error = cache.authenticate_typed(TOKEN, "").await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::UnknownTokenType);
        assert_eq!((db.loads(), cache.stats().corrupt), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn a_record_without_a_type_is_valid_only_if_none_is_required() {
    let server = RedisServer::start();
    for local_capacity in [100, 0] {
        let loader = |_: Lookup| async { Ok::<_, BoxError>(Some(TokenRecord::new("tok-1"))) };
        let cache = ApiTokenCache::builder(loader).store(redis(&server));
        let cache = cache.local_capacity(local_capacity).build().unwrap();
        for _ in 0..2 {
            let answer = cache.authenticate(TOKEN).await.unwrap();
            assert_eq!(answer.valid().unwrap().token_type(), None);
            let answer = cache.authenticate_typed(TOKEN, "app").await.unwrap();
            let wrong = matches!(answer, Answer::Invalid(InvalidReason::WrongTokenType));
            assert!(wrong, "{answer:?}");
        }
        assert_eq!(cache.stats().corrupt, 0);
    }
}

#[tokio::test]
async fn a_denial_has_a_reason_and_ends_with_its_tenants_invalidation() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
        let cache = build(db.cache());
        db.suspend("t-1");
        for _ in 0..3 {
            match ask(&cache, TOKEN).await.unwrap() {
                Answer::Denied(denial) => {
                    assert_eq!(denial.reason(), "tenant suspended");
                    assert_eq!(denial.token_id(), "tok-1");
                    assert_eq!(denial.tenant_id(), Some("t-1"));
                }
                answer => panic!("{answer:?}"),
            }
        }
        assert_eq!(db.loads(), 1);
        db.resume("t-1");
        cache.invalidate_tenant("t-1").await.unwrap();
        found(&cache, TOKEN).await;
    })
    .await;
}

#[tokio::test]
async fn a_denied_record_of_another_type_is_invalid() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("dataset").of_tenant("t-1"));
        let cache = build(db.cache());
        db.suspend("t-1");
        for _ in 0..3 {
            assert!(is_invalid(&cache, TOKEN).await);
            let answer = cache.authenticate_typed(TOKEN, "dataset").await.unwrap();
            assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
        }
        assert_eq!((db.loads(), cache.stats().wrong_token_type), (1, 3));
    })
    .await;
}

#[tokio::test]
async fn a_denied_record_expires_like_any_other() {
    each(async |build| {
        let clock = ManualClock::new();
        let mut row = Row::new("app").of_tenant("t-1");
        row.expires_at = Some(clock.now() + Duration::from_secs(30));
        let db = Db::with(TOKEN, row);
        let cache = build(db.cache().clock(clock.clone()));
        db.suspend("t-1");
        let answer = ask(&cache, TOKEN).await.unwrap();
        assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
        clock.advance(Duration::from_secs(30));
        // Also if it is loaded after its expiry.
        for _ in 0..2 {
            let answer = ask(&cache, TOKEN).await.unwrap();
            let expired = matches!(answer, Answer::Invalid(InvalidReason::Expired));
            assert!(expired, "{answer:?}");
            cache.invalidate(TOKEN).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_mismatched_denied_record_is_unavailable() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
        let cache = build(db.cache());
        db.suspend("t-1");
        db.change(TOKEN, |row| row.digest = Some(TokenDigest::of("another")));
        let error = ask(&cache, TOKEN).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderMismatch);
        db.change(TOKEN, |row| {
            row.digest = None;
            row.id.clear();
        });
        let error = ask(&cache, TOKEN).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderMismatch);
        db.change(TOKEN, |row| row.id = "tok-1".to_owned());
        let answer = ask(&cache, TOKEN).await.unwrap();
        assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn a_failed_load_is_unavailable_and_not_cached() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app"));
        let cache = build(db.cache());
        db.mode(Mode::Fails);
        let error = ask(&cache, TOKEN).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderFailed);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "the database is away");
        db.mode(Mode::Panics);
        let error = ask(&cache, TOKEN).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderPanicked);
        db.mode(Mode::Answers);
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
        assert_eq!((db.loads(), cache.stats().load_failures), (3, 2));
    })
    .await;
}

#[tokio::test]
async fn a_load_that_times_out_is_tried_again_by_the_next_request() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app"));
        let cache = build(db.cache().load_timeout(Duration::from_secs(1)));
        db.gate.close();
        let error = ask(&cache, TOKEN).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderTimedOut);
        db.gate.open();
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
        assert_eq!(db.loads(), 2);
    })
    .await;
}

/// Each part of a call has a timeout of its own. This is the fallback for an unknown fault.
#[tokio::test]
async fn a_stalled_call_is_replaced_once_and_then_unavailable() {
    let db = Db::with(TOKEN, Row::new("app"));
    let points = Points::default();
    points.at(SyncPoint::Loaded).close();
    let builder = db.cache().sync_points(points.sync_points());
    let cache = builder
        .load_timeout(Duration::from_millis(100))
        .load_queue_timeout(Duration::ZERO)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = ask(&cache, TOKEN).await.unwrap_err();
    assert_eq!(error.kind(), UnavailableKind::Internal);
    // Two stalled calls, and the rest of the first one's lease.
    let step = Duration::from_millis(1_100);
    assert!(start.elapsed() >= 2 * step && start.elapsed() < 9 * step);
    points.at(SyncPoint::Loaded).open();
    found(&cache, TOKEN).await;
}

fn driven_by_hand() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

#[test]
fn a_call_in_a_stalled_runtime_is_replaced() {
    let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
    let points = Points::default();
    let held = points.at(SyncPoint::Loaded);
    held.close();
    let builder = db.cache().sync_points(points.sync_points());
    let builder = builder.load_timeout(Duration::from_millis(500));
    let builder = builder.load_queue_timeout(Duration::from_millis(500));
    let cache = builder.build().unwrap();
    let still = driven_by_hand();
    still.block_on(async {
        let (gave_up, holds) = (Box::pin(ask(&cache, TOKEN)), held.reached(1));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), gave_up)
                .await
                .is_err()
        );
        holds.await;
    });
    held.open();
    // The call is no longer driven. Others look the token up, at once and later.
    driven_by_hand().block_on(async {
        let (first, second) = tokio::join!(ask(&cache, TOKEN), ask(&cache, TOKEN));
        assert!(matches!(first, Ok(Answer::Valid(_))), "{first:?}");
        assert!(matches!(second, Ok(Answer::Valid(_))), "{second:?}");
        db.revoke(TOKEN);
        cache.invalidate(TOKEN).await.unwrap();
        assert!(is_invalid(&cache, TOKEN).await);
    });
    // The stalled call continues, but its old load is not used.
    still.block_on(async {
        points.at(SyncPoint::Loaded).reached(2).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(is_invalid(&cache, TOKEN).await);
    });
}

#[tokio::test]
async fn a_mismatched_record_is_unavailable_and_not_cached() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app"));
        let cache = build(db.cache());
        db.change(TOKEN, |row| row.id.clear());
        let error = ask(&cache, TOKEN).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderMismatch);
        db.change(TOKEN, |row| {
            row.id = "tok-1".to_owned();
            row.digest = Some(TokenDigest::of("another"));
        });
        let error = ask(&cache, TOKEN).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderMismatch);
        db.change(TOKEN, |row| row.digest = Some(TokenDigest::of(TOKEN)));
        found(&cache, TOKEN).await;
        assert_eq!(db.loads(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_revoked_token_is_invalid_after_its_invalidation() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
        let cache = build(db.cache());
        found(&cache, TOKEN).await;
        db.revoke(TOKEN);
        cache.invalidate(TOKEN).await.unwrap();
        assert!(is_invalid(&cache, TOKEN).await);
    })
    .await;
}

#[tokio::test]
async fn a_created_token_is_valid_after_its_invalidation() {
    each(async |build| {
        let db = Db::new();
        let cache = build(db.cache());
        assert!(is_invalid(&cache, TOKEN).await);
        db.insert(TOKEN, Row::new("app"));
        assert!(
            is_invalid(&cache, TOKEN).await,
            "the negative entry is still cached"
        );
        cache
            .invalidate_digest(TokenDigest::of(TOKEN))
            .await
            .unwrap();
        found(&cache, TOKEN).await;
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_invalidation_ends_a_tokens_entry() {
    each(async |build| {
        let db = Db::new();
        let cache = build(db.cache());
        let ask_twice = async || {
            assert!(is_invalid(&cache, TOKEN).await);
            cache.authenticate_typed(TOKEN, "dataset").await.unwrap();
        };
        for invalidation in [
            cache.invalidate(TOKEN).of_type("dataset"),
            cache.invalidate_digest(TokenDigest::of(TOKEN)),
            cache.invalidate(TOKEN),
        ] {
            let loads = db.loads();
            ask_twice().await;
            assert_eq!(db.loads() - loads, 1);
            invalidation.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn only_an_invalidated_tenants_tokens_are_loaded_again() {
    each(async |build| {
        let db = Db::new();
        let tokens = ["t1-token-a", "t1-token-b", "t2-token-a", "no-tenant-a"];
        for token in tokens {
            let tenant = token.starts_with('t').then(|| token[..2].to_owned());
            let row = Row::new("app");
            db.insert(token, Row { tenant, ..row });
        }
        let cache = build(db.cache());
        for token in tokens {
            found(&cache, token).await;
            db.change(token, |_| {});
        }
        cache.invalidate_tenant("t1").await.unwrap();
        for (token, version) in tokens.into_iter().zip([1, 1, 0, 0]) {
            assert_eq!(*found(&cache, token).await.metadata(), version, "{token}");
        }
        assert_eq!(db.loads(), 6);
    })
    .await;
}

#[tokio::test]
async fn concurrent_requests_for_a_cold_token_share_one_load() {
    for token in [TOKEN, "an-unknown-token"] {
        each(async |build| {
            let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
            let cache = build(db.cache());
            db.gate.close();
            let ask = |_| {
                let (cache, token) = (cache.clone(), token.to_owned());
                tokio::spawn(async move { ask(&cache, &token).await })
            };
            let herd: Vec<_> = (0..1_000).map(ask).collect();
            db.gate.reached(1).await;
            while cache.stats().joined < 999 {
                tokio::task::yield_now().await;
            }
            db.gate.open();
            for one in herd {
                one.await.unwrap().unwrap();
            }
            assert_eq!(db.loads(), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn a_failed_load_reaches_all_waiters_and_is_tried_again() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app"));
        let cache = build(db.cache());
        db.mode(Mode::Fails);
        db.gate.close();
        let ask = |_| {
            let cache = cache.clone();
            tokio::spawn(async move { ask(&cache, TOKEN).await })
        };
        let herd: Vec<_> = (0..50).map(ask).collect();
        db.gate.reached(1).await;
        while cache.stats().joined < 49 {
            tokio::task::yield_now().await;
        }
        db.gate.open();
        for one in herd {
            one.await.unwrap().unwrap_err();
        }
        assert_eq!(db.loads(), 1);
        db.mode(Mode::Answers);
        found(&cache, TOKEN).await;
        assert_eq!(db.loads(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_affect_the_others() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app"));
        let cache = build(db.cache());
        db.gate.close();
        let first = {
            let cache = cache.clone();
            tokio::spawn(async move { ask(&cache, TOKEN).await })
        };
        db.gate.reached(1).await;
        let second = {
            let cache = cache.clone();
            tokio::spawn(async move { found(&cache, TOKEN).await })
        };
        while cache.stats().joined < 1 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        db.gate.open();
        second.await.unwrap();
        assert_ne!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
        assert_eq!(db.loads(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_is_no_longer_polled_delays_nobody() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app"));
        let cache = build(db.cache());
        let mut left = Box::pin(ask(&cache, TOKEN));
        assert!(poll_once(&mut left).await.is_pending());
        let joined = tokio::time::timeout(Duration::from_secs(10), found(&cache, TOKEN));
        joined
            .await
            .expect("it does not depend on the other caller");
        drop(left);

        cache.invalidate(TOKEN).await.unwrap();
        db.gate.close();
        let mut left = Box::pin(ask(&cache, TOKEN));
        while db.loads() < 2 {
            assert!(poll_once(&mut left).await.is_pending());
            tokio::task::yield_now().await;
        }
        db.gate.open();
        let cached = async {
            while cache.peek(TOKEN).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        let cached = tokio::time::timeout(Duration::from_secs(10), cached);
        cached.await.expect("the load ends by itself");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_caller_that_blocks_its_thread_does_not_delay_the_call() {
    let db = Db::with(TOKEN, Row::new("app"));
    let points = Points::default();
    let read = points.at(SyncPoint::Read);
    read.close();
    let cache = db
        .cache()
        // A call counts as stalled later than this.
        .load_timeout(Duration::from_secs(60))
        .sync_points(points.sync_points())
        .build()
        .unwrap();
    let lookup = || {
        let cache = cache.clone();
        async move { drop(found(&cache, TOKEN).await) }
    };
    // Reads by itself, so that the next one begins a call.
    let alone = tokio::spawn(lookup());
    read.reached(1).await;
    let (answered, is_answered) = std::sync::mpsc::channel();
    let (begins_now, begun) = std::sync::mpsc::channel();
    let mut begins = Box::pin(lookup());
    let begins = tokio::spawn(async move {
        assert!(poll_once(&mut begins).await.is_pending());
        begins_now.send(()).unwrap();
        // Like a handler that computes during its lookup.
        let answered = is_answered.recv_timeout(Duration::from_secs(10));
        begins.await;
        answered
    });
    until(|| begun.try_recv().is_ok()).await;
    let joins = lookup();
    let joins = tokio::spawn(async move {
        joins.await;
        answered.send(()).unwrap();
    });
    until(|| cache.stats().joined == 1).await;
    read.open();
    let answered = begins.await.unwrap();
    answered.expect("the call does not depend on the thread of the caller that began it");
    for lookup in [alone, joins] {
        lookup.await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_outside_of_a_runtime_does_not_stop_the_call() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app"));
        let cache = build(db.cache());
        let mut first = Box::pin(found(&cache, TOKEN));
        assert!(poll_once(&mut first).await.is_pending());
        let outside = cache.clone();
        let outside = std::thread::spawn(move || {
            let mut context = Context::from_waker(Waker::noop());
            Box::pin(ask(&outside, TOKEN))
                .as_mut()
                .poll(&mut context)
                .is_ready()
        });
        assert!(outside.join().is_err(), "it panics without a runtime");
        let first = tokio::time::timeout(Duration::from_secs(10), first);
        first.await.expect("it does not depend on the other caller");
    })
    .await;
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

#[tokio::test]
async fn loads_stay_within_the_cap_and_queued_ones_all_run() {
    each(async |build| {
        let db = Db::new();
        let cache = build(db.cache().max_concurrent_loads(5));
        let ask = |n: usize| {
            let cache = cache.clone();
            tokio::spawn(async move { is_invalid(&cache, &format!("unknown-token-{n}")).await })
        };
        for one in (0..300).map(ask).collect::<Vec<_>>() {
            assert!(one.await.unwrap());
        }
        assert_eq!(db.loads(), 300);
        assert!(db.most_at_once() <= 5, "{}", db.most_at_once());
    })
    .await;
}

#[tokio::test]
async fn a_permit_moved_into_blocking_work_outlasts_the_timeout() {
    // As the documentation of `TokenLoader` shows. The database hangs until the test ends.
    let (hangs, until_the_end) = std::sync::mpsc::channel::<()>();
    let until_the_end = Arc::new(Mutex::new(until_the_end));
    let (permits, asked) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let loader = move |_: Lookup| {
        let (permits, hangs) = (Arc::clone(&permits), Arc::clone(&until_the_end));
        let asked = Arc::clone(&counted);
        async move {
            let permit = permits.acquire_owned().await?;
            let work = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                asked.fetch_add(1, Ordering::SeqCst);
                let _ = hangs.lock().map(|hangs| hangs.recv());
            });
            work.await?;
            Ok::<_, BoxError>(None::<TokenRecord>)
        }
    };
    let builder = ApiTokenCache::builder(loader).max_concurrent_loads(2);
    let cache = builder
        .load_timeout(Duration::from_millis(20))
        .build()
        .unwrap();
    for n in 0..10 {
        let error = cache
            .authenticate_typed(&format!("app-{n:020}"), "app")
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderTimedOut);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    drop(hangs);
}

#[tokio::test]
async fn beyond_the_queue_a_request_is_unavailable_at_once() {
    let db = Db::new();
    let cache = db
        .cache()
        .max_concurrent_loads(1)
        .max_queued_loads(1)
        .build()
        .unwrap();
    db.gate.close();
    let ask = |n: usize| {
        let cache = cache.clone();
        tokio::spawn(async move { ask(&cache, &format!("unknown-token-{n}")).await })
    };
    let first = ask(1);
    db.gate.reached(1).await;
    let others = [ask(2), ask(3)];
    while cache.stats().overloaded < 1 {
        tokio::task::yield_now().await;
    }
    db.gate.open();
    assert!(first.await.unwrap().is_ok());
    let mut rejected = 0;
    for other in others {
        if let Err(error) = other.await.unwrap() {
            assert_eq!(error.kind(), UnavailableKind::Overloaded);
            rejected += 1;
        }
    }
    assert_eq!((rejected, db.loads()), (1, 2));
}

#[tokio::test]
async fn a_record_is_kept_for_its_ttl_which_use_does_not_prolong() {
    let (db, clock) = (Db::with(TOKEN, Row::new("app")), ManualClock::new());
    let cache = db
        .cache()
        .clock(clock.clone())
        .ttl_jitter_percent(0)
        .build()
        .unwrap();
    found(&cache, TOKEN).await;
    for _ in 0..599 {
        clock.advance(Duration::from_secs(1));
        found(&cache, TOKEN).await;
    }
    assert_eq!(db.loads(), 1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
    assert_eq!(db.loads(), 2);
}

#[tokio::test]
async fn a_negative_entry_is_kept_for_its_own_ttl() {
    let (db, clock) = (Db::new(), ManualClock::new());
    let cache = db
        .cache()
        .clock(clock.clone())
        .ttl_jitter_percent(0)
        .build()
        .unwrap();
    assert!(is_invalid(&cache, TOKEN).await);
    clock.advance(Duration::from_millis(59_999));
    assert!(is_invalid(&cache, TOKEN).await);
    assert_eq!(db.loads(), 1);
    clock.advance(Duration::from_millis(1));
    assert!(is_invalid(&cache, TOKEN).await);
    assert_eq!(db.loads(), 2);
}

#[tokio::test]
async fn a_token_is_invalid_from_its_expiry_even_if_cached() {
    let (db, clock) = (Db::with(TOKEN, Row::new("app")), ManualClock::new());
    db.change(TOKEN, |row| {
        row.expires_at = Some(clock.now() + Duration::from_secs(700))
    });
    let cache = db.cache().clock(clock.clone()).build().unwrap();
    found(&cache, TOKEN).await;
    clock.advance(Duration::from_secs(610));
    found(&cache, TOKEN).await;
    clock.advance(Duration::from_millis(89_999));
    found(&cache, TOKEN).await;
    clock.advance(Duration::from_millis(1));
    let answer = ask(&cache, TOKEN).await;
    assert!(
        matches!(answer, Ok(Answer::Invalid(InvalidReason::Expired))),
        "{answer:?}"
    );
    let loads = db.loads();
    assert!(is_invalid(&cache, TOKEN).await);
    assert_eq!(db.loads(), loads, "an expired record is cached too");
}

#[tokio::test]
async fn an_expired_record_is_cached_until_it_is_invalidated() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app"));
        let past = Utc::now() - Duration::from_secs(5);
        db.change(TOKEN, |row| row.expires_at = Some(past));
        let cache = build(db.cache());
        for _ in 0..3 {
            let answer = ask(&cache, TOKEN).await;
            assert!(
                matches!(answer, Ok(Answer::Invalid(InvalidReason::Expired))),
                "{answer:?}"
            );
        }
        assert_eq!(db.loads(), 1);
        db.change(TOKEN, |row| row.expires_at = None);
        cache.invalidate(TOKEN).await.unwrap();
        found(&cache, TOKEN).await;
    })
    .await;
}

#[tokio::test]
async fn ttls_in_redis_are_jittered_down_and_capped_by_the_expiry() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db.cache().store(redis(&server)).build().unwrap();
    let left = |token: &str| server.command(&["PTTL", &entry(token)]).int();
    found(&cache, TOKEN).await;
    assert!(
        (539_000..=600_000).contains(&left(TOKEN)),
        "{}",
        left(TOKEN)
    );
    is_invalid(&cache, "unknown-token").await;
    let negative = left("unknown-token");
    assert!((53_000..=60_000).contains(&negative), "{negative}");
    db.insert("denied-token", Row::new("app").of_tenant("t-1"));
    db.suspend("t-1");
    ask(&cache, "denied-token").await.unwrap();
    let denied = left("denied-token");
    assert!((53_000..=60_000).contains(&denied), "{denied}");
    let mut row = Row::new("app");
    row.expires_at = Some(Utc::now() + Duration::from_secs(30));
    db.insert("ends-in-30-seconds", row);
    found(&cache, "ends-in-30-seconds").await;
    let capped = left("ends-in-30-seconds");
    assert!((25_000..=30_000).contains(&capped), "{capped}");
}

#[tokio::test]
async fn an_entry_that_is_not_valid_is_counted_and_replaced() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    db.insert("another-token", Row::new("app"));
    let build = || db.cache().store(redis(&server)).build().unwrap();
    found(&build(), "another-token").await;
    let swapped = String::from_utf8(server.get(&entry("another-token")).unwrap()).unwrap();
    let spoilt: [&[&str]; 5] = [
        &["SET", "", "V1{broken"],
        &["SET", "", "X9"],
        &["SET", "", &swapped],
        &["LPUSH", "", "a list"],
        &["HSET", "", "field", "a hash"],
    ];
    for command in spoilt {
        let name = entry(TOKEN);
        server.command(&["DEL", &name]).int();
        let mut command = command.to_vec();
        command[1] = &name;
        server.command(&command);
        let (cache, loads) = (build(), db.loads());
        found(&cache, TOKEN).await;
        assert_eq!(
            (db.loads(), cache.stats().corrupt),
            (loads + 1, 1),
            "{command:?}"
        );
        assert_eq!(
            found(&build(), TOKEN).await.origin(),
            Origin::Shared,
            "{command:?}"
        );
    }
}

#[tokio::test]
async fn a_record_too_large_for_the_store_is_answered_and_counted() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    db.change(TOKEN, |row| row.id = "x".repeat(20_000));
    let cache = db.cache().store(redis(&server)).build().unwrap();
    for _ in 0..2 {
        assert_eq!(found(&cache, TOKEN).await.id().len(), 20_000);
    }
    assert_eq!((db.loads(), cache.stats().unwritable), (2, 2));
    assert_eq!(server.get(&entry(TOKEN)), None, "the lease is given back");
}

#[tokio::test]
async fn instances_share_loads_and_obey_each_others_invalidations() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
    let build = || {
        db.cache()
            .store(redis(&server))
            .local_capacity(0)
            .build()
            .unwrap()
    };
    let (one, two) = (build(), build());
    found(&one, TOKEN).await;
    assert_eq!(found(&two, TOKEN).await.origin(), Origin::Shared);
    db.change(TOKEN, |_| {});
    one.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(*found(&two, TOKEN).await.metadata(), 1);
    db.revoke(TOKEN);
    two.invalidate(TOKEN).await.unwrap();
    assert!(is_invalid(&one, TOKEN).await);
    assert_eq!(db.loads(), 3);
}

#[tokio::test]
async fn a_service_starts_without_redis_and_caches_once_it_is_up() {
    let server = RedisServer::start();
    server.kill();
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db.cache().store(redis(&server)).build().unwrap();
    assert!(cache.check_store().await.is_err());
    for _ in 0..2 {
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
    }
    assert!(is_invalid(&cache, "unknown-token").await);
    let error = cache.invalidate(TOKEN).await.unwrap_err();
    assert!(error.is_retryable());
    assert!(cache.stats().store_errors > 0);
    server.restart();
    while cache.check_store().await.is_err() {
        tokio::task::yield_now().await;
    }
    cache.invalidate(TOKEN).await.unwrap();
    found(&cache, TOKEN).await;
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
}

#[tokio::test]
async fn an_outage_of_both_is_unavailable_and_never_invalid() {
    let server = RedisServer::start();
    server.kill();
    let db = Db::with(TOKEN, Row::new("app"));
    db.mode(Mode::Fails);
    let cache = db.cache().store(redis(&server)).build().unwrap();
    for _ in 0..3 {
        assert!(ask(&cache, TOKEN).await.is_err());
    }
}

#[tokio::test]
async fn invented_tokens_write_no_more_negative_entries_than_the_cap() {
    let (server, db, clock) = (RedisServer::start(), Db::new(), ManualClock::new());
    let builder = db
        .cache()
        .store(redis(&server))
        .negative_writes_per_second(10);
    let cache = builder.clock(clock.clone()).build().unwrap();
    for n in 0..50 {
        assert!(is_invalid(&cache, &format!("unknown-token-{n}")).await);
    }
    assert_eq!(cache.stats().negative_writes_skipped, 40);
    assert_eq!(server.keys("api_token:token:*").len(), 10);
    clock.advance(Duration::from_secs(1));
    assert!(is_invalid(&cache, "unknown-token-x").await);
    assert_eq!(cache.stats().negative_writes_skipped, 40);
}

#[tokio::test]
async fn a_negative_ttl_of_zero_caches_no_negative_and_leaves_no_lease() {
    let server = RedisServer::start();
    let stores: [fn(Builder, &RedisServer) -> Builder; 3] = [
        |builder, _| builder,
        |builder, server| builder.store(redis(server)),
        |builder, server| {
            let store = redis(server).key_layout(KeyLayout::dify());
            builder.store(store).token_types(["app"])
        },
    ];
    for with_store in stores {
        let (db, clock) = (
            Db::with(TOKEN, Row::new("app").of_tenant("t-1")),
            ManualClock::new(),
        );
        let builder = with_store(db.cache(), &server).negative_ttl(Duration::ZERO);
        let cache = builder.clock(clock.clone()).build().unwrap();
        for loads in 1..=3 {
            assert!(is_invalid(&cache, "unknown-token").await);
            assert_eq!(db.loads(), loads);
            assert!(server.keys("*unknown*").is_empty());
        }
        db.suspend("t-1");
        for loads in 4..=6 {
            let answer = ask(&cache, TOKEN).await.unwrap();
            assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
            assert_eq!(db.loads(), loads);
        }
        assert_eq!(local_entries(&cache), (0, 0));
        assert!(server.keys("*:token:*").is_empty());
        assert!(server.keys("*app:*").is_empty());
        assert_eq!(cache.stats().negative_writes_skipped, 0);
        // A valid token is cached as ever.
        db.resume("t-1");
        for _ in 0..2 {
            found(&cache, TOKEN).await;
            assert_eq!(db.loads(), 7);
        }
        cache.invalidate(TOKEN).await.unwrap();
        server.flushall();
    }
}

#[tokio::test]
async fn with_a_negative_ttl_of_zero_concurrent_lookups_share_a_load() {
    each(async |build| {
        let db = Db::new();
        let cache = build(db.cache().negative_ttl(Duration::ZERO));
        db.gate.close();
        let ask = || {
            let cache = cache.clone();
            tokio::spawn(async move { is_invalid(&cache, TOKEN).await })
        };
        let mut asks = vec![ask()];
        db.gate.reached(1).await;
        asks.extend((0..100).map(|_| ask()));
        tokio::task::yield_now().await;
        db.gate.open();
        for invalid in asks {
            assert!(invalid.await.unwrap());
        }
        // Lookups that join after the load was sent share the next one.
        assert_eq!(db.loads(), 2);
        assert_eq!(db.most_at_once(), 1);
    })
    .await;
}

#[tokio::test]
async fn peek_answers_from_the_caches_and_loads_nothing() {
    each(async |build| {
        let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
        let cache = build(db.cache());
        assert!(cache.peek(TOKEN).await.unwrap().is_none());
        assert_eq!(db.loads(), 0);
        cache.warm(TOKEN).await.unwrap();
        let peeked = cache.peek(TOKEN).await.unwrap().unwrap();
        assert_eq!(peeked.valid().unwrap().id(), "tok-1");
        cache.invalidate_tenant("t-1").await.unwrap();
        assert!(cache.peek(TOKEN).await.unwrap().is_none());
        assert_eq!(db.loads(), 1);
    })
    .await;
}

#[test]
fn a_cache_tells_its_namespace_its_clones_and_whether_its_store_is_shared() {
    let db = Db::new();
    let own = db.cache().namespace("keys").build().unwrap();
    // The server is never asked.
    let store = RedisStore::new("redis://127.0.0.1:1").unwrap();
    let shared = db.cache().namespace("keys").store(store).build().unwrap();
    assert_eq!((own.namespace(), shared.namespace()), ("keys", "keys"));
    assert!(own.is_clone_of(&own.clone()) && !own.is_clone_of(&shared));
    assert!(shared.has_shared_store() && !own.has_shared_store());
}

#[tokio::test]
async fn what_the_row_says_is_the_tokens() {
    let used_at = Utc::now() - Duration::from_secs(60);
    let record = TokenRecord::new("tok-1")
        .app_id("chat")
        .last_used_at(used_at);
    let loader = move |_: Lookup| std::future::ready(Ok::<_, BoxError>(Some(record.clone())));
    let cache: ApiTokenCache = ApiTokenCache::builder(loader).build().unwrap();
    let token = cache.authenticate(TOKEN).await.unwrap().valid().unwrap();
    assert_eq!(token.app_id(), Some("chat"));
    assert_eq!(token.last_used_at(), Some(used_at));
}

#[tokio::test]
async fn an_undeclared_type_is_unavailable_and_not_invalid() {
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db.cache().token_types(["app"]).build().unwrap();
    found(&cache, TOKEN).await;
    for name in ["dataset", "no type", "any", ""] {
        let error = cache.authenticate_typed(TOKEN, name).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::UnknownTokenType, "{name}");
    }
    cache.authenticate(TOKEN).await.unwrap().valid().unwrap();
    assert_eq!(db.loads(), 1);
}

#[tokio::test]
async fn an_invalidation_of_an_undeclared_type_is_an_error() {
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db.cache().token_types(["app"]).build().unwrap();
    found(&cache, TOKEN).await;
    cache.invalidate(TOKEN).of_type("app").await.unwrap();
    let error = cache.invalidate(TOKEN).of_type("ap").await.unwrap_err();
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn without_a_local_level_the_memory_store_keeps_its_size() {
    let db = Db::new();
    let cache = db.cache().local_capacity(0).build().unwrap();
    for _ in 0..2 {
        for n in 0..200 {
            assert!(is_invalid(&cache, &format!("unknown-token-{n}")).await);
        }
    }
    assert_eq!(db.loads(), 200);
}

#[tokio::test]
async fn a_pepper_hides_the_digest_and_an_old_one_is_invalidated_too() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    let with = |layout| {
        db.cache()
            .store(redis(&server).key_layout(layout))
            .local_capacity(0)
    };
    let old = with(KeyLayout::peppered("old")).build().unwrap();
    let new = with(KeyLayout::peppered("new").previous_peppers(["old"]))
        .build()
        .unwrap();
    found(&old, TOKEN).await;
    found(&new, TOKEN).await;
    assert_eq!(db.loads(), 2);
    let digest = TokenDigest::of(TOKEN).to_string();
    for key in server.keys("api_token:token:*") {
        let value = String::from_utf8(server.get(&key).unwrap()).unwrap();
        assert!(!key.contains(&digest) && !value.contains(&digest), "{key}");
    }
    db.revoke(TOKEN);
    new.invalidate(TOKEN).await.unwrap();
    assert!(is_invalid(&old, TOKEN).await && is_invalid(&new, TOKEN).await);
}

#[test]
fn build_rejects_invalid_values_with_the_setters_name() {
    type Change = fn(Builder) -> Builder;
    fn dify(builder: Builder) -> Builder {
        let store = RedisStore::new("redis://127.0.0.1").unwrap();
        builder.store(store.key_layout(KeyLayout::dify()))
    }
    let cases: [(&str, Change); 16] = [
        ("Dify layout", |b| dify(b).ttl(Duration::from_secs(601))),
        ("Dify layout", |b| {
            dify(b).stale_if_error(Duration::from_secs(1))
        }),
        ("ttl", |b| b.ttl(Duration::ZERO)),
        ("ttl", |b| b.ttl(Duration::MAX)),
        ("negative_ttl", |b| {
            b.negative_ttl(Duration::from_secs(90_000))
        }),
        ("max_staleness", |b| b.max_staleness(Duration::ZERO)),
        ("max_staleness", |b| {
            b.max_staleness(Duration::from_secs(4_000))
        }),
        ("load_timeout", |b| b.load_timeout(Duration::ZERO)),
        ("max_concurrent_loads", |b| b.max_concurrent_loads(0)),
        ("max_concurrent_loads", |b| {
            b.max_concurrent_loads(usize::MAX)
        }),
        ("ttl_jitter_percent", |b| b.ttl_jitter_percent(51)),
        ("namespace", |b| b.namespace("a b")),
        ("token_types", |b| b.token_types([""; 0])),
        ("token_types", |b| b.token_types([""])),
        ("token_types", dify),
        ("token_types", |b| dify(b).token_types(["any"])),
    ];
    let db = Db::new();
    for (name, change) in cases {
        rejected(name, change(db.cache()).build());
    }
    assert!(db.cache().build().is_ok());
}

fn rejected(name: &str, built: Result<Cache, ConfigError>) -> String {
    let error = built.err().unwrap_or_else(|| panic!("{name} was accepted"));
    let error = error.to_string();
    assert!(error.contains(name), "{name}: {error}");
    error
}

/// Tries the limits of each setting that is a time or a count, and values beyond them.
#[tokio::test]
async fn settings_that_build_accepts_never_panic_in_a_request() {
    const HOUR: Duration = Duration::from_secs(3_600);
    const ENTRIES: usize = 1_000_000_000;
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    let store = || RedisStore::new(&server.url()).unwrap();
    let memory = MemoryStore::new;
    let of_redis = |store: RedisStore| db.cache().store(store);
    let of_memory = |store: MemoryStore| db.cache().store(store);
    let recorder = || LastUseRecorder::store_only();
    let of = |recorder: LastUseRecorder| db.cache().last_use(recorder);
    let ms = Duration::from_millis(1);

    let beyond = HOUR + ms;
    for (name, builder) in [
        (
            "response_timeout: from 1ms to 3600s",
            of_redis(store().response_timeout(Duration::ZERO)),
        ),
        (
            "response_timeout",
            of_redis(store().response_timeout(Duration::MAX)),
        ),
        (
            "connect_timeout",
            of_redis(store().connect_timeout(Duration::ZERO)),
        ),
        ("connect_timeout", of_redis(store().connect_timeout(beyond))),
        (
            "circuit_breaker pause",
            of_redis(store().circuit_breaker(1, Duration::MAX)),
        ),
        (
            "circuit_breaker failures",
            of_redis(store().circuit_breaker(0, ms)),
        ),
        ("capacity", of_memory(memory().capacity(usize::MAX))),
        (
            "negative_capacity",
            of_memory(memory().negative_capacity(ENTRIES + 1)),
        ),
        ("local_capacity", db.cache().local_capacity(ENTRIES + 1)),
        (
            "local_negative_capacity",
            db.cache().local_negative_capacity(usize::MAX),
        ),
        ("max_queued_loads", db.cache().max_queued_loads(usize::MAX)),
        (
            "load_queue_timeout",
            db.cache().load_queue_timeout(Duration::MAX),
        ),
        ("load_timeout", db.cache().load_timeout(Duration::MAX)),
        ("stale_if_error", db.cache().stale_if_error(Duration::MAX)),
        ("last_use interval", of(recorder().interval(Duration::MAX))),
        (
            "last_use flush_interval",
            of(recorder().flush_interval(Duration::MAX)),
        ),
        (
            "last_use write_timeout",
            of(recorder().write_timeout(beyond)),
        ),
        (
            "last_use shutdown_timeout",
            of(recorder().shutdown_timeout(Duration::ZERO)),
        ),
        ("last_use batch_size", of(recorder().batch_size(0))),
        ("last_use batch_size", of(recorder().batch_size(usize::MAX))),
        ("last_use capacity", of(recorder().capacity(usize::MAX))),
    ] {
        let error = rejected(name, builder.build());
        assert!(error.contains("from ") && error.contains(" to "), "{error}");
    }

    let longest = store()
        .response_timeout(HOUR)
        .connect_timeout(HOUR)
        .circuit_breaker(1, HOUR);
    let patient = recorder()
        .interval(HOUR)
        .flush_interval(HOUR)
        .write_timeout(HOUR);
    let builder = of_redis(longest)
        .load_timeout(HOUR)
        .load_queue_timeout(HOUR);
    let builder = builder.stale_if_error(720 * HOUR).ttl(720 * HOUR);
    let cache = builder
        .last_use(
            patient
                .shutdown_timeout(HOUR)
                .batch_size(ENTRIES)
                .capacity(ENTRIES),
        )
        .local_capacity(ENTRIES)
        .local_negative_capacity(ENTRIES)
        .build()
        .unwrap();
    found(&cache, TOKEN).await;
    cache.invalidate(TOKEN).await.unwrap();
    assert_eq!(cache.shutdown().await, 0);
    let full = memory().capacity(ENTRIES).negative_capacity(ENTRIES);
    found(&of_memory(full).build().unwrap(), TOKEN).await;

    let shortest = store()
        .response_timeout(ms)
        .connect_timeout(ms)
        .circuit_breaker(u32::MAX, Duration::ZERO);
    let cache = of_redis(shortest).build().unwrap();
    found(&cache, TOKEN).await;
    // The timeout may be too short for an answer.
    let _ = cache.invalidate(TOKEN).await;
}

#[test]
fn an_error_about_a_redis_url_does_not_repeat_the_url() {
    for url in [
        "",
        "http://h",
        "redis://",
        "redis://:secret@h:99999",
        "redis://h:secret",
        "redis+sentinel://h",
        "redis+sentinel://:secret@h",
        "redis+cluster://h/3",
        "redis+cluster://",
        "redis://h/secret",
    ] {
        let error = tower_api_token::RedisStore::new(url).expect_err(url);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn an_entry_that_we_may_not_read_is_left_in_redis() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db
        .cache()
        .store(redis(&server))
        .local_capacity(0)
        .build()
        .unwrap();
    found(&cache, TOKEN).await;
    let set = |rights: [&str; 2]| {
        let command = ["ACL", "SETUSER", "default", rights[0], rights[1]];
        server.command(&command).ok();
    };
    set(["-get", "-mget"]);
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
    set(["+get", "+mget"]);
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Shared);
    assert_eq!(db.loads(), 2);
}

#[tokio::test]
async fn the_cap_of_negative_entries_does_not_apply_to_records() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    db.insert("another-token", Row::new("app"));
    let cache = db
        .cache()
        .store(redis(&server))
        .clock(ManualClock::new())
        .negative_writes_per_second(1)
        .build()
        .unwrap();
    for token in ["no-such-token", TOKEN, "another-token"] {
        ask(&cache, token).await.unwrap();
        assert!(server.get(&entry(token)).is_some(), "{token}");
    }
}

#[tokio::test]
async fn a_generation_is_prolonged_once_half_of_its_ttl_has_passed() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
    let build = || db.cache().store(redis(&server)).build().unwrap();
    found(&build(), TOKEN).await;
    assert_eq!(found(&build(), TOKEN).await.origin(), Origin::Shared);
    assert_eq!(server.command_count("pexpire"), 0);
    let tenant = "api_token:tenant:{t-1}";
    server.command(&["EXPIRE", tenant, "40000"]).int();
    assert_eq!(found(&build(), TOKEN).await.origin(), Origin::Shared);
    assert!(server.command(&["TTL", tenant]).int() > 86_000);
}
