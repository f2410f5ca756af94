//! A rejection with its response.

use std::error::Error;
use std::fmt;

use bytes::Bytes;
use http::Response;

use crate::middleware::rejection::Rejection;

/// A rejected request: why, and the response to it.
///
/// The response is the one that the layer sends, with challenges, `Retry-After`, `Cache-Control` and `Vary`. With
/// the feature `axum` this is also an `IntoResponse`.
#[derive(Clone)]
pub struct Rejected(Box<Inner>);

#[derive(Clone)]
struct Inner {
    rejection: Rejection,
    response: Response<Bytes>,
}

impl Rejected {
    pub(crate) fn new(rejection: Rejection, response: Response<Bytes>) -> Self {
        Self(Box::new(Inner {
            rejection,
            response,
        }))
    }

    /// Leaves `Vary` to the layer that the response passes on its way out.
    #[cfg(feature = "axum")]
    pub(crate) fn within_its_layer(mut self) -> Self {
        self.0.response.headers_mut().remove(http::header::VARY);
        self
    }

    /// Returns why the request is rejected.
    pub fn rejection(&self) -> &Rejection {
        &self.0.rejection
    }

    /// Returns the response.
    pub fn into_response(self) -> Response<Bytes> {
        self.0.response
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rejected").field(self.rejection()).finish()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rejection().detail())
    }
}

impl Error for Rejected {}

#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for Rejected {
    fn into_response(self) -> axum_core::response::Response {
        self.0.response.map(Into::into)
    }
}
