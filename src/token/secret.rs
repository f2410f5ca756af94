//! A token's text, which never shows itself, and its digest.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroizing, zeroize_stack};

/// A bearer token's text (RFC 6750), which never shows itself.
///
/// `Debug` prints no part of the text, there is no `Display`, and the memory is wiped when the last clone is
/// dropped. Cloning it increments a reference count.
///
/// # Examples
/// ```
/// use tower_api_token::BearerToken;
///
/// let token = BearerToken::new("app-0123456789abcdef");
/// assert_eq!(format!("{token:?}"), "BearerToken(..)");
/// assert_eq!(token.expose(), "app-0123456789abcdef");
/// ```
// guard: T3
#[derive(Clone)]
pub struct BearerToken(Arc<Zeroizing<String>>);

impl BearerToken {
    /// Creates a token with this text. Its grammar is checked where a request is read, and not here.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// Returns the text. Make sure that it does not end up in a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Computes the token's digest.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.expose())
    }

    /// Compares the texts in a time that only depends on their lengths.
    pub(crate) fn is(&self, presented: &str) -> bool {
        same(self.expose().as_bytes(), presented.as_bytes())
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // guard: T1
        f.write_str("BearerToken(..)")
    }
}

/// The SHA-256 of a token's text, which is stable and suits a database column.
///
/// An operator who never sees the text can revoke a token by it. `Display` and [`FromStr`] use 64 hexadecimal
/// digits. The digest of a random token of 128 bits or more reveals nothing. That of a guessable token can be
/// guessed, so `Debug` shows only its beginning.
///
/// `==` takes the same time for all digests.
///
/// # Examples
/// ```
/// use tower_api_token::TokenDigest;
///
/// let digest = TokenDigest::of("app-0123456789abcdef");
/// assert_eq!(digest.to_string().parse::<TokenDigest>().unwrap(), digest);
/// ```
#[derive(Clone, Copy, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::derived_hash_with_manual_eq,
    reason = "it compares the same bytes, in constant time"
)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Computes the digest of a token's text.
    pub fn of(token: &str) -> Self {
        let digest = sha256(token.as_bytes());
        zeroize_stack::<2_048>(); // guard: T4
        Self(digest)
    }

    /// Creates a digest from its bytes, for example those of a database column.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(")?;
        write_hex(&self.0[..4], f)?;
        f.write_str("..)")
    }
}

impl FromStr for TokenDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text).map(Self).ok_or(ParseDigestError(()))
    }
}

/// An error because a text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseDigestError(());

impl fmt::Display for ParseDigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token digest is 64 hexadecimal digits")
    }
}

impl std::error::Error for ParseDigestError {}

/// Compares in a time that only depends on the lengths.
pub(crate) fn same(own: &[u8], presented: &[u8]) -> bool {
    if own.len() != presented.len() {
        return false;
    }
    // `subtle` is called once, for the difference of all words: it compares slices byte by byte, which would
    // take a seventh of the time of a hit.
    let (own, own_rest) = own.as_chunks::<8>();
    let (presented, presented_rest) = presented.as_chunks::<8>();
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let words = own.iter().zip(presented);
    let difference = words.fold(0, |seen, (one, other)| seen | (word(one) ^ word(other)));
    let rest = own_rest.iter().zip(presented_rest);
    let difference = rest.fold(difference, |seen, (one, other)| {
        seen | u64::from(one ^ other)
    });
    difference.ct_eq(&0).into()
}

/// Computes SHA-256 in a stack frame of its own. `sha2` wipes its state and its buffer, and not the words of the text that
/// are left of its calculation. A future that is moved into a box takes along what is below it on the stack, and there it
/// would stay.
#[inline(never)]
fn sha256(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Returns the digits of up to 32 bytes, followed by zeros.
pub(crate) fn hex_digits(bytes: &[u8]) -> [u8; 64] {
    // Without a table and a branch, the compiler does sixteen at a time.
    let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
    let mut digits = [[0; 2]; 32];
    for (pair, byte) in digits.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    digits.as_flattened().try_into().expect("64 digits")
}

/// Writes the digits of up to 32 bytes, in one piece, because each lookup in Redis writes a key.
pub(crate) fn write_hex(bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    let text = hex_digits(bytes);
    let written = &text[..2 * bytes.len()];
    out.write_str(std::str::from_utf8(written).expect("digits are ASCII"))
}

pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_sha256_of_the_text() {
        assert_eq!(
            TokenDigest::of("abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_digest_is_read_in_either_case() {
        let digest = TokenDigest::of("abc");
        assert_eq!(digest.to_string().to_uppercase().parse(), Ok(digest));
        for bad in [
            "",
            "ba78",
            &"g".repeat(64),
            &"é".repeat(32),
            &"0".repeat(65),
        ] {
            assert!(bad.parse::<TokenDigest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_text_and_no_whole_digest() {
        let token = BearerToken::new("app-0123456789abcdef");
        assert_eq!(format!("{token:?}"), "BearerToken(..)");
        assert_eq!(
            format!("{:?}", TokenDigest::of("abc")),
            "TokenDigest(ba7816bf..)"
        );
    }

    #[test]
    fn only_equal_texts_are_the_same_token() {
        let token = BearerToken::new("abc");
        assert!(token.is("abc"));
        assert!(!token.is("abd") && !token.is("ab") && !token.is("abcd") && !token.is(""));
        let text = "app-0123456789abcdef";
        let token = BearerToken::new(text);
        assert!(token.is(text));
        for at in 0..text.len() {
            let mut other = text.to_owned();
            other.replace_range(at..=at, "_");
            assert!(!token.is(&other), "{other}");
        }
    }
}
