//! Tower middleware for bearer API tokens: who is calling, fast and truthfully.

#[cfg(feature = "axum")]
mod axum;
mod cache;
mod error;
mod extract;
mod future;
mod layer;
mod loader;
mod rejection;
mod service;
pub mod store;
mod telemetry;
#[cfg(feature = "test-util")]
pub mod test_util;
mod token;

#[cfg(feature = "axum")]
pub use axum::MissingApiToken;
pub use cache::{
    Absence, Answer, ApiTokenCache, ApiTokenCacheBuilder, Invalidation, Outcome, Stats,
};
pub use error::{ConfigError, InvalidateError, Unavailable, UnavailableKind};
pub use future::ResponseFuture;
pub use layer::ApiTokenLayer;
pub use loader::{BoxError, IntoVerdict, LoaderFn, Lookup, TokenLoader, loader_fn};
pub use rejection::{MakeRejection, ProblemDetails, Refusal, ResponseBody};
pub use service::ApiTokenService;
#[cfg(feature = "redis")]
pub use store::redis::RedisStore;
pub use store::{IntoStore, KeyLayout, MemoryStore, StoreError};
pub use token::{
    BearerToken, CachedApiToken, Denial, Origin, ParseDigestError, TokenDigest, TokenRecord,
    Verdict,
};
