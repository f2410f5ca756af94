//! Middleware that authenticates API tokens.
//!
//! [`ApiTokenLayer`] reads a token from each request, looks it up in an [`ApiTokenCache`], and inserts a
//! [`CachedApiToken`] into the request's extensions. Requests without a valid token are rejected before they reach the
//! inner service.
//!
//! Note that failing to *verify* a token is not the same as an invalid token: the former is a `503`, the latter a `401`.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Extension, Router, routing::get};
//! use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenRecord};
//!
//! async fn find_token(lookup: Lookup) -> Result<Option<TokenRecord>, std::io::Error> {
//!     // SELECT id FROM tokens WHERE digest = $1 AND revoked_at IS NULL
//!     let _ = lookup.digest();
//!     Ok(None)
//! }
//!
//! async fn whoami(Extension(token): Extension<CachedApiToken>) -> String {
//!     token.id().to_owned()
//! }
//!
//! # fn app() -> Result<Router, tower_api_token::ConfigError> {
//! let cache = ApiTokenCache::builder(find_token).build()?;
//! let app = Router::new()
//!     .route("/whoami", get(whoami))
//!     .layer(ApiTokenLayer::new(cache.clone()));
//! # Ok(app)
//! # }
//! # app().unwrap();
//! # }
//! ```
//!
//! The cache is in this process's memory ([`MemoryStore`]). With more than one process, share it in Redis:
//! `.store(RedisStore::new("redis://127.0.0.1:6379")?)`.
//!
//! Here the table of tokens is yours, and so is the loader. [tower-api-token-sqlx](https://docs.rs/tower-api-token-sqlx) has
//! both, for keys in PostgreSQL or SQLite: it issues, rotates and revokes them, and invalidates what it changes.
//!
//! # Before production
//!
//! * **Commit, then [invalidate](ApiTokenCache::invalidate)**, wherever a token or its tenant changes, and repeat it until it
//!   is `Ok`: [`retry_for`](Invalidation::retry_for) a while, best with an [outbox](guide::deployment#the-outbox). Without
//!   it, the old answer is served until its entry expires.
//! * **The loader reads the primary**, and returns `None` for a revoked token. Its error means "cannot tell".
//! * **Give all instances the same [`max_staleness`](ApiTokenCacheBuilder::max_staleness).**
//! * **Configure Redis as a cache**: no persistence, `maxmemory`, a dedicated user ([deployment](guide::deployment)).
//! * **Check the [order of layers](ApiTokenLayer#order-of-layers)**: CORS and tracing outside, limits by caller inside.
//! * **Set [`max_concurrent_loads`](ApiTokenCacheBuilder::max_concurrent_loads)** to what the connection pool can spare.
//! * **Run a [`RevocationCanary`]**, which measures how long a revocation takes, and alert on
//!   [what it records](guide::deployment#is-a-revocation-in-force-in-time).
//!
//! # What is promised
//!
//! A *change* is a commit in the database followed by an invalidation that returned `Ok`.
//!
//! 1. After [`invalidate(…)`](ApiTokenCache::invalidate)[`.wait_for_all_instances()`](Invalidation::wait_for_all_instances),
//!    every instance answers later requests from a database state that includes the change.
//! 2. After plain `invalidate(…)`, this instance does. Other instances may serve the old answer from memory: for
//!    milliseconds where Redis [reports changes](guide::semantics#client-tracking), and always for less than
//!    [`max_staleness`](ApiTokenCacheBuilder::max_staleness) (1 s).
//! 3. Requests already in flight may still get the old answer. A later one never gets it by joining that lookup.
//!    [`CachedApiToken::revoked`] ends streams that are open.
//! 4. Creating a token is a change too: "unknown" may be cached for it.
//! 5. Without faults, all concurrent requests for one uncached token, in all instances, cause one load; a second one only
//!    if the token, or some tenant, is invalidated meanwhile.
//! 6. `Err` from an invalidation means "not confirmed": repeat it until it is `Ok`.
//! 7. "Cannot tell" is never reported as invalid. It is [`Unavailable`], a 503, and is not cached.
//!
//! What is not promised is in [semantics](guide::semantics#limitations).
//!
//! # Guides
//!
//! [Adopting it with an existing table](guide::existing_table), [frameworks](guide::frameworks),
//! [OpenAI-compatible services](guide::openai), [semantics](guide::semantics), [glossary](guide::glossary),
//! [deployment](guide::deployment), [forward authentication](guide::forward_auth), [testing](guide::testing),
//! [security](guide::security), [failures](guide::failures), [metrics](guide::metrics),
//! [last use](guide::last_use), [performance](guide::performance), [migrating from Dify](guide::migrating_from_dify), and
//! for those who change the crate [architecture](guide::architecture) and [protocol](guide::protocol).
//!
//! # Features
//!
//! | feature | default | enables |
//! |---|---|---|
//! | `redis` | yes | [`RedisStore`]: one server |
//! | `redis-rustls`, `redis-sentinel`, `redis-cluster` | no | TLS, the master that sentinels name, a cluster |
//! | `dify` | yes | the key layout of Dify's Python cache; use it only beside Dify's own service. Implies `redis` |
//! | `tracing` | yes | a span for each miss, an event for each rejection, rate-limited warnings |
//! | `metrics` | no | `ApiTokenCache::publish_metrics`: counters, gauges and histograms ([table](guide::metrics)) |
//! | `axum` | no | [`CachedApiToken`] as an extractor |
//! | `test-util` | no | [for tests](guide::testing): fixed tokens, a manual clock, and gates inside the protocol |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

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
        all(
            feature = "axum",
            feature = "dify",
            feature = "metrics",
            feature = "redis-rustls",
            feature = "test-util"
        )
    )
))]
// Or each page would say that it needs these features.
#[cfg_attr(docsrs, doc(auto_cfg = false))]
pub mod guide;
pub mod last_use;
mod loader;
pub mod metrics;
pub mod middleware;
#[cfg(all(test, feature = "dify"))]
mod properties;
mod rate_limiter;
pub mod store;
#[cfg(feature = "test-util")]
pub mod test_util;
mod token;
mod trace;
mod util;

pub use cache::{
    Answer, ApiTokenCache, ApiTokenCacheBuilder, CachedApiToken, CanaryError, InvalidateError,
    InvalidateErrorKind, Invalidation, InvalidationReceipt, MeasuredRevocation, RevocationCanary,
    Revoked, Unavailable, UnavailableKind,
};
pub use error::{BoxError, ConfigError};
pub use loader::{Lookup, TokenLoader};
pub use metrics::Origin;
pub use middleware::builder::ApiTokenLayerBuilder;
pub use middleware::credentials::TokenSource;
pub use middleware::layer::ApiTokenLayer;
pub use middleware::rejection::Rejection;
pub use store::memory::MemoryStore;
#[cfg(feature = "redis")]
pub use store::redis::RedisStore;
pub use token::{
    BearerToken, Denial, GenerateError, IntoOptionalText, IntoTimestamp, InvalidReason,
    ParseDigestError, TokenDigest, TokenFormat, TokenRecord,
};

/// Responses to rejected requests.
pub mod rejection {
    pub use crate::middleware::rejection::{ProblemDetails, ResponseForRejection, StatusOnly};
    pub use crate::middleware::request_head::RequestHead;
}
