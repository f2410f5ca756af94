//! Tokens in the query: RFC 6750 section 2.3, read as `application/x-www-form-urlencoded`.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;

use crate::middleware::credentials::grammar::{Limits, Presented};

/// Reads the parameter `name`. Without a value it counts as omitted, and twice it is an error (RFC 6749 section
/// 3.1).
pub(super) fn read<'a>(uri: &'a Uri, name: &str, limits: &Limits) -> Presented<'a> {
    let parameters = uri.query().unwrap_or_default().split('&');
    let mut values = parameters.filter_map(|parameter| value_of(parameter, name));
    match (values.next(), values.next()) {
        (None | Some(""), None) => Presented::Nothing,
        // guard: H5
        (Some(value), None) => token(value, limits),
        (_, Some(_)) => Presented::Multiple,
    }
}

/// Returns the URI without the parameter and with all others as they are, or `None` if it has no such
/// parameter.
pub(super) fn without(uri: &Uri, name: &str) -> Option<Uri> {
    let rest = others(uri.query()?, name)?;
    let separator = if rest.is_empty() { "" } else { "?" };
    let rest = format!("{}{separator}{}", uri.path(), rest.join("&"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(rest).ok();
    // This is a valid URI, because only a part of the query is gone. If it were not, the token would still not be
    // passed on.
    Some(Uri::from_parts(parts).unwrap_or_default())
}

/// Returns all other parameters as they are, or `None` if `query` has no parameter `name`.
pub(super) fn others<'a>(query: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let is_another = |parameter: &&str| value_of(parameter, name).is_none();
    let parameters = query.split('&');
    let others: Vec<&str> = parameters.clone().filter(is_another).collect();
    (others.len() < parameters.count()).then_some(others)
}

/// Returns the encoded value if the parameter has this name, however the name is encoded: no parameter that the
/// inner service would decode to it may slip through.
fn value_of<'a>(parameter: &'a str, name: &str) -> Option<&'a str> {
    let (written, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    // guard: H6
    let is_named = is_written(written, name);
    is_named.then_some(value)
}

fn token<'a>(value: &'a str, limits: &Limits) -> Presented<'a> {
    match decoded(value) {
        Some(Cow::Borrowed(text)) => limits.presented(text),
        Some(Cow::Owned(text)) => limits.presented_decoded(text),
        None => Presented::Malformed,
    }
}

/// Returns whether `text` decodes to `name`. This compares while decoding, because an attacker chooses how many
/// parameters there are.
fn is_written(text: &str, name: &str) -> bool {
    let mut name = name.bytes();
    let mut bytes = text.bytes();
    while let Some(byte) = decoded_byte(&mut bytes) {
        if byte.is_none() || byte != name.next() {
            return false;
        }
    }
    name.next().is_none()
}

/// Returns the decoded text, or `None` if an escape is invalid.
fn decoded(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(text.as_bytes().into());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = decoded_byte(&mut bytes) {
        out.push(byte?);
    }
    Some(out.into())
}

/// Returns the next byte, with an inner `None` if its escape is invalid. A plus sign is a space; that of a token
/// is encoded as `%2B`.
fn decoded_byte(bytes: &mut std::str::Bytes<'_>) -> Option<Option<u8>> {
    Some(match bytes.next()? {
        b'+' => Some(b' '),
        b'%' => escaped(bytes),
        byte => Some(byte),
    })
}

fn escaped(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> Uri {
        format!("/a/b?{query}").parse().unwrap()
    }

    #[test]
    fn a_token_is_decoded_like_a_form() {
        for (query, token) in [
            ("access_token=abcdefgh", "abcdefgh"),
            ("a=1&access_token=abcdefgh&b=2", "abcdefgh"),
            ("access%5Ftoken=abcdefgh", "abcdefgh"),
            ("access_token=abc%2Bdef%2fgh%3D%3d", "abc+def/gh=="),
            ("access_token=abcd/efgh==", "abcd/efgh=="),
            ("access_token=%61bcdefgh", "abcdefgh"),
        ] {
            let uri = uri(query);
            let read = read(&uri, "access_token", &Limits::default());
            assert_eq!(read, Presented::Token(token.into()), "{query}");
        }
    }

    #[test]
    fn other_values_are_malformed_nothing_or_multiple() {
        for (query, expected) in [
            ("", Presented::Nothing),
            ("access_token", Presented::Nothing),
            ("access_token=", Presented::Nothing),
            ("xaccess_token=abcdefgh", Presented::Nothing),
            ("Access_Token=abcdefgh", Presented::Nothing),
            ("a=access_token=abcdefgh", Presented::Nothing),
            ("access_token=abcd+efgh", Presented::Malformed),
            ("access_token=abcd%20efgh", Presented::Malformed),
            ("access_token=abcdefg", Presented::Malformed),
            ("access_token=abcdefgh%", Presented::Malformed),
            ("access_token=abcdefgh%4", Presented::Malformed),
            ("access_token=abcdefgh%+1", Presented::Malformed),
            ("access_token=abcdefgh%ff", Presented::Malformed),
            (
                "access_token=abcdefgh&access_token=abcdefgh",
                Presented::Multiple,
            ),
            ("access_token=abcdefgh&access_token", Presented::Multiple),
            ("access_token=&access%5ftoken=x", Presented::Multiple),
        ] {
            let uri = uri(query);
            let read = read(&uri, "access_token", &Limits::default());
            assert_eq!(read, expected, "{query}");
        }
    }

    #[test]
    fn the_parameter_is_removed_and_all_others_stay_byte_for_byte() {
        for (before, after) in [
            ("/a?access_token=x", "/a"),
            ("/a?access_token=x&b=%7e+%2B&&c", "/a?b=%7e+%2B&&c"),
            (
                "/a?b=1&access_token=x&access%5Ftoken=y&a=%41",
                "/a?b=1&a=%41",
            ),
            ("/a?&access_token=x", "/a?"),
            (
                "http://h:1/%7Ea?b=1&access_token=x&c=2",
                "http://h:1/%7Ea?b=1&c=2",
            ),
            ("http://h?access_token=x", "http://h/"),
        ] {
            let uri: Uri = before.parse().unwrap();
            assert_eq!(without(&uri, "access_token").unwrap(), after, "{before}");
        }
        for untouched in ["/a", "/a?", "/a?b=access_token", "/access_token=x", "*"] {
            let uri: Uri = untouched.parse().unwrap();
            assert_eq!(without(&uri, "access_token"), None, "{untouched}");
        }
    }

    #[test]
    fn everything_before_the_query_stays() {
        let starts = [
            "/",
            "//h/",
            "//",
            "/a//b",
            "/*",
            "/%",
            "/%zz",
            "/a:b@c",
            "/a;t=x",
            "/\"{}|",
            "/é",
            "*",
            "http://h",
            "http://h/",
            "https://u:p@[::1]:8/a",
            "ws://h//x",
        ];
        for start in starts {
            let Ok(expected) = start.parse::<Uri>() else {
                panic!("{start}");
            };
            let Ok(before) = format!("{start}?t=x").parse::<Uri>() else {
                continue;
            };
            let after = without(&before, "t").unwrap_or_else(|| panic!("{start}"));
            assert_eq!(after, expected, "{start}");
            let longest = format!("{start}?t=x&{}", "y".repeat(65_000));
            let before: Uri = longest.parse().unwrap();
            let after = without(&before, "t").unwrap();
            assert_eq!(after.path(), expected.path(), "{start}");
            assert_eq!(after.query().map(str::len), Some(65_000), "{start}");
        }
    }

    /// All queries of up to six of these characters.
    #[test]
    fn nothing_can_be_read_after_a_removal_and_nothing_else_is_missing() {
        let mut queries = vec![String::new()];
        for _ in 0..6 {
            let longer = |query: &String| -> Vec<String> {
                "a=&%61".chars().map(|c| format!("{query}{c}")).collect()
            };
            let next: Vec<String> = queries.iter().flat_map(longer).collect();
            for query in &next {
                let before = uri(query);
                let presents = read(&before, "a", &Limits::default()) != Presented::Nothing;
                let Some(after) = without(&before, "a") else {
                    assert!(!presents, "{query}");
                    continue;
                };
                assert_eq!(
                    read(&after, "a", &Limits::default()),
                    Presented::Nothing,
                    "{query}"
                );
                assert_eq!(without(&after, "a"), None, "{query}");
                let kept = query
                    .split('&')
                    .filter(|parameter| value_of(parameter, "a").is_none());
                let kept: Vec<&str> = kept.collect();
                assert_eq!(after.query().unwrap_or_default(), kept.join("&"), "{query}");
            }
            queries = next;
        }
    }
}
