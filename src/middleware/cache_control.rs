//! What caches have to be told of the inner service's response. Pure.

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue};

/// Defends the inner service's response against caches on its way. One rule for every place of a
/// token, `Authorization` too: caches that do not follow RFC 9111 section 3.5 (nginx is one) store
/// responses to requests that have it.
#[derive(Debug)]
pub(crate) struct Caching {
    pub(crate) credential: Credential,
    /// The fields that were looked at. Not every cache heeds it; `private` is for those. A cache that
    /// one person has to itself heeds it, and keeps the answers to two tokens apart by it.
    pub(crate) vary: Option<HeaderValue>,
}

/// Where a cache sees the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// There is none: everybody may have the answer.
    Absent,
    /// In a header field, which a cache may leave out of what it tells responses apart by.
    InField,
    /// In the URI, which is what it stores the response by (RFC 6750 section 2.3).
    InUri,
}

impl Caching {
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        // Beside a directive that says otherwise, `private` still keeps it out of shared caches (RFC
        // 9111 section 3).
        let open = match self.credential {
            Credential::Absent => false,
            Credential::InField => !says(headers, |directive| {
                is_strict(directive) || is_leave(directive)
            }),
            Credential::InUri => !says(headers, is_strict),
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

/// The service's leave that others may have it. RFC 9111 section 3.5 takes `must-revalidate` for leave as
/// well; but that speaks of what is stale, and frameworks write it unasked.
fn is_leave(directive: &str) -> bool {
    let name = directive.split('=').next().unwrap_or_default().trim();
    ["public", "s-maxage"]
        .iter()
        .any(|leave| name.eq_ignore_ascii_case(leave))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(credential: Credential, lines: &[&'static str]) -> Vec<HeaderValue> {
        let lines = lines.iter().map(|line| HeaderValue::from_static(line));
        let mut headers: HeaderMap = lines.map(|line| (CACHE_CONTROL, line)).collect();
        let vary = None;
        Caching { credential, vary }.tell(&mut headers);
        headers.get_all(CACHE_CONTROL).iter().cloned().collect()
    }

    fn is_made_private(credential: Credential, lines: &[&'static str]) -> bool {
        let told = told(credential, lines);
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
            assert!(is_made_private(Credential::InUri, lines), "{lines:?}");
            assert!(!is_made_private(Credential::Absent, lines), "{lines:?}");
        }
        for lines in [&["max-age=60, Private"][..], &["public", "no-store ,a"]] {
            assert!(!is_made_private(Credential::InUri, lines), "{lines:?}");
        }
    }

    #[test]
    fn a_response_by_a_token_in_a_field_is_private_unless_the_service_gives_leave() {
        for lines in [
            &[][..],
            &["max-age=60"],
            &["max-age=60, must-revalidate"],
            &["no-cache"],
            &["publicity, s-maxages=1"],
            &["a=\"b, public, c\""],
        ] {
            assert!(is_made_private(Credential::InField, lines), "{lines:?}");
        }
        for lines in [
            &["Public"][..],
            &["max-age=1", "S-MaxAge=60"],
            &["private"],
            &["no-store"],
        ] {
            assert!(!is_made_private(Credential::InField, lines), "{lines:?}");
        }
    }
}
