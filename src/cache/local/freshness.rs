//! Until when an entry may be used. All of section 6 that is about time is here.

use std::time::Duration;

use crate::clock::Tick;

/// How long this process may use what it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Nothing: the local level is off.
    Off,
    /// An entry is good for less than this staleness bound after the command that proved it was sent.
    Within(Duration),
    /// The store is this process's own memory, and says itself what counts.
    Own,
}

impl Freshness {
    pub(crate) fn is_off(self) -> bool {
        self == Self::Off
    }

    pub(crate) fn is_bounded(self) -> bool {
        matches!(self, Self::Within(_))
    }

    /// The staleness bound that this process's entries keep.
    pub(crate) fn bound(self) -> Duration {
        match self {
            Self::Within(bound) => bound,
            Self::Off | Self::Own => Duration::ZERO,
        }
    }

    /// The age of what was proved by a command sent after the clock said `sent`; `None` where it may
    /// not be used any more.
    ///
    /// Proof that nothing outlives `wait_for_all_instances`: it returns at or after *reply* + S; a later request
    /// uses an entry only if `sent > now - S >= reply`, so that the proof ran after the deletion.
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

    /// From half of the bound on an entry in use is read again in the background, so that a hot
    /// token never waits.
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
