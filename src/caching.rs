//! What caches have to be told of the inner service's response. Pure.

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue};

/// Nothing, where the token was in `Authorization`: RFC 9111 section 3.5 keeps such responses out of
/// shared caches.
#[derive(Debug)]
pub(crate) struct Caching {
    pub(crate) place: Seen,
    /// The fields that a cache does not know as a credential's.
    pub(crate) vary: Option<HeaderValue>,
}

/// Where a cache sees the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// In `Authorization`, which it knows, or there is none.
    Known,
    /// In a field that it does not know as a credential's, and may leave out of what it tells responses
    /// apart by: not all that are in use heed `Vary`.
    Unknown,
    /// In the URI, which is what it stores the response by (RFC 6750 section 2.3).
    InUri,
}

impl Caching {
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        // Beside a directive that says otherwise, `private` still keeps it out of shared caches (RFC
        // 9111 section 3).
        let open = match self.place {
            Seen::Known => false,
            Seen::Unknown => !says(headers, |directive| {
                is_strict(directive) || is_leave(directive)
            }),
            Seen::InUri => !says(headers, is_strict),
        };
        if open {
            headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        if let Some(vary) = self.vary {
            headers.append(VARY, vary);
        }
    }
}

fn says(headers: &HeaderMap, is_meant: impl Fn(&str) -> bool) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    // A comma between quotes parts nothing, so that a line with quotes says nothing here. At worst a
    // `private` is added that was there.
    let lines = lines.filter(|line| !line.contains('"'));
    let mut directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    directives.any(is_meant)
}

/// `private`, and not only of some fields, or what is stricter.
fn is_strict(directive: &str) -> bool {
    ["private", "no-store"]
        .iter()
        .any(|strict| directive.eq_ignore_ascii_case(strict))
}

/// The service's word that others may have it: what RFC 9111 section 3.5 asks for with `Authorization`.
fn is_leave(directive: &str) -> bool {
    let name = directive.split('=').next().unwrap_or_default().trim();
    ["public", "s-maxage", "must-revalidate"]
        .iter()
        .any(|leave| name.eq_ignore_ascii_case(leave))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(place: Seen, lines: &[&'static str]) -> Vec<HeaderValue> {
        let lines = lines.iter().map(|line| HeaderValue::from_static(line));
        let mut headers: HeaderMap = lines.map(|line| (CACHE_CONTROL, line)).collect();
        Caching { place, vary: None }.tell(&mut headers);
        headers.get_all(CACHE_CONTROL).iter().cloned().collect()
    }

    fn is_made_private(place: Seen, lines: &[&'static str]) -> bool {
        let told = told(place, lines);
        assert_eq!(told[..lines.len()], *lines, "what was there stays");
        told.len() > lines.len()
    }

    #[test]
    fn a_response_by_a_token_in_the_uri_is_made_private_whatever_else_it_says() {
        for lines in [
            &[][..],
            &["public, max-age=60"],
            &["private=\"a\""],
            &["private=\"a, private, b\""],
            &["no-cache=\"a, no-store, b\""],
            &["s-maxage=60", "must-revalidate"],
        ] {
            assert!(is_made_private(Seen::InUri, lines), "{lines:?}");
            assert!(!is_made_private(Seen::Known, lines), "{lines:?}");
        }
        for lines in [&["max-age=60, Private"][..], &["public", "no-store ,a"]] {
            assert!(!is_made_private(Seen::InUri, lines), "{lines:?}");
        }
    }

    #[test]
    fn by_a_token_in_an_unknown_field_it_is_private_unless_the_service_gives_leave() {
        for lines in [
            &[][..],
            &["max-age=60"],
            &["no-cache"],
            &["publicity, s-maxages=1"],
            &["a=\"b, public, c\""],
        ] {
            assert!(is_made_private(Seen::Unknown, lines), "{lines:?}");
        }
        for lines in [
            &["Public"][..],
            &["max-age=1", "S-MaxAge=60"],
            &["must-revalidate"],
            &["private"],
            &["no-store"],
        ] {
            assert!(!is_made_private(Seen::Unknown, lines), "{lines:?}");
        }
    }
}
