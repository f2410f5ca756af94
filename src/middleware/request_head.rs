//! The head of a request, without its credentials.

use std::borrow::Cow;
use std::fmt;

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Uri};

use crate::middleware::credentials::Sources;

/// The head of a request, for a [policy](crate::ApiTokenLayerBuilder::policy) or a
/// [rejection's response](crate::rejection::ResponseForRejection).
///
/// Policies and rejections are often logged, and rejections are sent back to clients. Therefore credentials
/// read as `None`: [`header`](Self::header) and [`query`](Self::query) never return a place that may hold a
/// token.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
    sources: &'a Sources,
}

impl<'a> RequestHead<'a> {
    pub(crate) fn new<B>(request: &'a Request<B>, sources: &'a Sources) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
            sources,
        }
    }

    pub(crate) fn of_parts(parts: &'a Parts, sources: &'a Sources) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            extensions: &parts.extensions,
            sources,
        }
    }

    /// Returns the request's method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// Returns the path, without the query.
    ///
    /// Inside a nested router, the path lacks the router's prefix, and the same route may be written in
    /// several ways. To protect certain routes, give them a layer of their own on the same cache instead of
    /// comparing paths.
    pub fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// Returns the query without the parameters that may hold a token, or `None` if nothing is left of it.
    ///
    /// These parameters are `access_token` (RFC 6750 section 2.3) and those that the layer reads. All others
    /// are returned as the client wrote them.
    pub fn query(&self) -> Option<Cow<'a, str>> {
        let query = self.uri.query()?;
        // guard: H30
        let query = self.sources.without_credentials(query);
        (!query.is_empty()).then_some(query)
    }

    /// Returns the first value of the header `name`, or `None` if there is none or the header may hold a
    /// token.
    ///
    /// These headers are `Authorization` and those that the layer reads. A client may send a header more than
    /// once: a policy that decides by one uses [`header_all`](Self::header_all).
    pub fn header(&self, name: impl AsRef<str>) -> Option<&'a HeaderValue> {
        self.header_all(name).next()
    }

    /// Returns all values of the header `name`, in the order in which the client sent them. It returns none if
    /// the header may hold a token.
    pub fn header_all(&self, name: impl AsRef<str>) -> impl Iterator<Item = &'a HeaderValue> {
        let name = name.as_ref();
        // guard: H20, H31
        let is_hidden = self.sources.may_be_in_header(name);
        let values = (!is_hidden).then(|| self.headers.get_all(name).iter());
        values.into_iter().flatten()
    }

    /// Returns the request's extensions, with what outer layers inserted.
    ///
    /// A policy gets the token as its first argument; it is not yet among the extensions. They are not
    /// searched for credentials: axum's `OriginalUri`, for one, holds the query as the client sent it.
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// The URI, credentials included.
    pub(crate) fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// All headers, credentials included.
    pub(crate) fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// Every header that the layer reads.
    pub(crate) fn vary(&self) -> Option<&'a HeaderValue> {
        self.sources.vary()
    }
}

/// Shows method and path.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", self.method)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
