//! Tokens: their text and digest, their format, and their record from the database.

mod denial;
mod format;
mod invalid_reason;
mod optional_text;
mod record;
mod scopes;
mod secret;
pub(crate) mod timestamp;

pub use denial::Denial;
pub use format::{GenerateError, TokenFormat};
pub use invalid_reason::InvalidReason;
pub use optional_text::IntoOptionalText;
pub use record::TokenRecord;
#[cfg(feature = "redis")]
pub(crate) use scopes::Scopes;
pub use secret::{BearerToken, ParseDigestError, TokenDigest};
pub(crate) use secret::{hex_digits, parse_hex, same, write_hex};
pub use timestamp::IntoTimestamp;
