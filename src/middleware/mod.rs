//! The middleware: what happens to a request over HTTP.

#[cfg(feature = "axum")]
mod axum;
mod body;
mod cache_control;
pub(crate) mod credentials;
mod future;
mod layer;
mod policy;
pub(crate) mod rejection;
mod request_head;
mod service;

#[cfg(feature = "axum")]
pub use axum::MissingApiToken;
pub use body::ResponseBody;
pub use future::ResponseFuture;
pub use layer::ApiTokenLayer;
pub use policy::{InsufficientScope, PolicyRequest};
pub use request_head::RefusedRequest;
pub use service::ApiTokenService;
