//! The grammar of a bearer credential: RFC 6750 section 2.1 and RFC 9110 section 11. Pure.

use std::ops::RangeInclusive;

use crate::error::ConfigError;
use crate::middleware::credentials::presented::Presented;
use crate::token::TokenFormat;

/// The scheme of RFC 6750.
pub(crate) const BEARER: &str = "Bearer";

/// What a token may look like.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) min_length: usize,
    pub(crate) max_length: usize,
    pub(crate) visible_ascii: bool,
    /// One of them, where there are any.
    pub(crate) formats: Vec<TokenFormat>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_length: 8,
            max_length: 512,
            visible_ascii: false,
            formats: Vec::new(),
        }
    }
}

impl Limits {
    /// # Errors
    /// No token would be taken, or none of a format, or none at all would be one.
    pub(crate) fn set_lengths(
        &mut self,
        lengths: &RangeInclusive<usize>,
    ) -> Result<(), ConfigError> {
        if lengths.is_empty() || *lengths.start() == 0 {
            let message = format!("a token's length is from 1 upwards, not {lengths:?}");
            return Err(ConfigError::new(message));
        }
        (self.min_length, self.max_length) = (*lengths.start(), *lengths.end());
        self.formats
            .iter()
            .try_for_each(|format| self.allows(format))
    }

    /// # Errors
    /// None of its tokens would be taken.
    pub(crate) fn add_format(&mut self, format: TokenFormat) -> Result<(), ConfigError> {
        self.allows(&format)?;
        self.formats.push(format);
        Ok(())
    }

    fn allows(&self, format: &TokenFormat) -> Result<(), ConfigError> {
        if (self.min_length..=self.max_length).contains(&format.token_length()) {
            return Ok(());
        }
        let message = format!("with_token_length excludes every token of {format:?}");
        Err(ConfigError::new(message))
    }

    /// A token of the right length and alphabet.
    pub(super) fn token<'a>(&self, text: &'a [u8]) -> Option<&'a str> {
        if !(self.min_length..=self.max_length).contains(&text.len()) {
            return None;
        }
        let good = if !self.formats.is_empty() {
            // Narrower than either alphabet.
            self.formats.iter().any(|format| format.check_bytes(text))
        } else if self.visible_ascii {
            text.iter().all(u8::is_ascii_graphic)
        } else {
            is_b64token(text)
        };
        if !good {
            return None;
        }
        std::str::from_utf8(text).ok()
    }

    /// What stands where nothing but a token does.
    pub(super) fn presented<'a>(&self, text: &'a [u8]) -> Presented<'a> {
        self.token(text)
            .map_or(Presented::Malformed, |token| Presented::Token(token.into()))
    }
}

/// `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &text[..text.len() - padding];
    // Without a branch for each byte.
    !body.is_empty() && body.iter().fold(true, |good, byte| good & is_b64(*byte))
}

fn is_b64(byte: u8) -> bool {
    static TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = matches!(
                byte as u8,
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/'
            );
            byte += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

/// Reads the value of a field that has a scheme's name before the token, as `Authorization` does.
pub(crate) fn read<'a>(value: &'a [u8], scheme: &str, limits: &Limits) -> Presented<'a> {
    let Some(rest) = after_scheme(value, scheme) else {
        return Presented::Nothing;
    };
    if rest.first() != Some(&b' ') {
        return Presented::Malformed;
    }
    // One or more spaces, and no tab (RFC 9110 section 11.4).
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    limits.presented(&rest[spaces..])
}

/// What follows the scheme's name, if it is this scheme. `Bearerx` is another one, whose name begins
/// like ours.
fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (name, rest) = trim(value).split_at_checked(scheme.len())?;
    let goes_on = rest.first().is_some_and(|byte| is_tchar(*byte));
    let scheme = scheme.as_bytes();
    // Nearly everybody writes it as we do.
    let is_scheme = name == scheme || name.eq_ignore_ascii_case(scheme);
    (is_scheme && !goes_on).then_some(rest)
}

/// Whether a credential of this scheme is in it, also behind one of another scheme: somebody on the way
/// may have joined two lines, which a field that is no list does not allow (RFC 9110 section 5.3). What is
/// in quotes is not told apart: of a line that may have a token in it too much is taken, and not too little.
pub(super) fn has_scheme(value: &[u8], scheme: &str) -> bool {
    let is_credential = |part: &[u8]| {
        let rest = after_scheme(part, scheme);
        rest.is_some_and(|rest| matches!(rest.first(), Some(b' ' | b'\t')))
    };
    after_scheme(value, scheme).is_some()
        || value.split(|byte| *byte == b',').skip(1).any(is_credential)
}

/// A token of RFC 9110 section 5.6.2: the name of a scheme (section 11.1) and of a cookie (RFC 6265
/// section 4.1.1) are such.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Optional white space around a field value is no part of it (RFC 9110 section 5.5).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(|byte| blank(byte)).count();
    let value = &value[start..];
    let end = value.iter().rev().take_while(|byte| blank(byte)).count();
    &value[..value.len() - end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(value: &[u8]) -> Presented<'_> {
        read(value, BEARER, &Limits::default())
    }

    #[test]
    fn a_bearer_credential_is_read_whatever_the_schemes_case_and_the_spaces() {
        for value in [
            "Bearer abcdefgh",
            "bearer abcdefgh",
            "BEARER abcdefgh",
            "bEaReR   abcdefgh",
            " \tBearer abcdefgh\t ",
        ] {
            assert_eq!(
                reads(value.as_bytes()),
                Presented::Token("abcdefgh".into()),
                "{value:?}"
            );
        }
        assert_eq!(
            reads(b"Bearer AZaz09-._~+/=="),
            Presented::Token("AZaz09-._~+/==".into())
        );
    }

    #[test]
    fn another_scheme_is_nothing_presented() {
        for value in [
            "",
            "Basic YWJjZGVmZ2g=",
            "Token abcdefgh",
            "ApiKey abcdefgh",
            "Bear",
            "Bearerx abcdefgh",
            "Bearer-x abcdefgh",
        ] {
            assert_eq!(reads(value.as_bytes()), Presented::Nothing, "{value:?}");
        }
    }

    #[test]
    fn what_follows_bearer_and_is_no_token_is_malformed() {
        let long = format!("Bearer {}", "a".repeat(513));
        for value in [
            "Bearer",
            "Bearer   ",
            "Bearer\tabcdefgh",
            "Bearer \tabcdefgh",
            "Bearer:abcdefgh",
            "Bearer abcd efgh",
            "Bearer abcdefgh, Bearer ijklmnop",
            "Bearer abcdefgh,",
            "Bearer abcd=efgh",
            "Bearer ========",
            "Bearer abcdefg",
            "Bearer \"abcdefgh\"",
            &long,
        ] {
            assert_eq!(reads(value.as_bytes()), Presented::Malformed, "{value:?}");
        }
        assert_eq!(reads(b"Bearer abcdefg\xff"), Presented::Malformed);
        assert_eq!(
            reads(b"Bearer \xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"),
            Presented::Malformed
        );
    }

    #[test]
    fn the_limits_are_inclusive_and_can_be_moved() {
        let longest = format!("Bearer {}", "a".repeat(512));
        assert!(matches!(reads(longest.as_bytes()), Presented::Token(_)));
        assert!(matches!(reads(b"Bearer abcdefgh"), Presented::Token(_)));
        let legacy = Limits {
            min_length: 1,
            max_length: 4,
            visible_ascii: true,
            formats: Vec::new(),
        };
        let reads = |value| read(value, BEARER, &legacy);
        assert_eq!(reads(b"Bearer a,!\""), Presented::Token("a,!\"".into()));
        assert_eq!(reads(b"Bearer abcde"), Presented::Malformed);
        assert_eq!(reads(b"Bearer a\x7f"), Presented::Malformed);
    }

    #[test]
    fn a_credential_is_found_behind_one_of_another_scheme_too() {
        for value in [
            "Bearer abcdefgh",
            "bearer",
            "Bearer:abcdefgh",
            "Basic YTpi, Bearer abcdefgh",
            "Basic YTpi,bearer\tabcdefgh",
            ", Bearer abcdefgh",
            "Digest a=\"b\", c=d, BEARER  abcdefgh, Basic YTpi",
            "Digest a=\"b, Bearer abcdefgh",
        ] {
            assert!(has_scheme(value.as_bytes(), BEARER), "{value:?}");
        }
        for value in [
            "",
            "Basic YTpi",
            "Basic YTpi, Bearer",
            "Digest a=b, bearer=\"c\"",
            "Basic YTpi, Bearerx abcdefgh",
            "Token Bearer abcdefgh",
        ] {
            assert!(!has_scheme(value.as_bytes(), BEARER), "{value:?}");
        }
    }

    #[test]
    fn another_scheme_is_read_by_the_same_rules() {
        let reads = |value| read(value, "Token", &Limits::default());
        assert_eq!(
            reads(b"token  abcdefgh"),
            Presented::Token("abcdefgh".into())
        );
        assert_eq!(reads(b"Token"), Presented::Malformed);
        for other in [&b"Bearer abcdefgh"[..], b"Tokens abcdefgh", b"Toke", b""] {
            assert_eq!(reads(other), Presented::Nothing);
        }
    }
}
