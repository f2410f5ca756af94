//! What of a refused request its refusal depends on.

use std::fmt;

use http::{HeaderMap, HeaderValue, Method, Request, Uri};

use crate::middleware::credentials::Sources;

/// What a [`MakeRejection`](crate::MakeRejection) can see of the request that it refuses: enough to
/// choose a language or a format by, and to name the request in what is answered.
///
/// What a refusal is made by is often logged and sent back. So there is no way here to a place that a
/// token may be in: not to the query, not to `Authorization`, not to a field that the layer reads a token
/// from.
#[derive(Clone, Copy)]
pub struct RefusedRequest<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    sources: &'a Sources,
}

impl<'a> RefusedRequest<'a> {
    pub(crate) fn of<B>(request: &'a Request<B>, sources: &'a Sources) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            sources,
        }
    }

    /// The method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The path, without the query; inside of a nested router without the prefix too.
    pub fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// The first line of this header field; `None` where there is none, and for a field that a token may
    /// be in.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&'a HeaderValue> {
        let name = name.as_ref();
        if self.sources.may_have_a_token(name) {
            return None;
        }
        self.headers.get(name)
    }

    pub(crate) fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// Every field that was looked at.
    pub(crate) fn vary(&self) -> Option<&'a HeaderValue> {
        self.sources.vary()
    }
}

impl fmt::Debug for RefusedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedRequest")
            .field("method", self.method)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
