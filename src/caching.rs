//! What caches have to be told of the inner service's response.

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue};

/// Nothing, where the token was in `Authorization`: RFC 9111 section 3.5 keeps such responses out of
/// shared caches.
#[derive(Debug)]
pub(crate) struct Caching {
    /// The token was in the URI, which is what a cache stores the response by (RFC 6750 section 2.3).
    pub(crate) private: bool,
    /// The fields that a cache does not know as a credential's.
    pub(crate) vary: Option<HeaderValue>,
}

impl Caching {
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        // Beside a directive that says otherwise, `private` still keeps it out of shared caches (RFC
        // 9111 section 3).
        if self.private && !is_kept_private(headers) {
            headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        if let Some(vary) = self.vary {
            headers.append(VARY, vary);
        }
    }
}

/// It says `private`, and not only of some fields, or what is stricter.
fn is_kept_private(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    directives.any(|directive| {
        directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("private")
    })
}
