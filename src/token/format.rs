//! Token formats: prefix, random part and checksum.

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

use crate::error::ConfigError;
use crate::token::secret::BearerToken;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 62^6 exceeds 2^32, and 62^5 does not.
const CHECKSUM_LENGTH: usize = 6;

/// With the longest random part, a token stays below the layer's default limit of 512 bytes.
const LONGEST_PREFIX: usize = 32;

/// 22 characters of base62 have 130.9 bits, 21 have 125.0.
const SHORTEST_RANDOM: usize = 22;

/// GitHub's.
const DEFAULT_RANDOM: usize = 30;

/// 762 bits: more is a mistake.
const LONGEST_RANDOM: usize = 128;

/// The format of a service's tokens: a prefix, random base62 characters, and a checksum of six more, as in
/// [GitHub's tokens](https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/).
///
/// # Checksum
/// The checksum is the CRC-32 (of IEEE 802.3, as in zip) of the random part, in base62 with the alphabet
/// `0-9A-Za-z` and leading zeros. It detects every substitution of one character and every swap of two
/// neighbors in the random part, and all but one in 2^32 of other mistakes. Secret scanners recognize a leaked
/// token by its prefix and checksum, with hardly a false alarm.
///
/// **The checksum is not a secret.** Anybody can compute it, and a token that matches may be unknown, expired
/// or revoked. It only sorts out invented and mistyped tokens within a few dozen nanoseconds, before they are
/// hashed and looked up.
///
/// # Examples
///
/// ```
/// use tower_api_token::TokenFormat;
///
/// const FORMAT: TokenFormat = TokenFormat::from_static("acme_");
///
/// let token = FORMAT.generate()?;
/// assert!(FORMAT.matches(token.expose()));
/// assert!(!FORMAT.matches("acme_what-somebody-made-up"));
///
/// // Behind the prefix, this is one of GitHub's tokens, which expired long ago.
/// assert!(FORMAT.matches("acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"));
/// # Ok::<(), tower_api_token::GenerateError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenFormat {
    prefix: Cow<'static, str>,
    random_length: usize,
}

impl TokenFormat {
    /// Creates a format from a prefix that is written in the program.
    ///
    /// The prefix customarily names the service and the kind of token, and ends with an underscore: `acme_`,
    /// `acme_app_`. With an underscore, a double click selects the whole token.
    ///
    /// # Panics
    /// Panics if [`new`](Self::new) would return an error. In a `const`, this is a compile error.
    #[must_use]
    #[track_caller]
    pub const fn from_static(prefix: &'static str) -> Self {
        assert!(
            is_prefix(prefix),
            "a prefix is 1 to 32 of A-Z a-z 0-9 - . _ ~"
        );
        Self {
            prefix: Cow::Borrowed(prefix),
            random_length: DEFAULT_RANDOM,
        }
    }

    /// Creates a format from a prefix.
    ///
    /// # Errors
    /// Returns an error if `prefix` is empty, longer than 32 bytes, or has other characters than
    /// `A-Z a-z 0-9 - . _ ~`.
    pub fn new(prefix: &str) -> Result<Self, ConfigError> {
        if !is_prefix(prefix) {
            let message = format!("1 to {LONGEST_PREFIX} of A-Z a-z 0-9 - . _ ~, not {prefix:?}");
            return Err(ConfigError::of("prefix", message));
        }
        Ok(Self {
            prefix: Cow::Owned(prefix.to_owned()),
            random_length: DEFAULT_RANDOM,
        })
    }

    /// Sets how many random characters a token has. Tokens of another length do not match.
    ///
    /// Defaults to 30 as in GitHub's tokens, which is 178 bits.
    ///
    /// # Errors
    /// Returns an error unless `characters` is from 22 to 128. 21 characters have less than the 128 bits that
    /// make guessing hopeless and a digest safe to store (RFC 6750 section 5.1 requires tokens that cannot be
    /// guessed, RFC 6749 section 10.10 a probability of at most 2^-128).
    pub fn random_length(mut self, characters: usize) -> Result<Self, ConfigError> {
        let allowed = SHORTEST_RANDOM..=LONGEST_RANDOM;
        ConfigError::unless_within("random_length", characters, allowed)?;
        self.random_length = characters;
        Ok(self)
    }

    /// Returns the length of a token in bytes, such as for a column of a database.
    #[must_use]
    pub fn token_length(&self) -> usize {
        self.prefix.len() + self.random_length + CHECKSUM_LENGTH
    }

    /// Generates a token from the operating system's random numbers. Every character is equally likely.
    ///
    /// # Errors
    /// Returns an error if the operating system provides no random bytes. There is no fallback.
    pub fn generate(&self) -> Result<BearerToken, GenerateError> {
        self.generate_from(|bytes| getrandom::fill(bytes).map_err(GenerateError))
    }

    fn generate_from(
        &self,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), GenerateError>,
    ) -> Result<BearerToken, GenerateError> {
        // With its final capacity, because a string that grows leaves a copy of its text behind.
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

    /// Returns whether `token` has this format. This allocates nothing.
    ///
    /// [`ApiTokenLayerBuilder::token_format`](crate::ApiTokenLayerBuilder::token_format) applies it to each
    /// request. [`ApiTokenCache`](crate::ApiTokenCache) accepts any text: without the layer, call this first.
    #[must_use]
    pub fn matches(&self, token: &str) -> bool {
        self.matches_bytes(token.as_bytes())
    }

    pub(crate) fn has_prefix(&self, token: &[u8]) -> bool {
        token.starts_with(self.prefix.as_bytes())
    }

    /// Returns a regular expression of these tokens, for secret scanners (GitHub's custom patterns, gitleaks, `grep -E`).
    ///
    /// It is the prefix and as many characters of base62 as follow, between word boundaries. It has no groups and nothing
    /// that RE2, Hyperscan or PCRE would read differently.
    ///
    /// A regular expression cannot compute the checksum. Pass what it finds to [`matches`](Self::matches), which leaves
    /// hardly a false alarm, before you act on it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::TokenFormat;
    ///
    /// const FORMAT: TokenFormat = TokenFormat::from_static("acme_");
    ///
    /// assert_eq!(FORMAT.pattern(), r"\bacme_[0-9A-Za-z]{36}\b");
    /// ```
    #[must_use]
    pub fn pattern(&self) -> String {
        // Before another character there would have to be a letter.
        let is_word = |first: &u8| first.is_ascii_alphanumeric() || *first == b'_';
        let boundary = self.prefix.as_bytes().first().is_some_and(is_word);
        let boundary = if boundary { r"\b" } else { "" };
        // Of the characters of a prefix, only this one has a meaning.
        let prefix = self.prefix.replace('.', r"\.");
        let length = self.random_length + CHECKSUM_LENGTH;
        format!(r"{boundary}{prefix}[0-9A-Za-z]{{{length}}}\b")
    }

    pub(crate) fn matches_bytes(&self, token: &[u8]) -> bool {
        if token.len() != self.token_length() {
            return false;
        }
        let Some(rest) = token.strip_prefix(self.prefix.as_bytes()) else {
            return false;
        };
        let (random, written) = rest.split_at(self.random_length);
        // An invented token nearly always fails here at the first digit.
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

/// The operating system provided no random bytes for a token.
#[derive(Debug, Clone)]
pub struct GenerateError(getrandom::Error);

impl fmt::Display for GenerateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system provided no random bytes")
    }
}

impl std::error::Error for GenerateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Maps a random byte to a character. 248 is the largest multiple of 62 in a byte. Larger ones are discarded,
/// because otherwise the first characters of the alphabet would be more likely.
fn character(byte: u8) -> Option<char> {
    (byte < 248).then(|| char::from(BASE62[usize::from(byte % 62)]))
}

const fn is_prefix(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphanumeric() && !matches!(bytes[at], b'-' | b'.' | b'_' | b'~') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty() && bytes.len() <= LONGEST_PREFIX
}

/// CRC-32 in base62, the most significant digit first.
fn checksum(random: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut checksum = [0; CHECKSUM_LENGTH];
    for (place, digit) in checksum.iter_mut().rev().zip(digits(random)) {
        *place = digit;
    }
    checksum
}

/// CRC-32 in base62, the least significant digit first.
fn digits(random: &[u8]) -> impl Iterator<Item = u8> + use<> {
    let mut rest = crc32(random);
    let next = move || {
        let digit = BASE62[(rest % 62) as usize];
        rest /= 62;
        digit
    };
    std::iter::repeat_with(next).take(CHECKSUM_LENGTH)
}

/// Processes four bytes at a time. The faster methods of CRC libraries need more bytes than a token has.
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

/// The remainders by IEEE 802.3's polynomial, least significant bit first: of each byte, and in the next
/// tables of each byte followed by one, two and three zero bytes.
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

    /// An expired token of GitHub's behind another prefix. With its own, secret scanners would reject this file.
    const GITHUBS: &str = "acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";

    #[test]
    fn the_checksum_is_crc32_in_base62() {
        // The check value that catalogues of CRCs give for CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(checksum(b""), *b"000000");
        assert_eq!(checksum(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"), *b"0mLq17");
    }

    #[test]
    fn crc32_equals_the_bitwise_definition() {
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
    fn githubs_token_matches_by_prefix_and_length() {
        assert!(TokenFormat::from_static("acme_").matches(GITHUBS));
        assert!(!TokenFormat::from_static("acne_").matches(GITHUBS));
        assert!(!TokenFormat::from_static("acme").matches(GITHUBS));
        assert!(
            !TokenFormat::from_static("acme_")
                .random_length(29)
                .unwrap()
                .matches(GITHUBS)
        );
        let format = TokenFormat::from_static("acme_");
        for bad in ["", "acme_", &GITHUBS[1..], &GITHUBS[..40]] {
            assert!(!format.matches(bad), "{bad}");
        }
        assert!(!format.matches(&format!("{GITHUBS}0")));
    }

    #[test]
    fn a_character_outside_base62_does_not_match() {
        let random = b"zQWBuTSOoRi4A9spHcVY5ncnsDkxk-";
        let mut token = b"acme_".to_vec();
        token.extend_from_slice(random);
        token.extend(checksum(random));
        assert!(!TokenFormat::from_static("acme_").matches_bytes(&token));
    }

    #[test]
    fn every_character_is_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        for byte in 0..=u8::MAX {
            *counts.entry(character(byte)).or_insert(0) += 1;
        }
        assert_eq!(counts.remove(&None), Some(8));
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| *count == 4));
    }

    #[test]
    fn discarded_bytes_are_replaced() {
        let mut fills = 0;
        let token = TokenFormat::from_static("t_")
            .random_length(64)
            .unwrap()
            .generate_from(|bytes| {
                fills += 1;
                // Half of each block is discarded, so that two blocks are needed.
                for (place, byte) in bytes.iter_mut().enumerate() {
                    *byte = if place % 2 == 0 { 61 } else { 255 };
                }
                Ok(())
            });
        let token = token.unwrap();
        assert_eq!(fills, 2);
        assert_eq!(token.expose()[2..66], "z".repeat(64));
        assert!(
            TokenFormat::from_static("t_")
                .random_length(64)
                .unwrap()
                .matches(token.expose())
        );
    }

    #[test]
    fn without_random_bytes_there_is_no_token() {
        let mut fills = 0;
        let error = TokenFormat::from_static("t_")
            .generate_from(|_| {
                fills += 1;
                Err(GenerateError(getrandom::Error::UNSUPPORTED))
            })
            .unwrap_err();
        assert_eq!(fills, 1);
        assert_eq!(
            error.to_string(),
            "the operating system provided no random bytes"
        );
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn the_pattern_finds_tokens_in_a_text_and_no_damaged_one() {
        for prefix in ["acme_", "a.b-c~", "~app-", "_", "A1.", "-.", "acme_app_"] {
            for length in [22, 30, 128] {
                let format = TokenFormat::new(prefix).unwrap().random_length(length);
                let format = format.unwrap();
                let pattern = regex::Regex::new(&format.pattern()).unwrap();
                let token = format.generate().unwrap();
                let token = token.expose();
                for text in [
                    token.to_owned(),
                    format!("KEY=\"{token}\"\n"),
                    format!("https://api.example/?key={token}&a=b"),
                ] {
                    let found: Vec<&str> = pattern.find_iter(&text).map(|it| it.as_str()).collect();
                    assert_eq!(found, [token], "{pattern} in {text}");
                }
                let (first, rest) = token.split_at(prefix.len());
                let (early, late) = token.split_at(token.len() - 1);
                for damaged in [
                    early.to_owned(),
                    format!("{token}0"),
                    format!("{token}_"),
                    format!("{first}-{rest}"),
                    format!("{early}-{late}"),
                    format!("{early}."),
                    rest.to_owned(),
                ] {
                    assert!(!pattern.is_match(&damaged), "{pattern} in {damaged}");
                }
                // What it finds is no token if the checksum is wrong.
                let last = if late == "0" { "1" } else { "0" };
                let wrong = format!("{early}{last}");
                assert!(pattern.is_match(&wrong) && !format.matches(&wrong));
            }
        }
    }

    /// `a.b` is not `aXb`, and `xacme_` not `acme_`.
    #[test]
    fn the_pattern_takes_its_prefix_literally_and_from_the_beginning() {
        let pattern = |prefix: &'static str| {
            regex::Regex::new(&TokenFormat::from_static(prefix).pattern()).unwrap()
        };
        let rest = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";
        assert!(pattern("a.b_").is_match(&format!("a.b_{rest}")));
        assert!(!pattern("a.b_").is_match(&format!("aXb_{rest}")));
        assert!(!pattern("acme_").is_match(&format!("xacme_{rest}")));
    }

    #[test]
    fn a_generated_token_has_the_formats_length() {
        let format = TokenFormat::from_static("acme_app_");
        let token = format.generate().unwrap();
        assert_eq!(token.expose().len(), format.token_length());
        assert_eq!(format.token_length(), 9 + 30 + 6);
    }
}
