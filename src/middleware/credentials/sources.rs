//! The places that a layer reads tokens from: what a request passes on its way in, from top to bottom.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue, Request, Uri};

use crate::error::ConfigError;
use crate::middleware::credentials::basic::BASIC;
use crate::middleware::credentials::grammar::{Limits, Presented, is_name, trim};
use crate::middleware::credentials::scheme::BEARER;
use crate::middleware::credentials::token_source::{Kind, MultipleTokens, TokenSource};
use crate::middleware::credentials::{basic, cookie, query, scheme, websocket};

/// RFC 6750 section 2.3.
const ACCESS_TOKEN: &str = "access_token";

/// The places that a layer reads tokens from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    places: Vec<Place>,
    multiple: MultipleTokens,
    /// The names of all headers that are read.
    vary: Option<HeaderValue>,
}

impl Sources {
    /// # Errors
    /// Returns an error if there is no place, if a name is not valid, or if two places are the same.
    pub(crate) fn new(
        sources: &[TokenSource],
        multiple: MultipleTokens,
    ) -> Result<Self, ConfigError> {
        if sources.is_empty() {
            return invalid("there is none, so that no request could be authenticated".to_owned());
        }
        let mut places: Vec<Place> = Vec::with_capacity(sources.len());
        for source in sources {
            let place = Place::of(source)?;
            if places.iter().any(|other| other.overlaps(&place)) {
                return invalid(format!("{source:?} is there twice"));
            }
            places.push(place);
        }
        let vary = list(places.iter().filter_map(Place::header));
        Ok(Self {
            places,
            multiple,
            vary,
        })
    }

    /// Reads the token of a request.
    pub(crate) fn read<'a>(
        &self,
        headers: &'a HeaderMap,
        uri: &'a Uri,
        limits: &Limits,
    ) -> Presented<'a> {
        let read = |place: &Place| place.read(headers, uri, limits);
        // Most layers have one place.
        if let [place] = self.places.as_slice() {
            return read(place);
        }
        let presented = self.places.iter().map(read);
        let combine = match self.multiple {
            MultipleTokens::Reject => Presented::and,
            MultipleTokens::AllowEqual => Presented::and_equal,
            MultipleTokens::UseFirst => Presented::or,
        };
        presented.fold(Presented::Nothing, combine)
    }

    /// Marks the credentials as sensitive, so that printing the headers does not show them. This includes
    /// `Authorization` even if it is not read, because it holds somebody's credential.
    pub(crate) fn mark_sensitive(&self, headers: &mut HeaderMap) {
        mark(headers, &AUTHORIZATION);
        for header in self.headers() {
            // guard: H12
            if *header != AUTHORIZATION {
                mark(headers, header);
            }
        }
    }

    /// Removes the token from the query. Returns whether there was one.
    pub(crate) fn take_from_uri<B>(&self, request: &mut Request<B>) -> bool {
        let mut was_there = false;
        for name in self.parameters() {
            if let Some(uri) = query::without(request.uri(), name) {
                // guard: H7
                *request.uri_mut() = uri;
                was_there = true;
            }
        }
        was_there
    }

    /// Removes the token from the subprotocols of a WebSocket, of which the inner service selects one.
    pub(crate) fn take_from_protocols(&self, headers: &mut HeaderMap) {
        for place in &self.places {
            if let Place::WebSocketProtocol { prefix } = place {
                // guard: H36
                websocket::remove(headers, prefix);
            }
        }
    }

    /// Removes the credentials from all headers that are read, and from `Authorization: Bearer`.
    pub(crate) fn remove(&self, headers: &mut HeaderMap) {
        for place in &self.places {
            match place {
                Place::Authorization { scheme } => remove_scheme(headers, scheme),
                Place::Header { name, .. } => drop(headers.remove(name)),
                Place::Cookie { name } => cookie::remove(headers, name),
                Place::BasicUsername => remove_scheme(headers, BASIC),
                Place::Query { .. } | Place::WebSocketProtocol { .. } => {}
            }
        }
        // guard: H11
        remove_scheme(headers, BEARER);
    }

    /// Returns the schemes to challenge for. If no place has one, this is `Bearer`, because a 401 must carry a
    /// challenge (RFC 9110 section 15.5.2).
    pub(crate) fn schemes(&self) -> Vec<Box<str>> {
        let schemes = self.places.iter().filter_map(Place::challenged);
        let schemes: Vec<Box<str>> = schemes.map(Into::into).collect();
        if schemes.is_empty() {
            return vec![BEARER.into()];
        }
        schemes
    }

    /// Returns the names of all headers that are read, for `Vary`.
    pub(crate) fn vary(&self) -> Option<&HeaderValue> {
        self.vary.as_ref()
    }

    /// Returns whether the header may hold a token: this layer's, or in `Authorization` anybody's.
    pub(crate) fn may_be_in_header(&self, name: &str) -> bool {
        let mut headers = self.headers().chain([&AUTHORIZATION]);
        headers.any(|header| header.as_str().eq_ignore_ascii_case(name))
    }

    /// Returns whether the request has a header that may hold a credential, this layer's or anybody's.
    pub(crate) fn are_in_a_header(&self, headers: &HeaderMap) -> bool {
        let mut names = self.headers().chain([&AUTHORIZATION, &COOKIE]);
        names.any(|name| headers.contains_key(name))
    }

    /// Returns `query` without the parameters that may hold a token: this layer's, and `access_token` for
    /// anybody's.
    pub(crate) fn without_credentials<'a>(&self, query: &'a str) -> Cow<'a, str> {
        let names = self.parameters().chain([ACCESS_TOKEN]);
        names.fold(Cow::Borrowed(query), |query, name| {
            match query::others(&query, name) {
                Some(others) => Cow::Owned(others.join("&")),
                None => query,
            }
        })
    }

    /// Returns every header that is read; the same one may be returned twice.
    fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.places.iter().filter_map(Place::header)
    }

    /// Returns every query parameter that is read.
    fn parameters(&self) -> impl Iterator<Item = &str> {
        self.places.iter().filter_map(|place| match place {
            Place::Query { name } => Some(&**name),
            _ => None,
        })
    }
}

/// A valid [`TokenSource`].
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
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
    BasicUsername,
    WebSocketProtocol {
        prefix: Box<str>,
    },
}

impl Place {
    /// # Errors
    /// Returns an error if a name is not valid, or a scheme cannot be in such a place.
    fn of(source: &TokenSource) -> Result<Self, ConfigError> {
        if let Some(scheme) = source.scheme.as_deref().filter(|scheme| !is_name(scheme)) {
            return invalid(format!("{scheme:?} is not the name of a scheme"));
        }
        let (name, scheme) = (source.name.clone(), source.scheme.clone());
        match (source.kind, scheme) {
            (Kind::Authorization, Some(scheme)) => Ok(Self::Authorization { scheme }),
            (Kind::Authorization, None) => unreachable!("it is created with a scheme"),
            (Kind::Header, scheme) => match HeaderName::try_from(&*name) {
                Ok(name) if [AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL].contains(&name) => {
                    invalid(format!("the header {name} has a token source of its own"))
                }
                Ok(name) => Ok(Self::Header { name, scheme }),
                Err(_) => invalid(format!("{name:?} is not the name of a header")),
            },
            (_, Some(_)) => invalid(format!("{source:?} cannot have a scheme")),
            (Kind::Cookie, None) if !is_name(&name) => {
                invalid(format!("{name:?} is not the name of a cookie"))
            }
            (Kind::Cookie, None) => Ok(Self::Cookie { name }),
            (Kind::Query, None) if name.is_empty() => {
                invalid("the name of a query parameter must not be empty".to_owned())
            }
            (Kind::Query, None) => Ok(Self::Query { name }),
            (Kind::BasicUsername, None) => Ok(Self::BasicUsername),
            (Kind::WebSocketProtocol, None) if !is_name(&name) => {
                invalid(format!("{name:?} is not the beginning of a protocol"))
            }
            (Kind::WebSocketProtocol, None) => Ok(Self::WebSocketProtocol { prefix: name }),
        }
    }

    fn read<'a>(&self, headers: &'a HeaderMap, uri: &'a Uri, limits: &Limits) -> Presented<'a> {
        match self {
            Self::Authorization { scheme } => only_value(headers, &AUTHORIZATION, |value| {
                scheme::read(value, scheme, limits)
            }),
            Self::Header { name, scheme } => only_value(headers, name, |value| match scheme {
                Some(scheme) => scheme::read(value, scheme, limits),
                None if trim(value).is_empty() => Presented::Nothing,
                None => limits.presented(trim(value)),
            }),
            Self::Cookie { name } => cookie::read(headers, name, limits),
            Self::Query { name } => query::read(uri, name, limits),
            Self::BasicUsername => {
                only_value(headers, &AUTHORIZATION, |value| basic::read(value, limits))
            }
            Self::WebSocketProtocol { prefix } => websocket::read(headers, prefix, limits),
        }
    }

    /// Returns the header that is read, if one is.
    fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Authorization { .. } | Self::BasicUsername => Some(&AUTHORIZATION),
            Self::WebSocketProtocol { .. } => Some(&SEC_WEBSOCKET_PROTOCOL),
            Self::Header { name, .. } => Some(name),
            Self::Cookie { .. } => Some(&COOKIE),
            Self::Query { .. } => None,
        }
    }

    /// Returns the scheme that a challenge names, if clients can be challenged for this place.
    fn challenged(&self) -> Option<&str> {
        match self {
            Self::Authorization { scheme } => Some(scheme),
            Self::BasicUsername => Some(BASIC),
            _ => None,
        }
    }

    /// Returns whether one token could be in both places at once, and would be taken for two.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Authorization { scheme: one }, Self::Authorization { scheme: two }) => {
                one.eq_ignore_ascii_case(two)
            }
            (Self::Authorization { scheme }, Self::BasicUsername)
            | (Self::BasicUsername, Self::Authorization { scheme }) => {
                scheme.eq_ignore_ascii_case(BASIC)
            }
            (Self::Header { name: one, .. }, Self::Header { name: two, .. }) => one == two,
            (Self::WebSocketProtocol { prefix: one }, Self::WebSocketProtocol { prefix: two }) => {
                one.starts_with(&**two) || two.starts_with(&**one)
            }
            (one, two) => one == two,
        }
    }
}

fn invalid<T>(message: String) -> Result<T, ConfigError> {
    Err(ConfigError::of("sources", message))
}

/// Reads the header if it occurs once. Of two values, a proxy in front may choose another one than this.
fn only_value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    read: impl FnOnce(&'a [u8]) -> Presented<'a>,
) -> Presented<'a> {
    match headers.get(name) {
        None => Presented::Nothing,
        Some(_) if is_repeated(headers, name) => Presented::Multiple,
        Some(value) => read(value.as_bytes()),
    }
}

/// Returns whether the header occurs more than once. If no header does, this is known without a lookup.
fn is_repeated(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.len() > headers.keys_len() && headers.get_all(name).iter().nth(1).is_some()
}

/// Marks all values of the header: over HTTP/2 there may be several `Cookie` headers, and any number of
/// `Authorization` headers where that is not read.
fn mark(headers: &mut HeaderMap, header: &HeaderName) {
    if is_repeated(headers, header) {
        for (name, value) in headers {
            if name == header {
                value.set_sensitive(true);
            }
        }
    } else if let Some(value) = headers.get_mut(header) {
        value.set_sensitive(true);
    }
}

/// Removes the `Authorization` headers with a credential of this scheme, and keeps the others.
fn remove_scheme(headers: &mut HeaderMap, scheme: &str) {
    let has_scheme = |value: &HeaderValue| scheme::is_in(value.as_bytes(), scheme);
    if !headers.get_all(AUTHORIZATION).iter().any(has_scheme) {
        return;
    }
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().cloned().collect();
    headers.remove(AUTHORIZATION);
    for value in values.into_iter().filter(|value| !has_scheme(value)) {
        headers.append(AUTHORIZATION, value);
    }
}

/// Returns the names, each once and with commas between them.
fn list<'a>(headers: impl Iterator<Item = &'a HeaderName>) -> Option<HeaderValue> {
    let mut names: Vec<&HeaderName> = Vec::new();
    for header in headers {
        if !names.contains(&header) {
            names.push(header);
        }
    }
    if let [name] = names.as_slice() {
        // A standard name is a static value: cloning it does not touch a reference count.
        return Some(HeaderValue::from((*name).clone()));
    }
    let names: Vec<&str> = names.into_iter().map(HeaderName::as_str).collect();
    // Header names with commas between them are a header value.
    let list = HeaderValue::try_from(names.join(", ")).ok();
    list.filter(|list| !list.is_empty())
}
