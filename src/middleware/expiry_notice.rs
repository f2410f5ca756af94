//! The response header that announces the end of a token.

use std::num::NonZero;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};

const API_TOKEN_EXPIRES: HeaderName = HeaderName::from_static("api-token-expires");

/// When the request's token expires, in seconds since 1970. It takes eight bytes, because each response future has
/// room for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExpiryNotice(NonZero<i64>);

impl ExpiryNotice {
    /// Returns the notice for a token that expires at `expires_at`, if less than `before` is left.
    pub(crate) fn of(
        expires_at: DateTime<Utc>,
        before: Duration,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        // There is no duration if it has expired since it was verified.
        let left = (expires_at - now).to_std().unwrap_or_default();
        let seconds = NonZero::new(expires_at.timestamp())?;
        (left < before).then_some(Self(seconds))
    }

    /// Adds the header, unless the inner service did.
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        // The format of `Date` and `Expires` (RFC 9110 section 5.6.7).
        let date = DateTime::from_timestamp(self.0.get(), 0)
            .map(|at| at.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
        if let Some(Ok(value)) = date.map(HeaderValue::try_from) {
            headers.entry(API_TOKEN_EXPIRES).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_token_is_announced_when_less_than_the_duration_is_left() {
        let before = Duration::from_secs(60);
        let notice = |now| ExpiryNotice::of(at(1_000), before, at(now));
        assert_eq!(notice(940), None);
        assert!(notice(941).is_some() && notice(999).is_some() && notice(1_001).is_some());
        assert!(ExpiryNotice::of(at(1_000), Duration::MAX, at(1)).is_some());
    }

    #[test]
    fn the_header_is_an_http_date_and_the_inner_services_stays() {
        let notice = ExpiryNotice::of(at(784_111_777), Duration::MAX, at(1)).unwrap();
        let mut headers = HeaderMap::new();
        notice.apply(&mut headers);
        assert_eq!(
            headers["api-token-expires"],
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        headers.insert("api-token-expires", HeaderValue::from_static("never"));
        notice.apply(&mut headers);
        assert_eq!(headers["api-token-expires"], "never");
        assert_eq!(headers.len(), 1);
    }
}
