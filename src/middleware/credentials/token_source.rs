//! Where a token is looked for, as it is configured.

use std::fmt;

use crate::middleware::credentials::scheme::BEARER;

/// A place in a request where [`ApiTokenLayer`](crate::ApiTokenLayer) looks for the token.
///
/// | source | in the request | note |
/// |---|---|---|
/// | [`bearer`](Self::bearer) | `Authorization: Bearer …` | the default, and the best place |
/// | [`authorization`](Self::authorization) | `Authorization: Token …` | for clients that use another scheme |
/// | [`header`](Self::header) | `X-API-Key: …` | caches and log filters do not know that it is a credential |
/// | [`cookie`](Self::cookie) | `Cookie: token=…` | browsers send it with requests that other sites make: forbid those, by `SameSite` or by checking `Origin` |
/// | [`basic_username`](Self::basic_username) | `Authorization: Basic …` | for `curl -u KEY:`; pages of browsers are asked for a password |
/// | [`websocket_protocol`](Self::websocket_protocol) | `Sec-WebSocket-Protocol: v1, bearer.…` | for WebSockets of pages, which cannot set `Authorization` |
/// | [`query`](Self::query) | `?access_token=…` | it ends up in proxies' logs, in the browser's history and in `Referer` |
///
/// An empty value counts as no token, except in `Authorization`.
///
/// Names are checked by [`ApiTokenLayerBuilder::build`](crate::ApiTokenLayerBuilder::build).
///
/// # Caches
///
/// The inner service's response to a token, from any of these places, gets `Cache-Control: private` and `Vary`,
/// so that no cache on the way gives it to somebody else, or to a token that was revoked since. The service
/// permits sharing a response by `public` or `s-maxage` in its `Cache-Control` (RFC 9111 section 3.5). Then
/// `private` is not added, unless the token was in the query.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSource {
    pub(super) kind: Kind,
    /// Empty for `Authorization`. The prefix of a WebSocket's protocol.
    pub(super) name: Box<str>,
    pub(super) scheme: Option<Box<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Authorization,
    Header,
    Cookie,
    Query,
    BasicUsername,
    WebSocketProtocol,
}

impl TokenSource {
    /// Looks for the token in `Authorization: Bearer …` (RFC 6750 section 2.1). The default.
    pub fn bearer() -> Self {
        Self::authorization(BEARER)
    }

    /// Looks for the token behind another scheme in `Authorization`.
    ///
    /// The scheme is matched regardless of case, and challenges name it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::TokenSource;
    ///
    /// // Authorization: Token …
    /// let source = TokenSource::authorization("Token");
    /// # let _ = source;
    /// ```
    pub fn authorization(scheme: &str) -> Self {
        Self::new(Kind::Authorization, "").scheme(scheme)
    }

    /// Looks for the token in a header of your own, whose whole value is the token.
    ///
    /// `Authorization` and `Cookie` have sources of their own, because they hold more than a token.
    pub fn header(name: &str) -> Self {
        Self::new(Kind::Header, name)
    }

    /// Looks for the token in a cookie (RFC 6265).
    ///
    /// The value is taken as it is, without surrounding quotes. A request with two cookies of this name is
    /// rejected. No neighboring subdomain can set a cookie whose name begins with `__Host-`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::TokenSource;
    ///
    /// let source = TokenSource::cookie("__Host-token");
    /// # let _ = source;
    /// ```
    pub fn cookie(name: &str) -> Self {
        Self::new(Kind::Cookie, name)
    }

    /// Looks for the token in a query parameter (RFC 6750 section 2.3), for clients that cannot set a header,
    /// such as download links and browsers' WebSockets.
    ///
    /// The parameter is removed from the URI that the inner service sees. Outer layers still see it, and so does
    /// what copied the URI before: axum's `OriginalUri`, if the layer was added by `Router::layer` and is not
    /// around the router.
    pub fn query(name: &str) -> Self {
        Self::new(Kind::Query, name)
    }

    /// Looks for the token in the user name of `Authorization: Basic …` (RFC 7617), as `curl -u KEY:` and many
    /// clients send a key.
    ///
    /// The password is not looked at: clients send none, or a placeholder. Challenges name `Basic`, for which
    /// browsers ask their user for a name and a password.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::TokenSource;
    ///
    /// // curl -u app-0123456789abcdef: https://api.example/orders
    /// let sources = [TokenSource::bearer(), TokenSource::basic_username()];
    /// # let _ = sources;
    /// ```
    pub fn basic_username() -> Self {
        Self::new(Kind::BasicUsername, "")
    }

    /// Looks for the token in the subprotocol of a WebSocket that begins with `prefix` (RFC 6455 section 4.1).
    ///
    /// A page cannot set a header for a WebSocket, but it can choose the subprotocols. It sends the token as one,
    /// beside the protocol that it speaks: `new WebSocket(url, ["orders.v1", "bearer." + token])`. The token's
    /// protocol is removed before policies and the inner service see the request, so that it cannot be selected and
    /// sent back. The inner service selects another one, or browsers close the socket. A request that offers none
    /// besides the token is rejected with 400.
    ///
    /// A token for this place has only characters that a protocol may have: none of `/`, `=`, `:` or `"`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::TokenSource;
    ///
    /// let sources = [TokenSource::bearer(), TokenSource::websocket_protocol("bearer.")];
    /// # let _ = sources;
    /// ```
    pub fn websocket_protocol(prefix: &str) -> Self {
        Self::new(Kind::WebSocketProtocol, prefix)
    }

    /// Expects a scheme before the token in a [`header`](Self::header), matched regardless of case.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::TokenSource;
    ///
    /// // X-Credential: Key …
    /// let source = TokenSource::header("x-credential").scheme("Key");
    /// # let _ = source;
    /// ```
    #[must_use]
    pub fn scheme(mut self, scheme: &str) -> Self {
        self.scheme = Some(scheme.into());
        self
    }

    fn new(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.into(),
            scheme: None,
        }
    }
}

/// `authorization: Bearer`, `header: x-api-key`, `cookie: token`, `query: access_token`.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.kind {
            Kind::Authorization => f.write_str("authorization")?,
            Kind::Header => write!(f, "header: {name}")?,
            Kind::Cookie => write!(f, "cookie: {name}")?,
            Kind::Query => write!(f, "query: {name}")?,
            Kind::BasicUsername => f.write_str("authorization: Basic, user name")?,
            Kind::WebSocketProtocol => write!(f, "websocket protocol: {name}")?,
        }
        match &self.scheme {
            Some(scheme) => write!(f, ": {scheme}"),
            None => Ok(()),
        }
    }
}

/// What a layer does with a request that has tokens in more than one of its
/// [sources](crate::ApiTokenLayerBuilder::sources); see
/// [`multiple_tokens`](crate::ApiTokenLayerBuilder::multiple_tokens).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MultipleTokens {
    /// The request is rejected with 400, even if the tokens are equal.
    #[default]
    Reject,
    /// Equal tokens count as one. Different ones are rejected with 400.
    AllowEqual,
    /// The token in the first source that has one is taken, in the order in which the sources were set. The others
    /// are not looked at, and a malformed first one is rejected.
    UseFirst,
}
