//! The axum extractor of the verified token.

use std::error::Error;
use std::fmt;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::cache::cached_token::{Anonymous, CachedApiToken};

/// A handler takes a [`CachedApiToken`], and the request has none of this type.
///
/// This is a mistake in the service and answered with 500: [`ApiTokenLayer`](crate::ApiTokenLayer) is not
/// installed on the route, has another metadata type than the handler asks for, or is
/// [optional](crate::ApiTokenLayerBuilder::optional), and the handler does not take `Option<CachedApiToken>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingApiToken(());

impl fmt::Display for MissingApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no verified API token in the request: is ApiTokenLayer installed on this route, with the same metadata type?",
        )
    }
}

impl Error for MissingApiToken {}

impl IntoResponse for MissingApiToken {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// Extracts the token that the layer verified.
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

/// Extracts the token, or `None` if an [optional](crate::ApiTokenLayerBuilder::optional) layer let the request
/// pass without one.
///
/// Without the layer this is an error too, so that a forgotten layer does not make every request anonymous.
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
