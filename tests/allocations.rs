//! Counts the allocations of a request on the hot path. `docs/performance.md` has the times, which no test asserts.

#![cfg(feature = "redis")]

#[path = "../benches/common/hot.rs"]
mod hot;

use std::time::Duration;

use allocation_counter::measure;
use hot::{
    Layered, answer, audited, bare_request, builder, checked, credential, layered, routed_request,
};
use http::{HeaderValue, Request, StatusCode};
use test_support::RedisServer;
use tower::Layer;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, RedisStore, Rejection};

/// Long enough that no entry is refreshed or expires during a test.
const LONG: Duration = Duration::from_secs(3_600);

const UNKNOWN: &str = "unknown-0123456789abcdef";

/// Counts the service's allocations for the request, apart from those that build it.
fn allocations(service: &mut Layered, request: Request<()>, status: StatusCode) -> u64 {
    // `Bytes` allocates its reference count when it is first cloned: once for each challenge of a layer.
    answer(service, request.clone());
    let mut answered = None;
    let counted = measure(|| answered = Some(answer(service, request)));
    assert_eq!(answered.unwrap().status(), status);
    counted.count_total
}

async fn warmed(cache: &ApiTokenCache) {
    for token in [hot::token(0).as_str(), UNKNOWN] {
        cache.warm(token).await.unwrap();
    }
}

async fn over_redis() -> (RedisServer, ApiTokenCache) {
    let server = RedisServer::start();
    let store = RedisStore::new(&server.url()).unwrap();
    let builder = builder().store(store).max_staleness(LONG).ttl(LONG);
    let cache = builder.negative_ttl(LONG).build().unwrap();
    warmed(&cache).await;
    (server, cache)
}

fn hit(cache: &ApiTokenCache, make: fn(Option<&HeaderValue>) -> Request<()>) -> u64 {
    let request = make(Some(&credential(&hot::token(0))));
    allocations(&mut layered(cache), request, StatusCode::OK)
}

/// The two allocations of a `HeaderMap`. The inner service's response has no header before ours.
const HEADERS: u64 = 2;

#[tokio::test]
async fn a_local_hit_allocates_the_extension() {
    let (_server, cache) = over_redis().await;
    assert_eq!(hit(&cache, routed_request), 1 + HEADERS);
    // `http` allocates the map of a request's extensions, and its table, at the first insertion.
    assert_eq!(hit(&cache, bare_request), 3 + HEADERS);
}

#[tokio::test]
async fn a_hit_of_the_memory_store_allocates_the_extension() {
    let cache = builder().ttl(LONG).build().unwrap();
    warmed(&cache).await;
    assert_eq!(hit(&cache, routed_request), 1 + HEADERS);
    assert_eq!(hit(&cache, bare_request), 3 + HEADERS);
}

#[tokio::test]
async fn telling_of_a_decision_allocates_nothing() {
    let cache = builder().ttl(LONG).build().unwrap();
    warmed(&cache).await;
    let request = routed_request(Some(&credential(&hot::token(0))));
    let hit = allocations(&mut audited(&cache), request, StatusCode::OK);
    assert_eq!(hit, 1 + HEADERS);
    let request = bare_request(Some(&credential(UNKNOWN)));
    let rejection = allocations(&mut audited(&cache), request, StatusCode::UNAUTHORIZED);
    assert_eq!(rejection, HEADERS);

    // Whose token a policy rejects is copied: a box, the id and the tenant.
    let rejecting = || {
        let layer = ApiTokenLayer::builder(cache.clone()).token_type(hot::TYPE);
        layer.policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE))
    };
    let plain = rejecting().build().unwrap();
    let audited = rejecting().on_decision(|_| ()).build().unwrap();
    let [plain, audited] = [plain, audited].map(|layer| {
        let request = routed_request(Some(&credential(&hot::token(0))));
        allocations(
            &mut layer.layer(hot::Nothing),
            request,
            StatusCode::FORBIDDEN,
        )
    });
    assert_eq!(audited, plain + 3);
}

#[tokio::test]
async fn a_rejection_allocates_its_headers() {
    let (_server, cache) = over_redis().await;
    let (mut plain, mut checked) = (layered(&cache), checked(&cache));
    let malformed = credential("a b");
    let unknown = credential(UNKNOWN);
    let mistyped = hot::mistyped();
    let rejections = [
        ("unknown", &mut plain, Some(&unknown)),
        ("malformed", &mut layered(&cache), Some(&malformed)),
        ("mistyped", &mut checked, Some(&mistyped)),
        ("no token", &mut layered(&cache), None),
    ];
    for (what, service, credential) in rejections {
        let request = bare_request(credential);
        let counted = allocations(service, request, StatusCode::UNAUTHORIZED);
        assert_eq!(counted, HEADERS, "{what}");
    }
}
