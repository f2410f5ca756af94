//! Random identifiers and token texts, from the operating system's generator.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 43 base62 characters hold 256 bits.
const SECRET_LENGTH: usize = 43;

/// A new secret: 256 random bits in base62, which a double click selects whole and every shell
/// takes unquoted.
pub(crate) fn secret() -> io::Result<String> {
    let mut text = String::with_capacity(SECRET_LENGTH);
    let mut bytes = [0u8; 64];
    while text.len() < SECRET_LENGTH {
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        // 248 is the largest multiple of 62 in a byte: a larger one is thrown away, or low digits
        // would be likelier.
        let digits = bytes
            .iter()
            .filter(|byte| **byte < 248)
            .map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        text.extend(digits.take(SECRET_LENGTH - text.len()));
    }
    Ok(text)
}

/// A new identifier: the prefix, 48 bits of the clock in milliseconds and 80 random bits, in hex,
/// so that identifiers sort by their age, about.
pub(crate) fn id(prefix: &str) -> io::Result<String> {
    let mut random = [0u8; 10];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_millis());
    let random = random
        .iter()
        .fold(0u128, |all, byte| all << 8 | u128::from(*byte));
    Ok(format!(
        "{prefix}_{:012x}{random:020x}",
        millis & 0xffff_ffff_ffff
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_43_base62_characters_and_differ() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), SECRET_LENGTH);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn identifiers_differ_and_keep_their_length() {
        let (one, other) = (id("tok").unwrap(), id("tok").unwrap());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[..4]), (36, "tok_"));
    }
}
