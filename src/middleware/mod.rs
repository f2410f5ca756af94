//! The Tower middleware around an inner service.

mod authenticator;
#[cfg(feature = "axum")]
mod axum;
mod body;
pub(crate) mod builder;
mod cache_control;
pub(crate) mod credentials;
mod future;
pub(crate) mod layer;
mod policy;
pub(crate) mod rejection;
pub(crate) mod request_head;
mod service;

#[cfg(feature = "axum")]
pub use axum::MissingApiToken;
pub use body::ResponseBody;
pub use future::ResponseFuture;
pub use service::ApiTokenService;
