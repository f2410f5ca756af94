//! What the server's tokens look like, and which are looked up at all.

use std::fmt;

use tower_api_token::TokenFormat;

/// `TOKEN_FORMAT`. Tokens are made in the format either way, so that a service that still takes
/// others can go over to `checked` when the last of them is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A token without its type's prefix and a checksum that fits is refused before any look-up, and
    /// is not imported.
    Checked,
    /// Whatever the grammar of a bearer token allows is looked up.
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

/// The format of the tokens of a type. The prefix says whose a leaked token is, and what it opens.
pub(crate) fn of_type(token_type: &str) -> TokenFormat {
    TokenFormat::new(&format!("demo_{token_type}_")).expect("a prefix")
}
