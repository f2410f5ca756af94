//! The places that a layer reads tokens from.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue, Uri};

use crate::error::ConfigError;
use crate::middleware::credentials::grammar::Limits;
use crate::middleware::credentials::place::Place;
use crate::middleware::credentials::presented::Presented;
use crate::middleware::credentials::query;
use crate::middleware::credentials::scheme::BEARER;
use crate::middleware::credentials::source::TokenSource;

/// RFC 6750 section 2.3.
const ACCESS_TOKEN: &str = "access_token";

/// The places that a layer reads tokens from.
#[derive(Debug)]
pub(crate) struct Sources {
    places: Vec<Place>,
    /// Every header that is read.
    vary: Option<HeaderValue>,
}

impl Sources {
    /// # Errors
    /// Returns an error if there is no place, if a name is not valid, or if two places are the same.
    pub(crate) fn new(sources: &[TokenSource]) -> Result<Self, ConfigError> {
        let invalid = |message: String| Err(ConfigError::of("sources", message));
        if sources.is_empty() {
            return invalid("there is none, so that no request could be authenticated".to_owned());
        }
        let mut places: Vec<Place> = Vec::with_capacity(sources.len());
        for source in sources {
            let place = source.place()?;
            if places.iter().any(|other| other.overlaps(&place)) {
                return invalid(format!("{source:?} is there twice"));
            }
            places.push(place);
        }
        let vary = list(places.iter().filter_map(Place::header));
        Ok(Self { places, vary })
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The schemes to challenge for. If no place has one, this is `Bearer`, because a 401 must carry a
    /// challenge (RFC 9110 section 15.5.2).
    pub(crate) fn schemes(&self) -> Vec<Box<str>> {
        let schemes = self.places.iter().filter_map(Place::scheme);
        let schemes: Vec<Box<str>> = schemes.map(Into::into).collect();
        if schemes.is_empty() {
            return vec![BEARER.into()];
        }
        schemes
    }

    /// Every header that is read, for `Vary`.
    pub(crate) fn vary(&self) -> Option<&HeaderValue> {
        self.vary.as_ref()
    }

    /// Every header that is read; one may be there twice.
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.places.iter().filter_map(Place::header)
    }

    /// Whether the header may hold a token: this layer's, or in `Authorization` anybody's.
    pub(crate) fn may_be_in_header(&self, name: &str) -> bool {
        let mut headers = self.headers().chain([&AUTHORIZATION]);
        headers.any(|header| header.as_str().eq_ignore_ascii_case(name))
    }

    /// Returns `query` without the parameters that may hold a token: this layer's, and `access_token` for
    /// anybody's.
    pub(crate) fn without_credentials<'a>(&self, query: &'a str) -> Cow<'a, str> {
        let names = self.places.iter().filter_map(Place::parameter);
        names
            .chain([ACCESS_TOKEN])
            .fold(Cow::Borrowed(query), |query, name| {
                match query::others(&query, name) {
                    Some(others) => Cow::Owned(others.join("&")),
                    None => query,
                }
            })
    }

    /// Whether a header that may hold a credential is there, this layer's or anybody's.
    pub(crate) fn are_in_a_header(&self, headers: &HeaderMap) -> bool {
        let mut names = self.headers().chain([&AUTHORIZATION, &COOKIE]);
        names.any(|name| headers.contains_key(name))
    }

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
        presented.fold(Presented::Nothing, Presented::and)
    }
}

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
