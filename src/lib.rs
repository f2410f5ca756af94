//! Tower middleware that tells who is calling: bearer API tokens, verified against a cache in this
//! process and in Redis, and against your database where the cache cannot say.
//!
//! * [`ApiTokenLayer`] reads the token of each request, and puts a [`CachedApiToken`] into the
//!   request's extensions or refuses it.
//! * [`ApiTokenCache`] is what it asks, and can be asked without HTTP.
//! * [`TokenFormat`] makes tokens, and tells invented ones before they are looked up.
//! * [`TokenLoader`] asks your database. A closure is one.
//! * [`RedisStore`] shares the cache in a fleet; without it a [`MemoryStore`] keeps it in the process.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenRecord};
//!
//! # fn app() -> Result<Router, tower_api_token::ConfigError> {
//! let loader = |lookup: Lookup| async move {
//!     // `SELECT … WHERE digest = $1 AND type = $2 AND revoked_at IS NULL`
//!     let _ = (lookup.digest(), lookup.scope());
//!     Ok::<_, std::io::Error>(None::<TokenRecord>)
//! };
//! let cache = ApiTokenCache::builder(loader).scopes(["app"]).build()?;
//! let app = Router::new()
//!     .route("/v1/whoami", get(|token: CachedApiToken| async move { token.id().to_owned() }))
//!     .layer(ApiTokenLayer::new(cache).with_scope("app"));
//! # Ok(app)
//! # }
//! # app().unwrap();
//! # }
//! ```
//!
//! # Before it serves
//!
//! * **Commit, then [invalidate](ApiTokenCache::invalidate)**, wherever a token or its tenant
//!   changes, and repeat it until it is `Ok`. Without it a change holds when the time to live is over.
//! * **The loader reads the primary**, and returns `None` for what is revoked. An error of it means
//!   "we cannot tell" ([`TokenLoader`]).
//! * **Declare the [scopes](ApiTokenCacheBuilder::scopes)**, and give all instances the same
//!   [staleness bound](ApiTokenCacheBuilder::staleness_bound).
//! * **Let Redis keep nothing on disk**, and give it `maxmemory` and a user of its own
//!   ([deployment](guide::deployment)).
//! * **Mind the order of layers**: CORS and tracing outside, limits by caller inside
//!   ([`ApiTokenLayer`]).
//! * **Let as many loads run at once as the pool can give**
//!   ([`max_loads`](ApiTokenCacheBuilder::max_loads)).
//!
//! # What is promised
//!
//! A *change* is a commit in the database followed by an invalidation; it is *complete* when the
//! invalidation returned `Ok`.
//!
//! 1. After [`invalidate(…)`](ApiTokenCache::invalidate)[`.and_wait()`](Invalidation::and_wait), a
//!    request that starts later is answered, by every instance, from a database state that includes
//!    the change.
//! 2. After `invalidate(…)` alone it is the same, except that another instance's local level may answer
//!    from before for less than the
//!    [staleness bound](ApiTokenCacheBuilder::staleness_bound) (1 s) after the invalidation's reply;
//!    for a tenant's invalidation that includes a value from Redis whose generation the local level
//!    confirms.
//! 3. A request that started before may get either answer. Nobody who merely joins its look-up later
//!    does.
//! 4. A created token is the same with "absent" as what was before: hand it out after the invalidation
//!    returned.
//! 5. Without faults, any number of requests at once, in any number of instances, for one uncached
//!    token cause one load; a second only if it, or some tenant, is invalidated meanwhile.
//! 6. `Err` from an invalidation means *not confirmed*: repeat it until it is `Ok`.
//! 7. That we cannot tell is never called absent: it is [`Unavailable`], over HTTP a 503, and nothing
//!    is cached of it.
//!
//! # What is not
//!
//! 1. An asynchronous fail-over of Redis, or its restart from a file, can undo a deletion: the old
//!    value lives for what is left of its time. [`durable`](Invalidation::durable), or no persistence
//!    on the cache, closes it.
//! 2. After a split brain, readers on the old master are stale until it stops serving
//!    (`min-replicas-to-write`).
//! 3. A change in the database without an invalidation holds when the time to live is over.
//! 4. The bound is at the check of an entry: a process that is stopped right after it answers late by
//!    that time.
//! 5. A Redis that evicts the registry of scopes, and not the entries, can hide from a process that
//!    never saw it another's scope, or a staleness bound longer than its own, until the other looks
//!    Redis up again and a minute has passed. [Declare the scopes](ApiTokenCacheBuilder::scopes), and
//!    give all instances the same bound: then nothing depends on it.
//!
//! # Guides
//!
//! [`guide`] has the longer texts: [what an answer means and when a change holds](guide::semantics),
//! [which Redis and how much of it](guide::deployment), [using it safely](guide::security), [what
//! happens when things break](guide::failures), [metrics](guide::metrics), [last uses](guide::usage),
//! [costs](guide::performance), and the [protocol](guide::protocol) with its counterexamples.
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `redis` | yes | [`RedisStore`]: one server |
//! | `redis-rustls`, `redis-sentinel`, `redis-cluster` | no | TLS to it; whatever master the sentinels name; a cluster |
//! | `local` | yes | the local level in front of Redis |
//! | `tracing` | yes | a span for each miss, an event for each refusal, rate-limited warnings |
//! | `metrics` | no | `ApiTokenCache::publish_metrics`: counters, gauges and times by the facade `metrics` ([table](guide::metrics)) |
//! | `axum` | no | [`CachedApiToken`] as an extractor |
//! | `test-util` | no | an injected clock, and gates inside the protocol, for tests |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs)]

mod cache;
mod clock;
mod error;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzzing;
// For documentation alone: nothing of it is compiled into a service. Its examples need these features.
#[cfg(all(
    doc,
    any(
        not(doctest),
        all(feature = "axum", feature = "metrics", feature = "redis-rustls")
    )
))]
pub mod guide;
mod loader;
mod metrics;
mod middleware;
#[cfg(all(test, feature = "redis"))]
mod properties;
mod rate_limiter;
mod store;
mod task;
#[cfg(feature = "test-util")]
pub mod test_util;
mod token;
mod trace;
mod usage;
mod util;

pub use cache::{
    Answer, ApiTokenCache, ApiTokenCacheBuilder, CachedApiToken, InvalidateError, Invalidation,
    Unavailable, UnavailableKind,
};
pub use error::{BoxError, ConfigError};
pub use loader::{Lookup, TokenLoader};
pub use metrics::{Origin, Outcome, Stats};
#[cfg(feature = "axum")]
pub use middleware::MissingApiToken;
pub use middleware::credentials::TokenSource;
pub use middleware::rejection::{MakeRejection, ProblemDetails, Refusal};
pub use middleware::{
    ApiTokenLayer, ApiTokenService, InsufficientScope, PolicyRequest, RefusedRequest, ResponseBody,
    ResponseFuture,
};
#[cfg(feature = "redis")]
pub use store::redis::RedisStore;
#[cfg(feature = "redis-rustls")]
pub use store::redis::RedisTls;
pub use store::{IntoStore, KeyLayout, MemoryStore, StoreError};
pub use token::{
    BearerToken, Denial, GenerateError, InvalidReason, ParseDigestError, TokenDigest, TokenFormat,
    TokenRecord,
};
pub use usage::{Usage, UsageRecorder, UsageSink};

/// The README's examples.
#[cfg(all(doctest, feature = "axum", feature = "redis"))]
#[doc = include_str!("../README.md")]
mod readme {}
