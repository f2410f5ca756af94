//! Lines 18 to 22, 24, 26, 27 and 29: the answers to a token.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_api_token::{ApiTokenLayer, TokenDigest};

use crate::http_conformance::world::*;

/// 18, 20, 21, and 3 to 11 again: the answer has the same bytes for every reason, from the loader and (19)
/// from the cache.
#[tokio::test]
async fn an_invalid_token_gets_the_same_bytes_for_every_reason() {
    let world = World::new();
    let unknown = world.bearer(UNKNOWN).await;
    unknown.assert_rejected(401, INVALID);
    for (reason, token) in [
        ("unknown", UNKNOWN),
        ("revoked", REVOKED),
        ("expired", EXPIRED),
        ("another type", OTHER_TYPE),
        ("suspended and expired", SUSPENDED_EXPIRED),
        ("suspended and of another type", SUSPENDED_OTHER_TYPE),
        ("malformed", "app,"),
        ("another's beginning", "app-Good-0123456789a"),
        ("a good one's beginning", "app-Good-012345678"),
    ] {
        for round in ["loaded", "cached"] {
            let reply = world.bearer(token).await;
            assert_eq!(reply, unknown, "{reason}, {round}");
        }
    }
    assert!(world.reached().is_empty());
}

/// 19
#[tokio::test]
async fn a_negative_entry_gets_the_same_bytes_without_a_load() {
    let world = World::new();
    let loaded = world.bearer(UNKNOWN).await;
    for _ in 0..3 {
        assert_eq!(world.bearer(UNKNOWN).await, loaded);
    }
    assert_eq!(world.calls(), 1);
}

/// 20
#[tokio::test]
async fn a_revoked_token_gets_the_bytes_of_an_unknown_one() {
    let world = World::new();
    let unknown = world.bearer(UNKNOWN).await;
    world.database.not_yet_revoked.store(true, Ordering::SeqCst);
    world.bearer(REVOKED).await.assert_served();
    world.bearer(REVOKED).await.assert_served();
    world
        .database
        .not_yet_revoked
        .store(false, Ordering::SeqCst);
    let digest = TokenDigest::of(REVOKED);
    world.cache.invalidate_digest(digest).await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.bearer(REVOKED).await, unknown);
    }
}

/// 20
#[cfg(feature = "test-util")]
#[tokio::test]
async fn a_cached_token_that_expires_gets_the_bytes_of_an_unknown_one() {
    use std::time::Duration;

    use tower_api_token::test_util::ManualClock;
    use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

    let clock = ManualClock::new();
    let end = clock.now() + Duration::from_secs(30);
    let loader = move |lookup: Lookup| {
        let known = lookup.token().expose() == GOOD;
        let record = known.then(|| {
            TokenRecord::new("tok-good")
                .token_type("app")
                .expires_at(end)
        });
        async { Ok::<_, Infallible>(record) }
    };
    let cache = ApiTokenCache::builder(loader).clock(clock.clone()).build();
    let cache = cache.unwrap();
    let world = World::new().layer(|_| ApiTokenLayer::builder(cache).token_type("app"));
    let unknown = world.bearer(UNKNOWN).await;
    world.bearer(GOOD).await.assert_served();
    world.bearer(GOOD).await.assert_served();
    clock.advance(Duration::from_secs(30));
    assert_eq!(world.bearer(GOOD).await, unknown);
}

/// 21
#[tokio::test]
async fn a_valid_token_is_looked_up_once_for_all_token_types() {
    let world = World::new();
    let unknown = world.bearer(UNKNOWN).await;
    let dataset = world.builder().token_type("dataset").build().unwrap();
    world.bearer(GOOD).await.assert_served();
    assert_eq!(world.calls(), 2);
    for _ in 0..2 {
        let reply = world.send_through(&dataset, bearer(GOOD)).await;
        assert_eq!(reply, unknown, "it is of the type app");
    }
    assert_eq!(world.calls(), 2, "one entry serves both types");
    world.bearer(GOOD).await.assert_served();
    world
        .send_through(&dataset, bearer(OTHER_TYPE))
        .await
        .assert_served();
    assert_eq!(world.bearer(OTHER_TYPE).await, unknown);
}

/// 22
#[tokio::test]
async fn a_denied_token_is_403_with_its_reason_and_a_bare_challenge() {
    let world = World::new();
    let loaded = world.bearer(SUSPENDED).await;
    loaded.assert_rejected(403, BARE);
    assert_eq!(loaded.json()["detail"], REASON);
    assert_eq!(loaded.json()["status"], 403);
    let cached = world.bearer(SUSPENDED).await;
    assert_eq!(cached, loaded);
    assert_eq!(world.calls(), 1);
    assert!(world.reached().is_empty());
}

/// 24, 26
#[tokio::test(start_paused = true)]
async fn a_failed_load_is_503_without_its_cause_and_not_cached() {
    for (trouble, token) in [
        ("the loader fails", FAILING),
        ("the loader panics", PANICKING),
        ("the loader hangs", HANGING),
    ] {
        let world = World::new();
        for calls in 1..=2 {
            let reply = world.bearer(token).await;
            assert_eq!(reply.status, 503, "{trouble}");
            assert_eq!(reply.one(RETRY_AFTER), "1", "{trouble}");
            assert_eq!(reply.all(WWW_AUTHENTICATE), [""; 0], "{trouble}");
            assert!(!format!("{reply:?}").contains("hunter2"), "{trouble}");
            let detail = "The API token cannot be verified at the moment.";
            assert_eq!(reply.json()["detail"], detail, "{trouble}");
            assert_eq!(
                world.calls(),
                calls,
                "{trouble}: the next request tries again"
            );
            assert_eq!(
                crate::common::local_entries(&world.cache),
                (0, 0),
                "{trouble}"
            );
        }
        world.database.healthy.store(true, Ordering::SeqCst);
        world.bearer(token).await.assert_served();
        assert_eq!(world.reached(), [Some("tok-late".to_owned())]);
    }
}

/// 24, 42: a record of another token is an outage, and never an identity.
#[tokio::test]
async fn a_loader_that_answers_for_another_token_is_503() {
    let world = World::new();
    let failed = world.bearer(FAILING).await;
    assert_eq!(world.bearer(MISTAKEN).await, failed);
    assert_eq!(world.bearer(SUSPENDED_MISTAKEN).await, failed);
    assert!(world.reached().is_empty());
}

/// 24
#[tokio::test]
async fn a_request_beyond_the_cap_of_loads_is_503_at_once() {
    let world = World::with_cache(|builder| builder.max_concurrent_loads(1).max_queued_loads(0));
    let gate = world.database.gate.clone();
    gate.close();
    let (first, second) = tokio::join!(world.bearer(GOOD), async {
        gate.reached(1).await;
        let second = world.bearer(UNKNOWN).await;
        gate.open();
        second
    });
    first.assert_served();
    assert_eq!(
        (second.status.as_u16(), second.one(RETRY_AFTER)),
        (503, "1")
    );
    assert_eq!(world.calls(), 1);
    let again = world.bearer(UNKNOWN).await;
    again.assert_rejected(401, INVALID);
}

/// 26
#[tokio::test]
async fn every_waiter_of_a_load_that_panics_is_released() {
    const WAITERS: usize = 8;
    let world = World::new();
    let gate = world.database.gate.clone();
    gate.close();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let service = world
                .layer
                .layer(service_fn(|_: Request<Empty<Bytes>>| async {
                    Ok::<_, Infallible>(Response::new(Full::from("served")))
                }));
            tokio::spawn(async move {
                Reply::read(service.oneshot(bearer(PANICKING)).await.unwrap()).await
            })
        })
        .collect();
    gate.reached(1).await;
    // All but the first have joined the call before it ends.
    while world.cache.stats().joined < WAITERS as u64 - 1 {
        tokio::task::yield_now().await;
    }
    gate.open();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().status, 503);
    }
    assert_eq!(world.calls(), 1);
}

/// 27
#[tokio::test]
async fn in_optional_mode_a_presented_token_must_be_valid() {
    let required = World::new();
    let world = World::new().layer(|layer| layer.optional());
    for value in [
        format!("Bearer {UNKNOWN}"),
        format!("Bearer {REVOKED}"),
        format!("Bearer {EXPIRED}"),
        format!("Bearer {OTHER_TYPE}"),
        format!("Bearer {SUSPENDED}"),
        format!("Bearer {FAILING}"),
        "Bearer".to_owned(),
        "Bearer a,b".to_owned(),
    ] {
        let expected = required.authorization(&value).await;
        assert_ne!(expected.status, 200);
        assert_eq!(world.authorization(&value).await, expected, "{value}");
    }
    assert!(world.reached().is_empty());
    world.bearer(GOOD).await.assert_served();
    assert_eq!(world.reached(), [Some("tok-good".to_owned())]);
}

/// 29
#[tokio::test]
async fn a_token_already_in_the_extensions_is_always_removed() {
    let smuggler = World::new();
    let answer = smuggler
        .cache
        .authenticate_typed(GOOD, "app")
        .await
        .unwrap();
    let smuggled = answer.valid().unwrap();
    let with = |mut request: Request<Empty<Bytes>>| {
        request.extensions_mut().insert(smuggled.clone());
        request
    };

    let world = World::new().layer(|layer| layer.optional());
    let mut preflight = preflight();
    preflight
        .headers_mut()
        .insert(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
    for anonymous in [get(&[]), get(&[b"Basic YTpi"]), preflight] {
        world.send(with(anonymous)).await.assert_served();
    }
    assert_eq!(world.reached(), vec![None; 3]);

    // Loaded, then from memory.
    for _ in 0..2 {
        let request = with(bearer("any-other-0123456789"));
        world.send(request).await.assert_served();
    }
    let other = Some("tok-any".to_owned());
    assert_eq!(world.reached()[3..], [other.clone(), other]);

    let world = World::new();
    for (name, request) in rejected() {
        let reply = world.send(with(request)).await;
        assert!(reply.status.as_u16() >= 400, "{name}: {reply:?}");
    }
    assert!(world.reached().is_empty());
}
