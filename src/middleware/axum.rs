//! The verified token as an axum extractor.

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::cache::cached_token::{Anonymous, CachedApiToken};

/// There is no verified token in the request: [`ApiTokenLayer`](crate::ApiTokenLayer) is not
/// installed on the route, or is [optional](crate::ApiTokenLayerBuilder::optional) there and the handler
/// asks for a token all the same (ask for `Option<CachedApiToken>`), or another metadata type is
/// asked for. A mistake in the service: 500, never a silent anonymous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingApiToken(());

impl std::fmt::Display for MissingApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "no verified API token in the request: is ApiTokenLayer installed on this route?",
        )
    }
}

impl std::error::Error for MissingApiToken {}

impl IntoResponse for MissingApiToken {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

impl<M, S> FromRequestParts<S> for CachedApiToken<M>
where
    M: Send + Sync + 'static,
    S: Send + Sync,
{
    type Rejection = MissingApiToken;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or(MissingApiToken(()))
    }
}

/// `None` for a request that an [optional](crate::ApiTokenLayerBuilder::optional) layer let pass without a
/// credential. Without the layer it is the same mistake as above, and not a silent anonymous.
impl<M, S> OptionalFromRequestParts<S> for CachedApiToken<M>
where
    M: Send + Sync + 'static,
    S: Send + Sync,
{
    type Rejection = MissingApiToken;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        match parts.extensions.get::<Self>() {
            Some(token) => Ok(Some(token.clone())),
            None if parts.extensions.get::<Anonymous<M>>().is_some() => Ok(None),
            None => Err(MissingApiToken(())),
        }
    }
}
