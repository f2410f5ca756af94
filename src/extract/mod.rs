//! Reading the credential from a request.

pub(crate) mod bearer;

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// What a request presents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// A token of the right form.
    Token(&'a str),
    /// Nothing, or another scheme's credential.
    Nothing,
    /// A bearer credential that cannot be a token of ours.
    Malformed,
    /// More than one credential: which one counts is anybody's guess, so none does.
    Ambiguous,
}

/// Looks at the `Authorization` fields: all of them, for the first of two is a choice that a proxy
/// in front may make differently.
pub(crate) fn authorization<'a>(headers: &'a HeaderMap, limits: &bearer::Limits) -> Presented<'a> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Presented::Nothing,
        (Some(field), None) => bearer::read(field.as_bytes(), limits),
        (Some(_), Some(_)) => Presented::Ambiguous,
    }
}
