//! The servers: the same route without a layer, behind the layer, and behind a hand-written middleware.

use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use tower::util::MapResponseLayer;
use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, ApiTokenLayer, RedisStore};

use super::by_hand;
use super::local_hits::{BARE, BY_HAND, LAYER, NOTHING, SHORT, TOKENS};
use crate::common::hot;
use crate::serve;

/// Turns the local level off, to compare hits in Redis.
pub(crate) const UNCACHED_LAYER: &str = "Redis hits, the layer";
pub(crate) const UNCACHED_BY_HAND: &str = "Redis hits, by hand";
pub(crate) const WITH_TENANT: &str = "Redis hits, the layer, tokens of a tenant";
pub(crate) const BOTH_KEYS: &str = "Redis hits, the layer, tokens of a tenant, no local level";
pub(crate) const LOADING_LAYER: &str = "misses that load, the layer";
pub(crate) const LOADING_BY_HAND: &str = "misses that load, by hand";

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
        WITH_TENANT => router.layer(layer(with_tenant(redis, 1))),
        BOTH_KEYS => router.layer(layer(with_tenant(redis, 0))),
        LOADING_LAYER => router.layer(layer(loading(redis))),
        LOADING_BY_HAND => {
            let loading = by_hand::Uncached::connect(redis).await;
            router.layer(from_fn_with_state(loading, by_hand::loading))
        }
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
    cache(hot::builder_without_tenant().local_capacity(0), redis)
}

/// Returns the same for tokens of one tenant. With a local level, which is too small for the tokens, the tenant's
/// generation is in memory; without one each lookup reads it too.
pub(crate) fn with_tenant(redis: &str, local_capacity: usize) -> ApiTokenCache {
    let builder = hot::builder().namespace("tenant");
    cache(builder.local_capacity(local_capacity), redis)
}

/// Returns a cache with the default local level, in which no token is yet.
fn loading(redis: &str) -> ApiTokenCache {
    cache(hot::builder_without_tenant().namespace("loading"), redis)
}

fn cache(builder: ApiTokenCacheBuilder<()>, redis: &str) -> ApiTokenCache {
    // A busy machine must not look like an outage.
    let store = RedisStore::new(redis).expect("a url");
    let store = store.response_timeout(Duration::from_secs(5));
    let cache = builder.store(store).token_types(["app"]).ttl(LONG).build();
    cache.expect("a configuration")
}

pub(crate) async fn prime(cache: &ApiTokenCache, tokens: usize) {
    for n in 0..tokens {
        let primed = cache.warm(&hot::token(n)).await;
        primed.expect("Redis");
    }
}
