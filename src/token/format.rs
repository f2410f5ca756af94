//! The form of a token that can be told from an invented one: prefix, random part, checksum. Pure,
//! but for the random bytes.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{ConfigError, valid};
use crate::token::secret::BearerToken;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 62^6 exceeds 2^32, and 62^5 does not.
const CHECKSUM_LENGTH: usize = 6;

/// As long as a prefix that somebody types can be; with the longest random part it stays below the
/// layer's 512 bytes.
const LONGEST_PREFIX: usize = 32;

/// 22 characters of base62 have 130.9 bits, 21 have 125.0.
const SHORTEST_RANDOM: usize = 22;

/// 762 bits: more is a slip.
const LONGEST_RANDOM: usize = 128;

/// The form of the tokens that a service gives out: a prefix, random base62 characters, and a
/// checksum of six more, as in
/// [GitHub's tokens](https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/).
///
/// It makes tokens, and tells what is none of them before anything is hashed or looked up:
///
/// ```
/// use tower_api_token::TokenFormat;
///
/// let format = TokenFormat::new("acme_");
/// let token = format.generate()?;
/// assert!(format.check(token.expose()));
/// assert!(!format.check("acme_what-somebody-made-up"));
///
/// // What follows the prefix is of a token of GitHub's that has long expired.
/// assert!(format.check("acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"));
/// # Ok::<(), tower_api_token::GenerateError>(())
/// ```
///
/// # What the checksum is
/// CRC-32 (the one of IEEE 802.3, as in zip) of the random part alone, in base62 with the alphabet
/// `0-9A-Za-z`, with leading zeros. Every substitution of one character is found, and every swap of
/// two neighbours in the random part; of other slips all but one in 2^32. Secret scanners know a leaked
/// token by its prefix and checksum, with hardly a false alarm.
///
/// # What it is not
/// **It is no secret and no proof.** Anybody can compute it, and a token that passes may be unknown,
/// expired or revoked. It only tells invented and mistyped tokens from the rest at the price of a few
/// dozen nanoseconds, so that they cost neither a digest nor a look-up.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenFormat {
    prefix: Box<str>,
    random_length: usize,
}

impl TokenFormat {
    /// Tokens with this prefix, by custom the service's name, the kind of token and an underscore:
    /// `acme_`, `acme_app_`. The underscore lets a double click select the whole token, and sets the
    /// prefix apart from what is random.
    ///
    /// # Panics
    /// If it is empty, longer than 32 bytes, or has other characters than `A-Z a-z 0-9 - . _ ~`: a
    /// mistake in the program that shows when it starts. [`try_new`](Self::try_new) returns it
    /// instead.
    #[must_use]
    #[track_caller]
    pub fn new(prefix: &str) -> Self {
        valid(Self::try_new(prefix))
    }

    /// As [`new`](Self::new), for a prefix that comes from a configuration.
    ///
    /// # Errors
    /// It is empty, longer than 32 bytes, or has other characters than `A-Z a-z 0-9 - . _ ~`.
    pub fn try_new(prefix: &str) -> Result<Self, ConfigError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if (1..=LONGEST_PREFIX).contains(&prefix.len()) && prefix.bytes().all(plain) {
            Ok(Self {
                prefix: prefix.into(),
                random_length: 30,
            })
        } else {
            Err(ConfigError::of(
                "prefix",
                format!("1 to {LONGEST_PREFIX} of A-Z a-z 0-9 - . _ ~, not {prefix:?}"),
            ))
        }
    }

    /// How many random characters a token has, 22 to 128. Default: 30, as GitHub's, which is 178
    /// bits. A token of another length fails the check.
    ///
    /// # Panics
    /// If it is less than 22, because 21 characters have less than the 128 bits that make guessing
    /// hopeless and a digest safe to keep (RFC 6750 section 5.1 wants tokens that cannot be guessed,
    /// RFC 6749 section 10.10 a chance of at most 2^-128); or more than 128.
    /// [`try_random_length`](Self::try_random_length) returns it instead.
    #[must_use]
    #[track_caller]
    pub fn random_length(self, characters: usize) -> Self {
        valid(self.try_random_length(characters))
    }

    /// As [`random_length`](Self::random_length), for a length that comes from a configuration.
    ///
    /// # Errors
    /// It is less than 22 or more than 128.
    pub fn try_random_length(mut self, characters: usize) -> Result<Self, ConfigError> {
        if !(SHORTEST_RANDOM..=LONGEST_RANDOM).contains(&characters) {
            return Err(ConfigError::of(
                "random_length",
                format!("from {SHORTEST_RANDOM} to {LONGEST_RANDOM}, not {characters}"),
            ));
        }
        self.random_length = characters;
        Ok(self)
    }

    /// How long a token is, in bytes: for a column of a database, say.
    #[must_use]
    pub fn token_length(&self) -> usize {
        self.prefix.len() + self.random_length + CHECKSUM_LENGTH
    }

    /// A new token, from the operating system's random generator. Every character is equally likely.
    ///
    /// # Errors
    /// The operating system gave no random bytes. No token is made of anything else.
    pub fn generate(&self) -> Result<BearerToken, GenerateError> {
        self.generate_from(|bytes| getrandom::fill(bytes).map_err(GenerateError))
    }

    fn generate_from(
        &self,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), GenerateError>,
    ) -> Result<BearerToken, GenerateError> {
        // As long as it will be: a string that grows leaves a copy behind.
        let mut text = String::with_capacity(self.token_length());
        text.push_str(&self.prefix);
        let end = text.len() + self.random_length;
        let mut bytes = Zeroizing::new([0; 64]);
        while text.len() < end {
            fill(bytes.as_mut_slice())?;
            let characters = bytes.iter().filter_map(|byte| character(*byte));
            text.extend(characters.take(end - text.len()));
        }
        let checksum = checksum(&text.as_bytes()[self.prefix.len()..]);
        text.extend(checksum.map(char::from));
        Ok(BearerToken::new(text))
    }

    /// Whether it is a token of this form. It allocates nothing, and reads no further than a token's
    /// length.
    ///
    /// This is what [`ApiTokenLayer::with_token_format`](crate::ApiTokenLayer::with_token_format) asks.
    /// [`ApiTokenCache`](crate::ApiTokenCache) takes any text: who uses it without HTTP asks here first.
    #[must_use]
    pub fn check(&self, token: &str) -> bool {
        self.check_bytes(token.as_bytes())
    }

    pub(crate) fn check_bytes(&self, token: &[u8]) -> bool {
        if token.len() != self.token_length() {
            return false;
        }
        let Some(rest) = token.strip_prefix(self.prefix.as_bytes()) else {
            return false;
        };
        let (random, written) = rest.split_at(self.random_length);
        // What fails fails here, nearly always at the first digit: nothing more is done for it.
        digits(random).eq(written.iter().rev().copied())
            && random.iter().all(u8::is_ascii_alphanumeric)
    }
}

impl fmt::Debug for TokenFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            random_length,
        } = self;
        f.debug_struct("TokenFormat")
            .field("prefix", prefix)
            .field("random_length", random_length)
            .finish()
    }
}

/// The operating system gave no random bytes for a token.
#[derive(Debug, Clone)]
pub struct GenerateError(getrandom::Error);

impl fmt::Display for GenerateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gave no random bytes")
    }
}

impl std::error::Error for GenerateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// The character that a random byte stands for. 248 is the largest multiple of 62 in a byte: a larger
/// one is thrown away, or the first characters of the alphabet would be likelier.
fn character(byte: u8) -> Option<char> {
    (byte < 248).then(|| char::from(BASE62[usize::from(byte % 62)]))
}

/// CRC-32 in base62, the most significant digit first.
fn checksum(random: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut checksum = [0; CHECKSUM_LENGTH];
    for (place, digit) in checksum.iter_mut().rev().zip(digits(random)) {
        *place = digit;
    }
    checksum
}

/// The same, the least significant digit first.
fn digits(random: &[u8]) -> impl Iterator<Item = u8> + use<> {
    let mut rest = crc32(random);
    let next = move || {
        let digit = BASE62[(rest % 62) as usize];
        rest /= 62;
        digit
    };
    std::iter::repeat_with(next).take(CHECKSUM_LENGTH)
}

/// Four bytes at a time: the libraries' faster ways begin at more bytes than a token has.
fn crc32(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let table = |nth: usize, index: u32| CRC_TABLES[nth][(index & 255) as usize];
    let crc = words.iter().fold(u32::MAX, |crc, word| {
        let crc = crc ^ u32::from_le_bytes(*word);
        table(3, crc) ^ table(2, crc >> 8) ^ table(1, crc >> 16) ^ table(0, crc >> 24)
    });
    !rest.iter().fold(crc, |crc, byte| {
        table(0, crc ^ u32::from(*byte)) ^ (crc >> 8)
    })
}

/// The remainders by IEEE 802.3's polynomial, least significant bit first: of each byte, and in the
/// next tables of each byte with one, two and three zeros behind it.
const CRC_TABLES: [[u32; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 32 {
            let carry = remainder & 1;
            remainder = (remainder >> 1) ^ (0xedb8_8320 * carry);
            bit += 1;
            if bit % 8 == 0 {
                tables[bit / 8 - 1][byte] = remainder;
            }
        }
        byte += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;

    /// What GitHub made and let expire, behind another prefix: with its own, secret scanners would stop
    /// a push of this file.
    const GITHUBS: &str = "acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";

    #[test]
    fn the_checksum_is_that_of_zip_in_base62_with_leading_zeros() {
        // The check value that catalogues of CRCs give for CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(checksum(b""), *b"000000");
        assert_eq!(checksum(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"), *b"0mLq17");
    }

    #[test]
    fn four_bytes_at_a_time_are_the_same_as_bit_by_bit() {
        let bit_by_bit = |bytes: &[u8]| {
            let mut crc = u32::MAX;
            for byte in bytes {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 {
                        crc >> 1 ^ 0xedb8_8320
                    } else {
                        crc >> 1
                    };
                }
            }
            !crc
        };
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        for start in 0..4 {
            for end in start..bytes.len() {
                let bytes = &bytes[start..end];
                assert_eq!(crc32(bytes), bit_by_bit(bytes), "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_token_of_githubs_passes_and_with_another_prefix_or_length_does_not() {
        assert!(TokenFormat::new("acme_").check(GITHUBS));
        assert!(!TokenFormat::new("acne_").check(GITHUBS));
        assert!(!TokenFormat::new("acme").check(GITHUBS));
        assert!(!TokenFormat::new("acme_").random_length(29).check(GITHUBS));
        let format = TokenFormat::new("acme_");
        for bad in ["", "acme_", &GITHUBS[1..], &GITHUBS[..40]] {
            assert!(!format.check(bad), "{bad}");
        }
        assert!(!format.check(&format!("{GITHUBS}0")));
    }

    #[test]
    fn a_character_outside_base62_fails_also_with_the_right_checksum() {
        let random = b"zQWBuTSOoRi4A9spHcVY5ncnsDkxk-";
        let mut token = b"acme_".to_vec();
        token.extend_from_slice(random);
        token.extend(checksum(random));
        assert!(!TokenFormat::new("acme_").check_bytes(&token));
    }

    #[test]
    fn every_character_of_the_alphabet_has_four_bytes_and_the_rest_is_thrown_away() {
        let mut counts = std::collections::HashMap::new();
        for byte in 0..=u8::MAX {
            *counts.entry(character(byte)).or_insert(0) += 1;
        }
        assert_eq!(counts.remove(&None), Some(8));
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| *count == 4));
    }

    #[test]
    fn bytes_that_are_thrown_away_are_made_up_for() {
        let mut fills = 0;
        let token = TokenFormat::new("t_")
            .random_length(64)
            .generate_from(|bytes| {
                fills += 1;
                // Half of each block is of no use, so that two blocks make one.
                for (place, byte) in bytes.iter_mut().enumerate() {
                    *byte = if place % 2 == 0 { 61 } else { 255 };
                }
                Ok(())
            });
        let token = token.unwrap();
        assert_eq!(fills, 2);
        assert_eq!(token.expose()[2..66], "z".repeat(64));
        assert!(
            TokenFormat::new("t_")
                .random_length(64)
                .check(token.expose())
        );
    }

    #[test]
    fn without_randomness_there_is_no_token() {
        let mut fills = 0;
        let error = TokenFormat::new("t_")
            .generate_from(|_| {
                fills += 1;
                Err(GenerateError(getrandom::Error::UNSUPPORTED))
            })
            .unwrap_err();
        assert_eq!(fills, 1);
        assert_eq!(
            error.to_string(),
            "the operating system gave no random bytes"
        );
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_generated_token_is_as_long_as_its_format_says() {
        let format = TokenFormat::new("acme_app_");
        let token = format.generate().unwrap();
        assert_eq!(token.expose().len(), format.token_length());
        assert_eq!(format.token_length(), 9 + 30 + 6);
    }
}
