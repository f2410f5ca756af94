//! One place where a token is looked for.

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Uri};

use crate::middleware::credentials::grammar::{Limits, trim};
use crate::middleware::credentials::presented::Presented;
use crate::middleware::credentials::{cookie, query, scheme};

/// A valid [`TokenSource`](super::TokenSource).
#[derive(Debug, PartialEq, Eq)]
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

impl Place {
    /// The scheme that a challenge names, if clients can be challenged for this place.
    pub(super) fn scheme(&self) -> Option<&str> {
        match self {
            Self::Authorization { scheme } => Some(scheme),
            _ => None,
        }
    }

    /// The header that is read, if one is.
    pub(super) fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Authorization { .. } => Some(&AUTHORIZATION),
            Self::Header { name, .. } => Some(name),
            Self::Cookie { .. } => Some(&COOKIE),
            Self::Query { .. } => None,
        }
    }

    /// The query parameter that is read, if one is.
    pub(super) fn parameter(&self) -> Option<&str> {
        match self {
            Self::Query { name } => Some(name),
            _ => None,
        }
    }

    /// Whether one token could be in both places at once, and would be taken for two.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Authorization { scheme: one }, Self::Authorization { scheme: two }) => {
                one.eq_ignore_ascii_case(two)
            }
            (Self::Header { name: one, .. }, Self::Header { name: two, .. }) => one == two,
            (one, two) => one == two,
        }
    }

    pub(super) fn read<'a>(
        &self,
        headers: &'a HeaderMap,
        uri: &'a Uri,
        limits: &Limits,
    ) -> Presented<'a> {
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
        }
    }

    /// Removes the parameter from the URI. Returns whether there was one.
    pub(super) fn take_from_uri<B>(&self, request: &mut Request<B>) -> bool {
        let Self::Query { name } = self else {
            return false;
        };
        let Some(uri) = query::without(request.uri(), name) else {
            return false;
        };
        // guard: H7
        *request.uri_mut() = uri;
        true
    }

    pub(super) fn remove(&self, headers: &mut HeaderMap) {
        match self {
            Self::Authorization { scheme } => remove_scheme(headers, scheme),
            Self::Header { name, .. } => drop(headers.remove(name)),
            Self::Cookie { name } => cookie::remove(headers, name),
            Self::Query { .. } => {}
        }
    }
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

/// Whether the header occurs more than once. If no header does, this is known without a lookup.
pub(super) fn is_repeated(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.len() > headers.keys_len() && headers.get_all(name).iter().nth(1).is_some()
}

/// Removes the `Authorization` headers with a credential of this scheme, and keeps the others.
pub(super) fn remove_scheme(headers: &mut HeaderMap, scheme: &str) {
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
