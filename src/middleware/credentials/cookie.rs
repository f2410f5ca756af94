//! Tokens in cookies: RFC 6265 section 4.2.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::middleware::credentials::grammar::{Limits, Presented, trim};

/// Reads the cookie `name` from all `Cookie` headers: over HTTP/2 each cookie may have a header of its own (RFC
/// 9113 section 8.2.3).
///
/// Two cookies of this name are too many, because no specification says which one counts (RFC 6265 section
/// 4.2.2). An empty one counts as none, because a cookie is emptied to delete it.
pub(super) fn read<'a>(headers: &'a HeaderMap, name: &str, limits: &Limits) -> Presented<'a> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| pairs(line.as_bytes()));
    let mut values = pairs.filter_map(|pair| value_of(pair, name));
    match (values.next(), values.next()) {
        (None | Some(b""), None) => Presented::Nothing,
        (Some(value), None) => limits.presented(value),
        (_, Some(_)) => Presented::Multiple,
    }
}

/// Removes the cookie and keeps all others as they are.
pub(super) fn remove(headers: &mut HeaderMap, name: &str) {
    let is_another = |pair: &&[u8]| value_of(pair, name).is_none();
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    let mut pairs_of_all = lines.iter().flat_map(|line| pairs(line.as_bytes()));
    if pairs_of_all.all(|pair| is_another(&pair)) {
        return;
    }
    headers.remove(COOKIE);
    for line in &lines {
        let kept: Vec<&[u8]> = pairs(line.as_bytes()).filter(is_another).collect();
        let kept = kept.join(&b';');
        // Made of the bytes of a header value, it is one.
        if let Ok(mut kept) = HeaderValue::from_bytes(trim(&kept))
            && !kept.is_empty()
        {
            kept.set_sensitive(line.is_sensitive());
            headers.append(COOKIE, kept);
        }
    }
}

fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';')
}

/// Returns the value if the cookie has this name, without surrounding quotes. They are not part of a token,
/// because a value must not contain any.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (written, value) = (trim(&pair[..equals]), trim(&pair[equals + 1..]));
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    (written == name.as_bytes()).then_some(unquoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let values = lines.iter().map(|line| line.parse().unwrap());
        values.map(|value| (COOKIE, value)).collect()
    }

    #[test]
    fn the_cookie_is_found_anywhere() {
        for lines in [
            &["t=abcdefgh"][..],
            &["a=1; t=abcdefgh; b=2"],
            &["a=1;t=abcdefgh;b=2"],
            &["a=1", "t=abcdefgh", "b=2"],
            &["t=\"abcdefgh\""],
            &["a=1; t = abcdefgh "],
            &["T=ABCDEFGH; t=abcdefgh; tt=x; flag"],
        ] {
            let headers = headers(lines);
            let read = read(&headers, "t", &Limits::default());
            assert_eq!(read, Presented::Token("abcdefgh".into()), "{lines:?}");
        }
        let headers = headers(&["t=AZaz09-._~+/=="]);
        let read = read(&headers, "t", &Limits::default());
        assert_eq!(read, Presented::Token("AZaz09-._~+/==".into()));
    }

    #[test]
    fn other_values_are_malformed_nothing_or_multiple() {
        for (lines, expected) in [
            (&[][..], Presented::Nothing),
            (&["", "a=1; t; T=abcdefgh"], Presented::Nothing),
            (&["t="], Presented::Nothing),
            (&["t=\"\""], Presented::Nothing),
            (&["a=\"t=abcdefgh\""], Presented::Nothing),
            (&["t=abcdefg"], Presented::Malformed),
            (&["t=\"abcdefgh"], Presented::Malformed),
            (&["t=\""], Presented::Malformed),
            (&["t=abcd%2Befgh"], Presented::Malformed),
            (&["t=abcd efgh"], Presented::Malformed),
            (&["t=abcdefgh; t=abcdefgh"], Presented::Multiple),
            (&["t=abcdefgh", "t="], Presented::Multiple),
        ] {
            let headers = headers(lines);
            let read = read(&headers, "t", &Limits::default());
            assert_eq!(read, expected, "{lines:?}");
        }
    }

    #[test]
    fn the_cookie_is_removed_and_all_others_stay() {
        for (before, after) in [
            (&["t=x"][..], &[][..]),
            (&["t=x; a=1; b=\"2\""], &["a=1; b=\"2\""]),
            (&["a=1; t=x;b=2"], &["a=1;b=2"]),
            (&["a=1; t=x"], &["a=1"]),
            (&["a=1", "t=x", "t=y; flag"], &["a=1", "flag"]),
            (&["a=1;; b"], &["a=1;; b"]),
        ] {
            let mut headers = headers(before);
            remove(&mut headers, "t");
            let left: Vec<_> = headers.get_all(COOKIE).iter().collect();
            assert_eq!(left, after, "{before:?}");
        }
    }

    /// All lines of up to six of these characters.
    #[test]
    fn nothing_can_be_read_after_a_removal() {
        let mut lines = vec![String::new()];
        for _ in 0..6 {
            let longer = |line: &String| -> Vec<String> {
                "t=; \"".chars().map(|c| format!("{line}{c}")).collect()
            };
            lines = lines.iter().flat_map(longer).collect();
            for line in &lines {
                let mut headers = headers(&[line, "a=1"]);
                remove(&mut headers, "t");
                let left = read(&headers, "t", &Limits::default());
                assert_eq!(left, Presented::Nothing, "{line:?}");
                assert!(
                    headers.get_all(COOKIE).iter().any(|line| line == "a=1"),
                    "{line:?}"
                );
            }
        }
    }
}
