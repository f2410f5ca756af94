//! The servers: the same route without a layer, behind the layer, and behind a hand-written middleware.

use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use tower::util::MapResponseLayer;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, RedisStore};

use super::by_hand;
use super::local_hits::{BARE, BY_HAND, LAYER, NOTHING, SHORT, TOKENS};
use crate::common::hot;
use crate::serve;

/// Turns the local level off, to compare hits in Redis.
pub(crate) const UNCACHED_LAYER: &str = "Redis hits, the layer";
pub(crate) const UNCACHED_BY_HAND: &str = "Redis hits, by hand";

/// Longer than the bench, to compare hits.
const LONG: Duration = Duration::from_secs(3_600);

/// Serves until the input is closed.
pub(crate) async fn serve(name: &str, redis: &str) {
    let router = Router::new().route("/", get(async || "ok"));
    let router = match name {
        BARE => router,
        NOTHING => router.layer(MapResponseLayer::new(|response: Response| {
            response.map(|body| body.map_err(|error| error))
        })),
        LAYER => router.layer(cached(redis, LONG).await),
        SHORT => router.layer(cached(redis, Duration::from_secs(1)).await),
        BY_HAND => {
            let cached = by_hand::Cached::connect(redis, TOKENS, LONG).await;
            router.layer(from_fn_with_state(cached, by_hand::cached))
        }
        UNCACHED_LAYER => router.layer(layer(uncached(redis))),
        UNCACHED_BY_HAND => {
            let uncached = by_hand::Uncached::connect(redis).await;
            router.layer(from_fn_with_state(uncached, by_hand::uncached))
        }
        other => panic!("no server {other}"),
    };
    serve::until_input_ends(router).await;
}

fn layer(cache: ApiTokenCache) -> ApiTokenLayer {
    ApiTokenLayer::builder(cache)
        .token_type("app")
        .build()
        .unwrap()
}

/// Returns a layer with all tokens in memory.
async fn cached(redis: &str, bound: Duration) -> ApiTokenLayer {
    let store = RedisStore::new(redis).expect("a url");
    let builder = hot::builder().store(store).ttl(LONG);
    let cache = builder.max_staleness(bound).build();
    let cache = cache.expect("a configuration");
    prime(&cache, TOKENS).await;
    layer(cache)
}

/// Returns a cache with all tokens in Redis, none in memory, and records without a tenant.
pub(crate) fn uncached(redis: &str) -> ApiTokenCache {
    // A busy machine must not look like an outage.
    let store = RedisStore::new(redis).expect("a url");
    let store = store.response_timeout(Duration::from_secs(5));
    let builder = hot::builder_without_tenant().store(store);
    let cache = builder
        .token_types(["app"])
        .ttl(LONG)
        .local_capacity(0)
        .build();
    cache.expect("a configuration")
}

pub(crate) async fn prime(cache: &ApiTokenCache, tokens: usize) {
    for n in 0..tokens {
        let primed = cache.warm(&hot::token(n)).await;
        primed.expect("Redis");
    }
}
