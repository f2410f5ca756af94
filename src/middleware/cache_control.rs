//! What the layer adds to the inner service's responses: `Cache-Control`, `Vary`, and a notice of expiry.

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue};

use crate::middleware::expiry_notice::ExpiryNotice;

/// Protects the inner service's response from caches on its way to the client.
///
/// The rule is the same wherever the token was, including `Authorization`: caches that do not follow RFC
/// 9111 section 3.5, such as nginx, store responses to requests with that header.
#[derive(Debug)]
pub(crate) struct CacheControl {
    pub(crate) credential: Credential,
    /// The headers that were read. Some caches ignore `Vary`, which is what `private` is for. A private
    /// cache needs it to keep the responses to two tokens apart.
    pub(crate) vary: Option<HeaderValue>,
    /// That the token ends soon, if that is to be announced.
    pub(crate) expiry: Option<ExpiryNotice>,
}

/// Where a cache sees the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// There is none: the response is for everybody.
    Absent,
    /// In a header, which a cache may leave out of its key.
    InHeader,
    /// In the URI, which is the cache's key (RFC 6750 section 2.3).
    InUri,
}

impl CacheControl {
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        // `private` keeps the response out of shared caches even beside a directive that says otherwise (RFC
        // 9111 section 3).
        let needs_private = match self.credential {
            Credential::Absent => false,
            // guard: H15, H21
            Credential::InHeader => !has(headers, |directive| {
                is_strict(directive) || is_permission(directive)
            }),
            // guard: H8
            Credential::InUri => !has(headers, is_strict),
        };
        if needs_private {
            headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        // guard: H16
        if let Some(vary) = self.vary {
            headers.append(VARY, vary);
        }
        if let Some(expiry) = self.expiry {
            expiry.apply(headers);
        }
    }
}

fn has(headers: &HeaderMap, is_meant: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    // A comma inside quotes does not separate directives, so a value with quotes is ignored. At worst
    // `private` is added a second time.
    let values = values.filter(|value| !value.contains('"'));
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    directives.any(is_meant)
}

/// `private` for the whole response, or stricter.
fn is_strict(directive: &str) -> bool {
    ["private", "no-store"]
        .iter()
        .any(|strict| directive.eq_ignore_ascii_case(strict))
}

/// Whether the service permits shared caches to store the response.
///
/// RFC 9111 section 3.5 counts `must-revalidate` as a permission too. It is not taken for one here: it is
/// about stale responses, and frameworks add it without being asked.
fn is_permission(directive: &str) -> bool {
    let name = directive.split('=').next().unwrap_or_default().trim();
    ["public", "s-maxage"]
        .iter()
        .any(|permission| name.eq_ignore_ascii_case(permission))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(credential: Credential, lines: &[&'static str]) -> Vec<HeaderValue> {
        let lines = lines.iter().map(|line| HeaderValue::from_static(line));
        let mut headers: HeaderMap = lines.map(|line| (CACHE_CONTROL, line)).collect();
        let control = CacheControl {
            credential,
            vary: None,
            expiry: None,
        };
        control.apply(&mut headers);
        headers.get_all(CACHE_CONTROL).iter().cloned().collect()
    }

    fn is_made_private(credential: Credential, lines: &[&'static str]) -> bool {
        let values = applied(credential, lines);
        assert_eq!(values[..lines.len()], *lines, "what was there stays");
        values.len() > lines.len()
    }

    #[test]
    fn a_response_to_a_token_in_the_uri_is_private_whatever_else_it_says() {
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
    fn a_response_to_a_token_in_a_header_is_private_unless_the_service_permits_sharing() {
        for lines in [
            &[][..],
            &["max-age=60"],
            &["max-age=60, must-revalidate"],
            &["no-cache"],
            &["publicity, s-maxages=1"],
            &["a=\"b, public, c\""],
        ] {
            assert!(is_made_private(Credential::InHeader, lines), "{lines:?}");
        }
        for lines in [
            &["Public"][..],
            &["max-age=1", "S-MaxAge=60"],
            &["private"],
            &["no-store"],
        ] {
            assert!(!is_made_private(Credential::InHeader, lines), "{lines:?}");
        }
    }
}
