//! The grammar of a bearer credential: RFC 6750 section 2.1 and RFC 9110 section 11. Pure.

use super::Presented;

const SCHEME: &[u8] = b"bearer";

/// What a token may look like.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) min_length: usize,
    pub(crate) max_length: usize,
    pub(crate) visible_ascii: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_length: 8,
            max_length: 512,
            visible_ascii: false,
        }
    }
}

impl Limits {
    /// A token of the right length and alphabet.
    fn token<'a>(&self, text: &'a [u8]) -> Option<&'a str> {
        if !(self.min_length..=self.max_length).contains(&text.len()) {
            return None;
        }
        let good = if self.visible_ascii {
            text.iter().all(u8::is_ascii_graphic)
        } else {
            is_b64token(text)
        };
        if !good {
            return None;
        }
        std::str::from_utf8(text).ok()
    }
}

/// `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(text: &[u8]) -> bool {
    let body = text.iter().take_while(|byte| is_b64(**byte)).count();
    body > 0 && text[body..].iter().all(|byte| *byte == b'=')
}

fn is_b64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// Reads the value of an `Authorization` field.
pub(crate) fn read<'a>(value: &'a [u8], limits: &Limits) -> Presented<'a> {
    let value = trim(value);
    let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else {
        return Presented::Nothing;
    };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Presented::Nothing;
    }
    match rest.first() {
        // `Bearerx…`: another scheme, whose name begins like ours.
        Some(byte) if is_scheme_byte(*byte) => Presented::Nothing,
        // One or more spaces, and no tab (RFC 9110 section 11.4).
        Some(b' ') => {
            let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
            limits
                .token(&rest[spaces..])
                .map_or(Presented::Malformed, Presented::Token)
        }
        _ => Presented::Malformed,
    }
}

/// `auth-scheme` is a token of RFC 9110 section 5.6.2.
fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Optional white space around a field value is no part of it (RFC 9110 section 5.5).
fn trim(value: &[u8]) -> &[u8] {
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
        read(value, &Limits::default())
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
                Presented::Token("abcdefgh"),
                "{value:?}"
            );
        }
        assert_eq!(
            reads(b"Bearer AZaz09-._~+/=="),
            Presented::Token("AZaz09-._~+/==")
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
        };
        assert_eq!(read(b"Bearer a,!\"", &legacy), Presented::Token("a,!\""));
        assert_eq!(read(b"Bearer abcde", &legacy), Presented::Malformed);
        assert_eq!(read(b"Bearer a\x7f", &legacy), Presented::Malformed);
    }
}
