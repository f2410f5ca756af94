//! How long an answer is cached. Pure functions of the settings and the clock.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The shortest TTL. `PX 0` is an error in Redis.
const LEAST: Duration = Duration::from_millis(1);

/// The TTL of the Python service's records.
pub(crate) const DIFY_TTL: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ttls {
    pub(crate) ttl: Duration,
    /// Zero: unknown, denied and expired tokens are not cached.
    pub(crate) negative_ttl: Duration,
    /// The maximum random reduction of a TTL, in percent.
    pub(crate) jitter_percent: u32,
    /// For how long after its TTL a record may still be answered if the loader fails.
    pub(crate) stale_if_error: Duration,
}

impl Ttls {
    /// Returns the longest time for which an answer can be stored.
    pub(crate) fn longest(&self) -> Duration {
        (self.ttl + self.stale_if_error).max(self.negative_ttl)
    }

    pub(crate) fn is_stale_allowed(&self) -> bool {
        !self.stale_if_error.is_zero()
    }

    /// Returns the TTL of a record. An expired record has the negative TTL, because its expiry may be extended.
    /// It is cached as a record, because the token exists.
    pub(crate) fn of_record(
        &self,
        expires_at: Option<DateTime<Utc>>,
        wall: DateTime<Utc>,
        dice: u32,
    ) -> Duration {
        let Some(end) = expires_at else {
            return self.shortened(self.ttl, dice);
        };
        match (end - wall).to_std() {
            Ok(left) if !left.is_zero() => self.shortened(self.ttl, dice).min(left).max(LEAST),
            _ => self.of_negative(dice),
        }
    }

    /// Returns the grace after `ttl` of a record, which never extends past the token's own expiry.
    pub(crate) fn grace_of_record(
        &self,
        expires_at: Option<DateTime<Utc>>,
        wall: DateTime<Utc>,
        ttl: Duration,
    ) -> Duration {
        let Some(end) = expires_at else {
            return self.stale_if_error;
        };
        let left = (end - wall).to_std().unwrap_or_default();
        self.stale_if_error.min(left.saturating_sub(ttl))
    }

    /// Returns the TTL of an unknown token and of a denied record, or zero if they are not cached.
    pub(crate) fn of_negative(&self, dice: u32) -> Duration {
        if self.negative_ttl.is_zero() {
            return Duration::ZERO;
        }
        self.shortened(self.negative_ttl, dice)
    }

    /// Applies jitter, so that entries that were filled together do not expire together. It only shortens,
    /// because the configured TTL is a promise.
    fn shortened(&self, whole: Duration, dice: u32) -> Duration {
        let most = u64::from(self.jitter_percent) * u64::from(dice);
        let scale = 100 * u64::from(u32::MAX);
        let nanos = whole.as_nanos();
        let cut = nanos * u128::from(most) / u128::from(scale);
        Duration::from_nanos(u64::try_from(nanos - cut).unwrap_or(u64::MAX)).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TTLS: Ttls = Ttls {
        ttl: Duration::from_secs(600),
        negative_ttl: Duration::from_secs(60),
        jitter_percent: 10,
        stale_if_error: Duration::from_secs(300),
    };

    fn record(expires_in: Option<i64>, dice: u32) -> Duration {
        let wall = DateTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let end = expires_in.map(|seconds| {
            let distance = SECOND * u32::try_from(seconds.unsigned_abs()).unwrap();
            if seconds < 0 {
                wall - distance
            } else {
                wall + distance
            }
        });
        TTLS.of_record(end, wall, dice)
    }

    #[test]
    fn jitter_shortens_a_ttl_by_at_most_its_share() {
        assert_eq!(record(None, 0), SECOND * 600);
        assert_eq!(record(None, u32::MAX), SECOND * 540);
        assert_eq!(TTLS.of_negative(0), SECOND * 60);
        assert_eq!(TTLS.of_negative(u32::MAX), SECOND * 54);
    }

    #[test]
    fn the_tokens_expiry_caps_the_ttl() {
        assert_eq!(record(Some(30), 0), SECOND * 30);
        assert_eq!(record(Some(30), u32::MAX), SECOND * 30);
        assert_eq!(record(Some(10_000), 0), SECOND * 600);
    }

    #[test]
    fn an_expired_record_has_the_negative_ttl() {
        assert_eq!(record(Some(0), 0), SECOND * 60);
        assert_eq!(record(Some(-5), 0), SECOND * 60);
    }

    #[test]
    fn the_grace_ends_with_the_token_too() {
        let wall = DateTime::UNIX_EPOCH;
        let grace = |seconds: Option<u32>| {
            let end = seconds.map(|seconds| wall + SECOND * seconds);
            TTLS.grace_of_record(end, wall, SECOND * 600)
        };
        assert_eq!(grace(None), SECOND * 300);
        assert_eq!(grace(Some(10_000)), SECOND * 300);
        assert_eq!(grace(Some(700)), SECOND * 100);
        assert_eq!(grace(Some(600)), Duration::ZERO);
        assert_eq!(grace(Some(5)), Duration::ZERO);
    }

    #[test]
    fn a_ttl_is_never_less_than_a_millisecond() {
        let wall = DateTime::UNIX_EPOCH;
        let end = wall + Duration::from_nanos(1);
        assert_eq!(TTLS.of_record(Some(end), wall, 0), LEAST);
    }

    #[test]
    fn without_a_grace_stale_answers_are_not_allowed() {
        assert!(TTLS.is_stale_allowed());
        let none = Ttls {
            stale_if_error: Duration::ZERO,
            ..TTLS
        };
        assert!(!none.is_stale_allowed());
    }
}
