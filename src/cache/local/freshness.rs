//! Decides until when an entry may be used. It contains all of protocol.md section 6 that is about time.

use std::time::Duration;

use crate::clock::Tick;

/// How long this process may use its local entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The local level is off.
    Off,
    /// An entry may be used for less than this staleness bound after its command was sent.
    Within(Duration),
    /// The store is this process's own memory, and marks entries that it deletes.
    Own,
}

impl Freshness {
    pub(crate) fn is_off(self) -> bool {
        self == Self::Off
    }

    pub(crate) fn is_bounded(self) -> bool {
        matches!(self, Self::Within(_))
    }

    /// Returns the staleness bound of this process's entries.
    pub(crate) fn bound(self) -> Duration {
        match self {
            Self::Within(bound) => bound,
            Self::Off | Self::Own => Duration::ZERO,
        }
    }

    /// Returns the age of the result of a command that was sent after the clock showed `sent`, or `None` if it
    /// may no longer be used.
    ///
    /// No entry outlives `wait_for_all_instances`, which completes at or after *reply* + S: a later request uses
    /// an entry only if `sent > now - S >= reply`, so the entry's command ran after the deletion.
    /// Hence `sent` is read before the command is sent, `now` after the request started, and neither
    /// from a cached clock.
    pub(crate) fn age(self, sent: Tick, now: Tick) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Own => Some(Duration::ZERO),
            Self::Within(bound) => {
                let age = now.since(sent);
                (age < bound).then_some(age)
            }
        }
    }

    /// Returns whether an entry in use is read again in the background: from half of the bound on, so that a
    /// hot token never waits.
    pub(crate) fn wants_refresh(self, age: Duration) -> bool {
        match self {
            Self::Within(bound) => age >= bound / 2,
            Self::Off | Self::Own => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Tick {
        Tick(millis * 1_000_000)
    }

    #[test]
    fn an_entry_is_usable_for_less_than_the_bound() {
        let level = Freshness::Within(S);
        assert_eq!(
            level.age(at(5_000), at(5_999)),
            Some(Duration::from_millis(999))
        );
        assert_eq!(level.age(at(5_000), at(6_000)), None);
        assert_eq!(level.age(at(5_000), at(4_000)), Some(Duration::ZERO));
        assert_eq!(Freshness::Off.age(at(5_000), at(5_000)), None);
    }

    #[test]
    fn a_refresh_is_wanted_from_half_of_the_bound() {
        let level = Freshness::Within(S);
        assert!(!level.wants_refresh(Duration::from_millis(499)));
        assert!(level.wants_refresh(Duration::from_millis(500)));
        assert!(!Freshness::Own.wants_refresh(Duration::from_secs(9)));
    }
}
