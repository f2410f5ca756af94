//! Why a token is not valid.

/// Why a token is not valid.
///
/// It is for logs and metrics. A client gets the same answer for each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidReason {
    /// The database does not know the token, or it is revoked or disabled there.
    Unknown,
    /// The token's `expires_at` has passed.
    Expired,
    /// The token is of another type than the one that was asked for.
    WrongTokenType,
}
