//! Invalidations by this process within the last staleness bound (protocol.md I4).
//!
//! After one bound, an entry from before the invalidation has expired by its age, so nothing is remembered
//! longer. The local level is keyed by the token's text, and an operator may have only the digest. So an
//! invalidation does not search for the entry: each hit looks up its entry's digest here.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Tick;
use crate::token::TokenDigest;
use crate::util::sync::RwLock;
use crate::util::sync::atomic::{AtomicU64, Ordering};
use crate::util::unpoisoned;

pub(crate) struct Invalidated {
    bound: Duration,
    /// When the latest invalidation was, or 0 if there was none. While it is older than the bound, a hit pays
    /// one atomic load and takes no lock.
    latest: AtomicU64,
    noted: RwLock<Noted>,
}

#[derive(Default)]
struct Noted {
    at: HashMap<TokenDigest, Tick>,
    order: VecDeque<(Tick, TokenDigest)>,
}

impl Invalidated {
    pub(crate) fn new(bound: Duration) -> Self {
        Self {
            bound,
            latest: AtomicU64::new(0),
            noted: RwLock::default(),
        }
    }

    /// Notes an invalidation of `digest` at `now`.
    pub(crate) fn note(&self, digest: TokenDigest, now: Tick) {
        if self.bound.is_zero() {
            return;
        }
        let mut noted = unpoisoned(self.noted.write());
        while let Some(&(at, old)) = noted.order.front() {
            if now.since(at) <= self.bound {
                break;
            }
            noted.order.pop_front();
            if noted.at.get(&old) == Some(&at) {
                noted.at.remove(&old);
            }
        }
        // Concurrent invalidations may be noted in the other order.
        let at = noted.at.entry(digest).or_insert(now);
        *at = (*at).max(now);
        noted.order.push_back((now, digest));
        // guard: IL16
        self.latest.fetch_max(now.0, Ordering::Release);
    }

    /// Returns whether the token was invalidated at or after `sent`, as far as is remembered at `now`.
    pub(crate) fn since(&self, digest: &TokenDigest, sent: Tick, now: Tick) -> bool {
        let latest = self.latest.load(Ordering::Acquire);
        if latest == 0 || latest < sent.0 || now.since(Tick(latest)) > self.bound {
            return false;
        }
        let noted = unpoisoned(self.noted.read());
        noted.at.get(digest).is_some_and(|at| sent <= *at)
    }
}

#[cfg(all(test, interleavings))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_from_before_an_invalidation_is_invalidated() {
        let invalidated = Invalidated::new(Duration::from_nanos(10));
        let (a, b) = (TokenDigest::of("a"), TokenDigest::of("b"));
        assert!(!invalidated.since(&a, Tick(5), Tick(6)));
        invalidated.note(a, Tick(7));
        assert!(invalidated.since(&a, Tick(5), Tick(8)));
        assert!(invalidated.since(&a, Tick(7), Tick(8)));
        assert!(!invalidated.since(&a, Tick(8), Tick(8)));
        assert!(!invalidated.since(&b, Tick(5), Tick(8)));
    }

    #[test]
    fn an_earlier_invalidation_that_is_noted_later_changes_nothing() {
        let invalidated = Invalidated::new(Duration::from_nanos(10));
        let a = TokenDigest::of("a");
        invalidated.note(a, Tick(9));
        invalidated.note(a, Tick(7));
        assert!(invalidated.since(&a, Tick(8), Tick(9)));
    }

    #[test]
    fn nothing_is_remembered_longer_than_the_bound() {
        let invalidated = Invalidated::new(Duration::from_nanos(10));
        for n in 0..1_000 {
            invalidated.note(TokenDigest::of(&n.to_string()), Tick(100 + n));
        }
        let noted = invalidated.noted.read().unwrap();
        assert_eq!((noted.at.len(), noted.order.len()), (11, 11));
    }

    #[test]
    fn an_invalidation_is_known_until_its_bound_is_over() {
        let invalidated = Invalidated::new(Duration::from_nanos(10));
        let a = TokenDigest::of("a");
        invalidated.note(a, Tick(7));
        assert!(invalidated.since(&a, Tick(5), Tick(17)));
        assert!(!invalidated.since(&a, Tick(5), Tick(18)));
    }
}
