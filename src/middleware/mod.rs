//! The Tower middleware around an inner service.

mod authenticator;
#[cfg(feature = "axum")]
mod axum;
mod body;
pub(crate) mod builder;
mod cache_control;
pub(crate) mod credentials;
mod decision;
mod expiry_notice;
mod future;
pub(crate) mod layer;
mod mark;
mod policy;
mod rejected;
pub(crate) mod rejection;
pub(crate) mod request_head;
mod required_scopes;
mod service;
#[cfg(feature = "tracing")]
mod span_fields;
mod verification;

#[cfg(feature = "axum")]
pub use axum::MissingApiToken;
pub use body::ResponseBody;
pub use credentials::MultipleTokens;
pub use decision::Decision;
pub use future::ResponseFuture;
pub use rejected::Rejected;
pub use service::ApiTokenService;
pub use verification::{UnverifiedToken, Verification};
