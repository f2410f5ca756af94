//! Tests of required scopes in layers inside of each other, and of scopes in Redis (http.md line 48).

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use crate::common::redis;
use http::{Request, Response};
use test_support::RedisServer;
use tower::util::MapRequestLayer;
use tower::{Layer, ServiceExt, service_fn};
use tower_api_token::middleware::Verification;
use tower_api_token::store::KeyLayout;
use tower_api_token::test_util::ManualClock;
use tower_api_token::{
    ApiTokenCache, ApiTokenCacheBuilder, ApiTokenLayer, CachedApiToken, Lookup, MemoryStore,
    TokenRecord,
};

const READER: &str = "app-reader-0123456789";
const WRITER: &str = "app-writer-0123456789";

fn builder() -> ApiTokenCacheBuilder<()> {
    ApiTokenCache::builder(|lookup: Lookup| async move {
        let record = |id: &str| TokenRecord::new(id).token_type("app");
        Ok::<_, Infallible>(match lookup.token().expose() {
            READER => Some(record("reader").scopes(["orders:read"])),
            WRITER => Some(record("writer").scopes(["orders:read", "orders:write"])),
            _ => None,
        })
    })
}

fn cache() -> ApiTokenCache {
    builder().store(MemoryStore::new()).build().unwrap()
}

fn with(token: Option<&str>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(token) = token {
        let line = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", line);
    }
    request
}

/// Sends a request with this token through `outer` and then `inner`. Returns the status, and the
/// id of the token in the service.
async fn through(
    outer: &ApiTokenLayer,
    inner: &ApiTokenLayer,
    token: Option<&str>,
) -> (u16, String) {
    let service = outer.layer(inner.layer(service_fn(|request: Request<()>| {
        let token = request.extensions().get::<CachedApiToken>();
        let id = token.map_or("nobody", CachedApiToken::id).to_owned();
        let marked = Verification::<()>::from_extensions(request.extensions());
        let verified = marked.and_then(Verification::verified);
        assert_eq!(verified.is_some(), token.is_some());
        ready(Ok::<_, Infallible>(Response::new(id)))
    })));
    let response = service.oneshot(with(token)).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap();
    let text = String::from_utf8(body.to_bytes().into()).unwrap();
    (parts.status.as_u16(), text)
}

fn lookups(cache: &ApiTokenCache) -> u64 {
    cache.stats().lookups().map(|(.., count)| count).sum()
}

#[tokio::test]
async fn a_stricter_copy_inside_looks_nothing_up() {
    let cache = cache();
    let plain = ApiTokenLayer::new(cache.clone());
    let stripping = ApiTokenLayer::builder(cache.clone()).strip_credentials();
    for (sent, outer) in [plain, stripping.build().unwrap()].iter().enumerate() {
        let inner = outer.require_scopes("orders:write").unwrap();
        let (status, id) = through(outer, &inner, Some(WRITER)).await;
        assert_eq!((status, id.as_str()), (200, "writer"));
        let (status, _) = through(outer, &inner, Some(READER)).await;
        assert_eq!(status, 403);
        assert_eq!(lookups(&cache), 2 * (sent as u64 + 1), "one per request");
    }
    // A copy of a copy has the scopes of both.
    let layer = ApiTokenLayer::new(cache.clone());
    let reading = layer.require_scopes("orders:read").unwrap();
    let both = reading.require_scopes("orders:write").unwrap();
    assert_eq!(through(&reading, &both, Some(READER)).await.0, 403);
    assert_eq!(through(&layer, &reading, Some(READER)).await.0, 200);
}

/// While the request was between the two layers.
#[tokio::test]
async fn a_token_that_expired_since_the_outer_layer_is_refused_by_the_inner_one() {
    let clock = ManualClock::new();
    let expires_at = clock.now() + Duration::from_secs(10);
    let record = TokenRecord::new("reader")
        .scopes(["orders:read"])
        .expires_at(expires_at);
    let loader = move |_: Lookup| ready(Ok::<_, Infallible>(Some(record.clone())));
    let cache = ApiTokenCache::builder(loader)
        .clock(clock.clone())
        .build()
        .unwrap();
    let outer = ApiTokenLayer::new(cache.clone());
    let inner = outer.require_scopes("orders:read").unwrap();
    for (waits, status) in [(9, 200), (1, 401)] {
        let clock = clock.clone();
        let waiting = MapRequestLayer::new(move |request: Request<()>| {
            clock.advance(Duration::from_secs(waits));
            request
        });
        let service = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
        let service = outer.layer(waiting.layer(inner.layer(service)));
        let response = service.oneshot(with(Some(READER))).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "after {waits} s");
    }
}

/// Each of the two layers asks what is report-only: a request is counted twice, and once if it gets no further.
#[tokio::test]
async fn layers_inside_each_other_both_report() {
    let cache = cache();
    let layer = ApiTokenLayer::builder(cache.clone()).require_scopes_report_only("orders:delete");
    let layer = layer.build().unwrap();
    let inner = layer.require_scopes("orders:write").unwrap();
    let reported = || cache.stats().report_only_rejections;
    assert_eq!(through(&layer, &inner, Some(WRITER)).await.0, 200);
    assert_eq!(reported(), 2);
    assert_eq!(through(&layer, &inner, Some(READER)).await.0, 403);
    assert_eq!(reported(), 3);
}

#[tokio::test]
async fn a_stricter_copy_alone_verifies_the_token_itself() {
    let cache = cache();
    let optional = ApiTokenLayer::builder(cache.clone()).optional();
    let optional = optional.build().unwrap();
    let strict = optional.require_scopes("orders:write").unwrap();
    let verify = async |token: Option<&str>| {
        let mut request = Request::builder();
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let parts = request.body(()).unwrap().into_parts().0;
        match strict.verify(&parts).await {
            Ok(_) => 200,
            Err(rejected) => rejected.into_response().status().as_u16(),
        }
    };
    for (token, status) in [
        (Some(WRITER), 200),
        (Some(READER), 403),
        (Some("app-unknown-01234567"), 401),
        (None, 401),
    ] {
        assert_eq!(verify(token).await, status, "{token:?}");
        // Also within the optional layer that it is a copy of.
        assert_eq!(through(&optional, &strict, token).await.0, status);
    }
}

#[tokio::test]
async fn a_stricter_copy_trusts_only_this_cache_and_the_presented_token() {
    let cache = cache();
    let layer = ApiTokenLayer::new(cache.clone());
    let strict = layer.require_scopes("orders:write").unwrap();
    let answer = cache.authenticate(WRITER).await.unwrap();
    let writer = answer.valid().unwrap();
    let parts = |token: Option<&str>, verified: &CachedApiToken| {
        let mut request = Request::builder().extension(verified.clone());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(()).unwrap().into_parts().0
    };
    let verified = async |layer: &ApiTokenLayer, token, verified| {
        let verification = layer.verify(&parts(token, verified)).await.ok()?;
        Some(verification.verified()?.id().to_owned())
    };
    let id = |id: &str| Some(id.to_owned());
    assert_eq!(verified(&strict, Some(WRITER), &writer).await, id("writer"));
    assert_eq!(verified(&strict, None, &writer).await, id("writer"));
    // Another token than the verified one is presented.
    assert_eq!(verified(&strict, Some(READER), &writer).await, None);
    // The layer itself verifies what is presented, whatever is in the extensions.
    assert_eq!(verified(&layer, Some(READER), &writer).await, id("reader"));
    assert_eq!(verified(&layer, None, &writer).await, None);
    // Another cache, and another type.
    let other = ApiTokenLayer::new(self::cache());
    let other = other.require_scopes("orders:write").unwrap();
    assert_eq!(verified(&other, None, &writer).await, None);
    let typed = ApiTokenLayer::builder(cache.clone()).token_type("dataset");
    let typed = typed.build().unwrap().require_scopes("orders:write");
    assert_eq!(verified(&typed.unwrap(), None, &writer).await, None);
}

#[tokio::test]
async fn scopes_come_back_from_redis() {
    let server = RedisServer::start();
    for layout in [KeyLayout::digest(), KeyLayout::dify()] {
        let instance = || {
            let store = redis(&server).key_layout(layout.clone());
            let builder = builder().token_types(["app"]).store(store);
            builder.build().unwrap()
        };
        let (first, second) = (instance(), instance());
        for cache in [&first, &second] {
            let answer = cache.authenticate_typed(WRITER, "app").await.unwrap();
            let token = answer.valid().unwrap();
            let scopes: Vec<&str> = token.scopes().collect();
            assert_eq!(scopes, ["orders:read", "orders:write"]);
        }
        assert_eq!((first.stats().loads, second.stats().loads), (1, 0));
    }
}
