//! Decides until when an entry may be used. It contains all of protocol.md section 6 that is about time.

use std::time::Duration;

use crate::clock::Tick;
use crate::store::watch::{Tracker, Watch};

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

    /// Returns until when what `proof` proves may be used, or `None` if it may not be used at `now`.
    ///
    /// No entry outlives `wait_for_all_instances`, which completes at or after *reply* + S: a later request uses
    /// an entry only if it was proved by a command that was sent after `now - S >= reply`, and so ran after the
    /// deletion. The command is the one that read it, or a heartbeat of the connection that watches it
    /// (docs/internals/tracking.md). Hence the clock is read before each command is sent, `now` is read after the
    /// request started, and neither is from a cached clock.
    pub(crate) fn check(
        self,
        proof: &Proof<'_>,
        tracker: Option<&Tracker>,
        now: Tick,
    ) -> Option<Usable> {
        let bound = match self {
            Self::Off => return None,
            Self::Own => return Some(Usable::ALWAYS),
            Self::Within(bound) => bound,
        };
        let since = match proof.watch {
            // guard: TR8
            Some(watch) => proof.sent.max(watch.proved()?),
            None => proof.sent,
        };
        let age = now.since(since);
        // Reading it again gets it a watch.
        let is_on = || tracker.is_some_and(Tracker::is_on);
        let is_tracked = || is_on() && tracker.is_some_and(|it| it.is_proved(now, bound));
        // From half of the bound on, so that a hot token never waits.
        let is_old = age >= bound / 2;
        let (within, refresh) = match proof.watch {
            Some(watch) if watch.goes_on() => (bound, false),
            // Another connection watches it, whose last proof ends. guard: TR12
            Some(_) => (bound, is_on() || is_old),
            // guard: TR9
            None if proof.is_watchable && is_tracked() => (bound.min(UNWATCHED), true),
            None => (bound, is_old),
        };
        let until = since.after(within);
        (age < within).then_some(Usable { until, refresh })
    }
}

/// How long what can be watched is used without a watch, while others are. Changes of everything else are then seen
/// at once, and this is how much later those are.
const UNWATCHED: Duration = Duration::from_millis(50);

/// What is known of when an entry, or a tenant's generation, was the store's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof<'a> {
    /// The clock before the command was sent that read or wrote it.
    pub(crate) sent: Tick,
    /// The watch for its next change.
    pub(crate) watch: Option<&'a Watch>,
    /// Whether reading it again can get it a watch.
    pub(crate) is_watchable: bool,
}

/// What may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usable {
    /// Until when, if nothing else is heard of it.
    pub(crate) until: Tick,
    /// Whether it is to be read again in the background.
    pub(crate) refresh: bool,
}

impl Usable {
    pub(in crate::cache) const ALWAYS: Self = Self {
        until: Tick::NEVER,
        refresh: false,
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const S: Duration = Duration::from_secs(1);
    const LEVEL: Freshness = Freshness::Within(S);

    fn at(millis: u64) -> Tick {
        Tick(millis * 1_000_000)
    }

    fn unwatched(sent: u64) -> Proof<'static> {
        Proof {
            sent: at(sent),
            watch: None,
            is_watchable: true,
        }
    }

    /// Returns whether what may be used is to be read again.
    fn refreshes(usable: Option<Usable>) -> Option<bool> {
        usable.map(|usable| usable.refresh)
    }

    fn tracker() -> Arc<Tracker> {
        Tracker::new("ns:tokens".to_owned(), "ns:tenant:".to_owned())
    }

    #[test]
    fn an_entry_is_usable_for_less_than_the_bound() {
        let check = |sent, now| refreshes(LEVEL.check(&unwatched(sent), None, at(now)));
        assert_eq!(check(5_000, 5_999), Some(true));
        assert_eq!(check(5_000, 6_000), None);
        assert_eq!(check(5_000, 4_000), Some(false));
        let off = Freshness::Off;
        assert_eq!(off.check(&unwatched(5_000), None, at(5_000)), None);
    }

    #[test]
    fn a_refresh_is_wanted_from_half_of_the_bound() {
        let check = |level: Freshness, age: u64| {
            refreshes(level.check(&unwatched(5_000), None, at(5_000 + age)))
        };
        assert_eq!(check(LEVEL, 499), Some(false));
        assert_eq!(check(LEVEL, 500), Some(true));
        assert_eq!(check(Freshness::Own, 9_000), Some(false));
    }

    #[test]
    fn a_watched_entry_is_as_old_as_the_latest_heartbeat() {
        let tracker = tracker();
        let session = tracker.begin(at(5_000));
        session.enter();
        let watch = Watch::new(Arc::clone(&session), tracker.mark("k"));
        let proof = Proof {
            watch: Some(&watch),
            ..unwatched(5_000)
        };
        let check = |now| refreshes(LEVEL.check(&proof, Some(&tracker), at(now)));
        assert_eq!(check(5_999), Some(false));
        assert_eq!(check(6_000), None);
        session.prove(at(5_750));
        assert_eq!(check(6_749), Some(false));
        assert_eq!(check(6_750), None);
        session.end();
        assert_eq!(check(6_249), Some(false), "nothing can watch it");
        assert_eq!(check(6_749), Some(true), "what was proved stays proved");
        tracker.changed(b"k");
        assert_eq!(check(5_751), None);
    }

    #[test]
    fn what_is_not_watched_is_used_for_50_ms_while_others_are() {
        let tracker = tracker();
        let check = |proof: &Proof<'_>, now| refreshes(LEVEL.check(proof, Some(&tracker), at(now)));
        assert_eq!(check(&unwatched(5_000), 5_499), Some(false));
        let session = tracker.begin(at(5_000));
        assert_eq!(
            check(&unwatched(5_000), 5_499),
            Some(false),
            "nothing can watch it"
        );
        session.enter();
        assert_eq!(check(&unwatched(5_000), 5_049), Some(true));
        assert_eq!(check(&unwatched(5_000), 5_050), None);
        let negative = Proof {
            is_watchable: false,
            ..unwatched(5_000)
        };
        assert_eq!(check(&negative, 5_499), Some(false));
        // No heartbeat was answered for a whole bound: changes are not reported any more.
        drop(session);
        assert_eq!(check(&unwatched(5_500), 6_000), Some(true));
    }
}
