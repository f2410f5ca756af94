//! What a request presents as a token.

use std::borrow::Cow;

/// What a request presents as a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// A well-formed token; borrowed unless it had to be decoded.
    Token(Cow<'a, str>),
    /// Nothing, or a credential of another scheme.
    Nothing,
    /// A credential that is not a token by its form.
    Malformed,
    /// More than one credential. Choosing one would be a guess, so none is taken.
    Multiple,
}

impl Presented<'_> {
    /// Combines two places. Two credentials are too many even if they are equal.
    // guard: H4
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, one) | (one, Self::Nothing) => one,
            _ => Self::Multiple,
        }
    }
}
