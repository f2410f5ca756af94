//! The axum extractors: the verified token, and what the layer found out.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::request::Parts;
use http_body::Body as _;

use crate::cache::cached_token::CachedApiToken;
use crate::metrics::Reason;
use crate::middleware::authenticator::Failure;
use crate::middleware::mark::Unverified;
use crate::middleware::rejected::Rejected;
use crate::middleware::rejection::Rejection;
use crate::middleware::verification::Verification;

/// A handler takes a [`CachedApiToken`], and the request has none of this type.
///
/// This is a mistake in the service and answered with 500: [`ApiTokenLayer`](crate::ApiTokenLayer) is not
/// installed on the route, has another metadata type than the handler asks for, or is
/// [optional](crate::ApiTokenLayerBuilder::optional), and the handler does not take `Option<CachedApiToken>`.
///
/// Only if the layer let a [token of another kind](crate::ApiTokenLayerBuilder::pass_other_tokens) pass, it is the
/// client's mistake, and the response is the layer's 401 for an invalid token.
#[derive(Debug, Clone)]
pub struct MissingApiToken(Option<Rejected>);

impl MissingApiToken {
    fn of<M: Send + Sync + 'static>(parts: &Parts) -> Self {
        let mark = parts.extensions.get::<Unverified<M>>();
        Self(mark.map(|mark| {
            let failure = Failure::new(Rejection::InvalidToken, Reason::Malformed);
            mark.authenticator
                .rejected(failure, parts)
                .within_its_layer()
        }))
    }
}

impl fmt::Display for MissingApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rejected) = &self.0 {
            return rejected.fmt(f);
        }
        f.write_str(
            "no verified API token in the request: is ApiTokenLayer installed on this route, with the same metadata type?",
        )
    }
}

impl Error for MissingApiToken {}

impl IntoResponse for MissingApiToken {
    fn into_response(self) -> Response {
        match self.0 {
            Some(rejected) => IntoResponse::into_response(rejected),
            None => (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response(),
        }
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
            // guard: H33
            .ok_or_else(|| MissingApiToken::of::<M>(parts))
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
        match Verification::from_extensions(&parts.extensions) {
            Some(Verification::Verified(token)) => Ok(Some(token)),
            Some(Verification::Anonymous) => Ok(None),
            Some(Verification::Unverified(_)) | None => Err(MissingApiToken::of::<M>(parts)),
        }
    }
}

/// Extracts what the layer found out. Without the layer this is an error.
impl<M, S> FromRequestParts<S> for Verification<M>
where
    M: Send + Sync + 'static,
    S: Send + Sync,
{
    type Rejection = MissingApiToken;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Self::from_extensions(&parts.extensions).ok_or(MissingApiToken(None))
    }
}

/// Returns the response with the part of its body that is there at once: nothing waits while a request is rejected.
pub(crate) fn collected(response: Response) -> http::Response<Bytes> {
    let (parts, mut body) = response.into_parts();
    let mut collected = BytesMut::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
        if let Some(data) = frame.data_ref() {
            collected.extend_from_slice(data);
        }
    }
    http::Response::from_parts(parts, collected.freeze())
}
