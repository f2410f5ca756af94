//! Responses without a body.

use bytes::Bytes;
use http::Response;

use crate::middleware::rejection::cause::Rejection;
use crate::middleware::rejection::response::ResponseForRejection;
use crate::middleware::request_head::RequestHead;

/// Responses to rejected requests with status and headers only.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatusOnly;

impl ResponseForRejection for StatusOnly {
    fn response_for_rejection(
        &self,
        rejection: &Rejection,
        _: &RequestHead<'_>,
    ) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = rejection.status();
        response
    }
}
