//! The format of the server's tokens, and the choice of which tokens are looked up.

use std::fmt;

use tower_api_token::TokenFormat;

/// The values of `TOKEN_FORMAT`. New tokens have the format in either case, so that a service that still
/// accepts others can change to `checked` when the last of them is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A token without its type's prefix and a correct checksum is rejected without a lookup, and is
    /// not imported.
    Checked,
    /// Every bearer token that the grammar allows is looked up.
    Any,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checked => "checked",
            Self::Any => "any",
        })
    }
}

/// The types of tokens. Each has routes of its own.
pub(crate) const TYPES: [&str; 2] = ["app", "dataset"];

/// Returns the format of the tokens of a type. The prefix shows where a leaked token comes from, and
/// what it gives access to.
pub(crate) fn of_type(token_type: &str) -> TokenFormat {
    TokenFormat::new(&format!("demo_{token_type}_")).expect("a prefix")
}
