//! Where a token is looked for.

use std::fmt;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Uri};

use crate::error::{ConfigError, valid};
use crate::middleware::credentials::bearer::{self, BEARER, Limits};
use crate::middleware::credentials::presented::Presented;
use crate::middleware::credentials::{cookie, query};

/// A place in a request where [`ApiTokenLayer`](crate::ApiTokenLayer) looks for the token.
///
/// | place | in the request | mind |
/// |---|---|---|
/// | [`authorization`](Self::authorization) | `Authorization: Bearer …` | the default, and the best place |
/// | [`header`](Self::header) | `X-API-Key: …` | caches and log filters do not know that it is a credential |
/// | [`cookie`](Self::cookie) | `Cookie: token=…` | browsers send it with requests that another site made: forbid those (`SameSite`, or a check of `Origin`) |
/// | [`query`](Self::query) | `?access_token=…` | it is in the logs of every proxy, in the browser's history and in `Referer` |
///
/// In any place but `Authorization`, an empty value is nothing presented.
///
/// # Caches
///
/// The inner service's response to a token, in any of these places, carries `Cache-Control: private` and
/// `Vary`, so that no cache on its way gives it to somebody else, or to a token that was revoked since.
/// The service gives leave to share a response by `public` or `s-maxage` in its `Cache-Control` (RFC 9111
/// section 3.5): then `private` is not added, unless the token was in the query.
///
/// ```
/// # use tower_api_token::{ApiTokenCache, ApiTokenLayer, Lookup, TokenRecord, TokenSource};
/// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
/// # let cache = ApiTokenCache::builder(loader).build()?;
/// let layer = ApiTokenLayer::new(cache).with_sources([
///     TokenSource::authorization(),
///     TokenSource::header("x-api-key"),
/// ]);
/// # let _ = layer;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSource {
    place: Place,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    Authorization {
        scheme: Box<str>,
    },
    Header {
        name: HeaderName,
        scheme: Option<Box<str>>,
    },
    Cookie {
        name: Box<str>,
    },
    Query {
        name: Box<str>,
    },
}

impl TokenSource {
    fn new(place: Place) -> Self {
        Self { place }
    }

    /// `Authorization: Bearer …` (RFC 6750 section 2.1). The layer's default.
    pub fn authorization() -> Self {
        let scheme = BEARER.into();
        Self::new(Place::Authorization { scheme })
    }

    /// A header field of one's own, with the token as its value.
    ///
    /// # Panics
    /// If it is no field's name, or is `authorization` or `cookie`: they have more in them than a
    /// token. [`try_header`](Self::try_header) returns it instead.
    #[track_caller]
    pub fn header(name: &str) -> Self {
        valid(Self::try_header(name))
    }

    /// As [`header`](Self::header), for a name that comes from a configuration.
    ///
    /// # Errors
    /// The name is not one of those.
    pub fn try_header(name: &str) -> Result<Self, ConfigError> {
        match HeaderName::try_from(name) {
            Ok(name) if name == AUTHORIZATION || name == COOKIE => Err(ConfigError::new(format!(
                "the header {name} is a token source of its own"
            ))),
            Ok(name) => Ok(Self::new(Place::Header { name, scheme: None })),
            Err(_) => Err(ConfigError::new(format!("{name:?} is no header's name"))),
        }
    }

    /// A cookie (RFC 6265). Its value is taken as it is, without the quotes that may stand around it.
    /// A request that has it twice is refused. A name that begins with `__Host-` is one that no
    /// neighbouring subdomain can set a second cookie for.
    ///
    /// ```
    /// use tower_api_token::TokenSource;
    ///
    /// let source = TokenSource::cookie("__Host-token");
    /// # let _ = source;
    /// ```
    ///
    /// # Panics
    /// If it is no cookie's name. [`try_cookie`](Self::try_cookie) returns it instead.
    #[track_caller]
    pub fn cookie(name: &str) -> Self {
        valid(Self::try_cookie(name))
    }

    /// As [`cookie`](Self::cookie), for a name that comes from a configuration.
    ///
    /// # Errors
    /// It is no cookie's name.
    pub fn try_cookie(name: &str) -> Result<Self, ConfigError> {
        if !bearer::is_name(name) {
            return Err(ConfigError::new(format!("{name:?} is no cookie's name")));
        }
        let name = name.into();
        Ok(Self::new(Place::Cookie { name }))
    }

    /// A parameter of the query (RFC 6750 section 2.3, which calls it `access_token`), decoded as
    /// `application/x-www-form-urlencoded`: a plus sign of a token is written `%2B`. For those who
    /// cannot set a header: a link to be downloaded, a WebSocket of a browser.
    ///
    /// The parameter is removed from the URI that the inner service sees, and its responses carry
    /// `Cache-Control: private`. What stands outside of the layer has the whole URI all the same, and
    /// so has what copied it before: axum's `OriginalUri`, if the layer is added by `Router::layer`
    /// and not put around the router.
    ///
    /// # Panics
    /// If the name is empty. [`try_query`](Self::try_query) returns it instead.
    #[track_caller]
    pub fn query(name: &str) -> Self {
        valid(Self::try_query(name))
    }

    /// As [`query`](Self::query), for a name that comes from a configuration.
    ///
    /// # Errors
    /// The name is empty.
    pub fn try_query(name: &str) -> Result<Self, ConfigError> {
        if name.is_empty() {
            return Err(ConfigError::new("a query parameter's name is not empty"));
        }
        let name = name.into();
        Ok(Self::new(Place::Query { name }))
    }

    /// Another scheme than `Bearer` before the token in `Authorization`, which the challenge then
    /// names; or a scheme before the token in a header of one's own. It is read in any case.
    ///
    /// # Panics
    /// If it is no scheme's name (RFC 9110 section 11.1), or the token is in a cookie or in the query,
    /// where no scheme can stand. [`try_with_scheme`](Self::try_with_scheme) returns it instead.
    ///
    /// ```
    /// use tower_api_token::TokenSource;
    ///
    /// let token = TokenSource::authorization().with_scheme("Token"); // Authorization: Token …
    /// let key = TokenSource::header("x-credential").with_scheme("Key"); // X-Credential: Key …
    /// assert!(TokenSource::query("access_token").try_with_scheme("Bearer").is_err());
    /// # let _ = (token, key);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn with_scheme(self, scheme: &str) -> Self {
        valid(self.try_with_scheme(scheme))
    }

    /// As [`with_scheme`](Self::with_scheme), for a scheme that comes from a configuration.
    ///
    /// # Errors
    /// It is no scheme's name, or cannot stand there.
    pub fn try_with_scheme(mut self, name: &str) -> Result<Self, ConfigError> {
        if !bearer::is_name(name) {
            return Err(ConfigError::new(format!("{name:?} is no scheme's name")));
        }
        match &mut self.place {
            Place::Authorization { scheme } => *scheme = name.into(),
            Place::Header { scheme, .. } => *scheme = Some(name.into()),
            Place::Cookie { .. } | Place::Query { .. } => {
                let message = "a scheme stands in no cookie and in no query";
                return Err(ConfigError::new(message));
            }
        }
        Ok(self)
    }

    /// The scheme that a challenge of it names, if it can be challenged for.
    pub(super) fn scheme(&self) -> Option<&str> {
        match &self.place {
            Place::Authorization { scheme } => Some(scheme),
            _ => None,
        }
    }

    /// The field that it is read from; none for the query.
    pub(super) fn field(&self) -> Option<&HeaderName> {
        match &self.place {
            Place::Authorization { .. } => Some(&AUTHORIZATION),
            Place::Header { name, .. } => Some(name),
            Place::Cookie { .. } => Some(&COOKIE),
            Place::Query { .. } => None,
        }
    }

    /// The query parameter that it is read from.
    pub(super) fn parameter(&self) -> Option<&str> {
        match &self.place {
            Place::Query { name } => Some(name),
            _ => None,
        }
    }

    /// Whether one request could carry one token for both, which would be taken for two.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Authorization { scheme: one }, Place::Authorization { scheme: two }) => {
                one.eq_ignore_ascii_case(two)
            }
            (Place::Header { name: one, .. }, Place::Header { name: two, .. }) => one == two,
            (one, two) => one == two,
        }
    }

    pub(super) fn read<'a>(
        &self,
        headers: &'a HeaderMap,
        uri: &'a Uri,
        limits: &Limits,
    ) -> Presented<'a> {
        match &self.place {
            Place::Authorization { scheme } => line(headers, &AUTHORIZATION, |value| {
                bearer::read(value, scheme, limits)
            }),
            Place::Header { name, scheme } => line(headers, name, |value| match scheme {
                Some(scheme) => bearer::read(value, scheme, limits),
                None if bearer::trim(value).is_empty() => Presented::Nothing,
                None => limits.presented(bearer::trim(value)),
            }),
            Place::Cookie { name } => cookie::read(headers, name, limits),
            Place::Query { name } => query::read(uri, name, limits),
        }
    }

    /// Takes the parameter out of the URI; whether there was one.
    pub(super) fn take_from_uri<B>(&self, request: &mut Request<B>) -> bool {
        let Place::Query { name } = &self.place else {
            return false;
        };
        let Some(uri) = query::without(request.uri(), name) else {
            return false;
        };
        *request.uri_mut() = uri;
        true
    }

    pub(super) fn remove(&self, headers: &mut HeaderMap) {
        match &self.place {
            Place::Authorization { scheme } => remove_scheme(headers, scheme),
            Place::Header { name, .. } => drop(headers.remove(name)),
            Place::Cookie { name } => cookie::remove(headers, name),
            Place::Query { .. } => {}
        }
    }
}

/// Looks at all lines of the field, for the first of two is a choice that a proxy in front may make
/// differently.
fn line<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    read: impl FnOnce(&'a [u8]) -> Presented<'a>,
) -> Presented<'a> {
    match headers.get(name) {
        None => Presented::Nothing,
        Some(_) if is_repeated(headers, name) => Presented::Multiple,
        Some(line) => read(line.as_bytes()),
    }
}

/// Whether the field has several lines. That no field has is known without a look-up.
pub(super) fn is_repeated(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.len() > headers.keys_len() && headers.get_all(name).iter().nth(1).is_some()
}

/// Removes the lines with a credential of this scheme; those of others are not ours.
pub(super) fn remove_scheme(headers: &mut HeaderMap, scheme: &str) {
    let is_ours = |line: &HeaderValue| bearer::has_scheme(line.as_bytes(), scheme);
    if !headers.get_all(AUTHORIZATION).iter().any(is_ours) {
        return;
    }
    let lines: Vec<_> = headers.get_all(AUTHORIZATION).iter().cloned().collect();
    headers.remove(AUTHORIZATION);
    for line in lines.into_iter().filter(|line| !is_ours(line)) {
        headers.append(AUTHORIZATION, line);
    }
}

/// `authorization: Bearer`, `header: x-api-key`, `cookie: token`, `query: access_token`.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Authorization { scheme } => write!(f, "authorization: {scheme}"),
            Place::Header { name, scheme: None } => write!(f, "header: {name}"),
            Place::Header {
                name,
                scheme: Some(scheme),
            } => write!(f, "header: {name}: {scheme}"),
            Place::Cookie { name } => write!(f, "cookie: {name}"),
            Place::Query { name } => write!(f, "query: {name}"),
        }
    }
}
