//! Reading the credential from a request.

pub(crate) mod bearer;
mod cookie;
mod query;
mod source;

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Uri};

use crate::error::ConfigError;
use crate::middleware::cache_control::{Caching, Credential};
use bearer::{BEARER, Limits};
pub use source::TokenSource;

/// What a request presents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// A token of the right form; borrowed but where it had to be decoded.
    Token(Cow<'a, str>),
    /// Nothing, or another scheme's credential.
    Nothing,
    /// A credential that cannot be a token of ours.
    Malformed,
    /// More than one credential: which one counts is anybody's guess, so none does.
    Ambiguous,
}

impl Presented<'_> {
    /// Two places that both have a credential are ambiguous, also when it is the same.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, one) | (one, Self::Nothing) => one,
            _ => Self::Ambiguous,
        }
    }
}

/// The places that one layer looks at, and what follows from them.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    places: Vec<TokenSource>,
    /// Whether the inner service shall see no credential.
    removed: bool,
    /// Whether a request without a credential passes.
    optional: bool,
    /// Every field that is looked at.
    vary: Option<HeaderValue>,
}

impl Default for Sources {
    fn default() -> Self {
        Self::of(vec![TokenSource::authorization()])
    }
}

impl Sources {
    /// # Errors
    /// There is no place, or one twice.
    pub(crate) fn new(places: Vec<TokenSource>) -> Result<Self, ConfigError> {
        if places.is_empty() {
            return Err(ConfigError::new("a layer needs a token source"));
        }
        for (index, place) in places.iter().enumerate() {
            if places[..index].iter().any(|one| one.is_same_place(place)) {
                let message = format!("the token source {place:?} is there twice");
                return Err(ConfigError::new(message));
            }
        }
        Ok(Self::of(places))
    }

    fn of(places: Vec<TokenSource>) -> Self {
        let mut fields: Vec<&HeaderName> = Vec::new();
        for field in places.iter().filter_map(TokenSource::field) {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        let vary = listed(&fields);
        Self {
            places,
            removed: false,
            optional: false,
            vary,
        }
    }

    /// Other places; what becomes of a credential stays.
    pub(crate) fn replace(&mut self, other: Self) {
        let Self {
            removed, optional, ..
        } = *self;
        *self = Self {
            removed,
            optional,
            ..other
        };
    }

    /// From now on the inner service sees no credential.
    pub(crate) fn remove(&mut self) {
        self.removed = true;
    }

    /// From now on a request without a credential passes.
    pub(crate) fn may_be_missing(&mut self) {
        self.optional = true;
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.optional
    }

    /// The schemes to challenge for. A client that can be told nothing better is told `Bearer`: a 401
    /// must carry a challenge (RFC 9110 section 15.5.2).
    pub(crate) fn schemes(&self) -> Vec<Box<str>> {
        let schemes = self.places.iter().filter_map(TokenSource::scheme);
        let schemes: Vec<Box<str>> = schemes.map(Into::into).collect();
        if schemes.is_empty() {
            return vec![BEARER.into()];
        }
        schemes
    }

    pub(crate) fn vary(&self) -> Option<&HeaderValue> {
        self.vary.as_ref()
    }

    /// Each field that it is read from.
    fn fields(&self) -> impl Iterator<Item = &HeaderName> {
        self.places.iter().filter_map(TokenSource::field)
    }

    /// Whether somebody's credential may be in the field: in `Authorization` also where it is not looked
    /// at.
    pub(crate) fn may_have_a_token(&self, field: &str) -> bool {
        let mut fields = self.fields().chain([&AUTHORIZATION]);
        fields.any(|one| one.as_str().eq_ignore_ascii_case(field))
    }

    /// Whether a field is there that may have a credential, of ours or of anybody's.
    pub(crate) fn are_in_a_field(&self, headers: &HeaderMap) -> bool {
        let mut fields = self.fields().chain([&AUTHORIZATION, &COOKIE]);
        fields.any(|field| headers.contains_key(field))
    }

    pub(crate) fn read<'a>(
        &self,
        headers: &'a HeaderMap,
        uri: &'a Uri,
        limits: &Limits,
    ) -> Presented<'a> {
        let read = |place: &TokenSource| place.read(headers, uri, limits);
        // Most layers look at one place.
        if let [place] = self.places.as_slice() {
            return read(place);
        }
        let presented = self.places.iter().map(read);
        presented.fold(Presented::Nothing, Presented::and)
    }

    /// Keeps the credentials out of whatever prints the headers further in. `Authorization` too where
    /// it is not looked at: it is somebody's credential.
    pub(crate) fn mark_sensitive(&self, headers: &mut HeaderMap) {
        mark_sensitive(headers, &AUTHORIZATION);
        for field in self.fields() {
            if *field != AUTHORIZATION {
                mark_sensitive(headers, field);
            }
        }
    }

    /// Takes out of the request what the inner service shall not see, and says what caches have to be
    /// told of its response.
    pub(crate) fn hide<B>(&self, request: &mut Request<B>, is_anonymous: bool) -> Caching {
        let mut credential = if is_anonymous {
            Credential::Absent
        } else {
            Credential::InField
        };
        for place in &self.places {
            if place.take_from_uri(request) {
                credential = Credential::InUri;
            }
            if self.removed {
                place.remove(request.headers_mut());
            }
        }
        if self.removed {
            source::remove_scheme(request.headers_mut(), BEARER);
        }
        Caching {
            credential,
            vary: self.vary.clone(),
        }
    }
}

fn listed(fields: &[&HeaderName]) -> Option<HeaderValue> {
    if let [field] = fields {
        // A name of the standard is borrowed: no references of its are counted when it is copied.
        return Some(HeaderValue::from((*field).clone()));
    }
    let names: Vec<&str> = fields.iter().map(|field| field.as_str()).collect();
    // Names of fields, with commas between them, are a field's value.
    let list = HeaderValue::try_from(names.join(", ")).ok();
    list.filter(|list| !list.is_empty())
}

/// All lines of the field: cookies have several over HTTP/2, and of `Authorization` where it is not looked
/// at there may be any number.
fn mark_sensitive(headers: &mut HeaderMap, field: &HeaderName) {
    if source::is_repeated(headers, field) {
        for (name, value) in headers {
            if name == field {
                value.set_sensitive(true);
            }
        }
    } else if let Some(value) = headers.get_mut(field) {
        value.set_sensitive(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_places_change_nothing_of_what_becomes_of_a_credential() {
        let mut sources = Sources::default();
        sources.remove();
        sources.may_be_missing();
        sources.replace(Sources::new(vec![TokenSource::cookie("token")]).unwrap());
        assert!(sources.removed && sources.optional);
    }
}
