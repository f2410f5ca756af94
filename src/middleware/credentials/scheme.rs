//! A token behind a scheme: RFC 6750 section 2.1 and RFC 9110 section 11.

use crate::middleware::credentials::grammar::{Limits, Presented, is_tchar, trim};

/// The scheme of RFC 6750.
pub(crate) const BEARER: &str = "Bearer";

/// Reads a header value with a scheme before the token, as in `Authorization`.
pub(crate) fn read<'a>(value: &'a [u8], scheme: &str, limits: &Limits) -> Presented<'a> {
    match credential(value, scheme) {
        None => Presented::Nothing,
        Some(b"") => Presented::Malformed,
        Some(text) => limits.presented(text),
    }
}

/// Returns the text behind the scheme, which is empty if something else than spaces separates them, or `None` if
/// this is another scheme.
pub(super) fn credential<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let rest = after_scheme(value, scheme)?;
    // One or more spaces, and no tab (RFC 9110 section 11.4).
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    Some(if spaces > 0 { &rest[spaces..] } else { b"" })
}

/// Returns what follows the scheme, if it is this one. `Bearerx` is another scheme.
fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (name, rest) = trim(value).split_at_checked(scheme.len())?;
    let goes_on = rest.first().is_some_and(|byte| is_tchar(*byte));
    let scheme = scheme.as_bytes();
    // Nearly all clients write it in the same case.
    let is_scheme = name == scheme || name.eq_ignore_ascii_case(scheme);
    (is_scheme && !goes_on).then_some(rest)
}

/// Returns whether the value has a credential of this scheme, including one behind a credential of another scheme: a
/// proxy may have joined two headers, although RFC 9110 section 5.3 does not allow it for this one.
///
/// Quoted strings are not recognized. This may find a credential where there is none, but misses none.
pub(super) fn is_in(value: &[u8], scheme: &str) -> bool {
    let is_credential = |part: &[u8]| {
        let rest = after_scheme(part, scheme);
        rest.is_some_and(|rest| matches!(rest.first(), Some(b' ' | b'\t')))
    };
    // guard: H19
    after_scheme(value, scheme).is_some()
        || value.split(|byte| *byte == b',').skip(1).any(is_credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(value: &[u8]) -> Presented<'_> {
        read(value, BEARER, &Limits::default())
    }

    #[test]
    fn a_scheme_is_matched_regardless_of_case_and_spaces() {
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
    fn another_scheme_is_not_a_token() {
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
    fn what_follows_bearer_and_is_not_a_token_is_malformed() {
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
    fn the_limits_are_inclusive_and_configurable() {
        let longest = format!("Bearer {}", "a".repeat(512));
        assert!(matches!(reads(longest.as_bytes()), Presented::Token(_)));
        assert!(matches!(reads(b"Bearer abcdefgh"), Presented::Token(_)));
        let legacy = Limits::new(1..=4, true, Vec::new()).unwrap();
        let reads = |value| read(value, BEARER, &legacy);
        assert_eq!(reads(b"Bearer a,!\""), Presented::Token("a,!\"".into()));
        assert_eq!(reads(b"Bearer abcde"), Presented::Malformed);
        assert_eq!(reads(b"Bearer a\x7f"), Presented::Malformed);
    }

    #[test]
    fn a_credential_is_found_behind_one_of_another_scheme() {
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
            assert!(is_in(value.as_bytes(), BEARER), "{value:?}");
        }
        for value in [
            "",
            "Basic YTpi",
            "Basic YTpi, Bearer",
            "Digest a=b, bearer=\"c\"",
            "Basic YTpi, Bearerx abcdefgh",
            "Token Bearer abcdefgh",
        ] {
            assert!(!is_in(value.as_bytes(), BEARER), "{value:?}");
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
