//! Invalidations from here that the store did not confirm (protocol.md I6).
//!
//! The change is committed, and the store may still hold what it replaced. What the store says of such
//! a token or tenant is not answered, until an invalidation of it is confirmed or the time to live of
//! whatever the store holds is over: the loader is asked instead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::{LogicalTime, Tick};
use crate::token::TokenDigest;
use crate::util::lock;

/// The number of tokens and tenants that are remembered, some 5 MB. Beyond it nothing at all is answered from
/// the store for a time to live: what is forgotten could be the one that was revoked.
pub(super) const CAPACITY: usize = 65_536;

/// What an invalidation is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Token(TokenDigest),
    Tenant(Box<str>),
}

pub(crate) struct Unconfirmed {
    capacity: usize,
    /// Until when anything is noted; 0: nothing is, so that a look-up pays one load.
    until: AtomicU64,
    noted: Mutex<Noted>,
}

struct Noted {
    subjects: HashMap<Subject, Note>,
    /// Until when nothing is answered from the store, because a note did not fit.
    overflow: Tick,
}

struct Note {
    /// The only token type that was to be invalidated; `None`: all.
    token_type: Option<Arc<str>>,
    /// When the latest unconfirmed attempt began.
    begun: LogicalTime,
    until: Tick,
}

impl Unconfirmed {
    pub(crate) fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            until: AtomicU64::new(0),
            noted: Mutex::new(Noted {
                subjects: HashMap::new(),
                overflow: Tick::ZERO,
            }),
        }
    }

    /// Notes an attempt that began at `begun` and was not confirmed by `now`. The store may hold an
    /// old value until `until`. Returns whether there was room for it.
    pub(crate) fn note(
        &self,
        subject: Subject,
        token_type: Option<Arc<str>>,
        begun: LogicalTime,
        now: Tick,
        until: Tick,
    ) -> bool {
        let mut noted = self.lock();
        let mut fits = true;
        if noted.subjects.len() >= self.capacity && !noted.subjects.contains_key(&subject) {
            noted.subjects.retain(|_, note| now < note.until);
        }
        if let Some(note) = noted.subjects.get_mut(&subject) {
            let same = note.token_type == token_type;
            note.token_type = token_type.filter(|_| same);
            note.begun = note.begun.max(begun);
            note.until = note.until.max(until);
        } else if noted.subjects.len() < self.capacity {
            let note = Note {
                token_type,
                begun,
                until,
            };
            noted.subjects.insert(subject, note);
        } else {
            noted.overflow = noted.overflow.max(until);
            fits = false;
        }
        self.until.fetch_max(until.0, Ordering::SeqCst);
        fits
    }

    /// Forgets a subject: an invalidation of it that began at `begun` is confirmed. One that began
    /// before the noted attempt did may have run before the change that the attempt was for.
    pub(crate) fn confirm(
        &self,
        subject: &Subject,
        token_type: Option<&Arc<str>>,
        begun: LogicalTime,
    ) {
        if self.until.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut noted = self.lock();
        let covered = |note: &Note| {
            let reached = token_type.is_none() || note.token_type.as_ref() == token_type;
            note.begun < begun && reached
        };
        if noted.subjects.get(subject).is_some_and(covered) {
            noted.subjects.remove(subject);
        }
        if noted.subjects.is_empty() {
            self.until.store(noted.overflow.0, Ordering::SeqCst);
        }
    }

    /// Returns whether the store may hold an old value for this token, or for one of this tenant's.
    /// It is asked after the store's reply, or after the send of what is to be kept: a note that comes
    /// later concerns only requests that come later still.
    pub(crate) fn covers(&self, digest: &TokenDigest, tenant: Option<&str>, now: Tick) -> bool {
        if now.0 >= self.until.load(Ordering::SeqCst) {
            return false;
        }
        let noted = self.lock();
        let holds = |subject: &Subject| {
            noted
                .subjects
                .get(subject)
                .is_some_and(|note| now < note.until)
        };
        now < noted.overflow
            || holds(&Subject::Token(*digest))
            || tenant.is_some_and(|tenant| holds(&Subject::Tenant(tenant.into())))
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        lock(&self.noted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::LogicalClock;

    fn token(n: u64) -> TokenDigest {
        TokenDigest::of(&n.to_string())
    }

    #[test]
    fn a_subject_is_covered_until_its_time_is_over_and_no_other_is() {
        let (unconfirmed, order) = (Unconfirmed::new(), LogicalClock::default());
        assert!(!unconfirmed.covers(&token(1), Some("t"), Tick(1)));
        let note = |subject| unconfirmed.note(subject, None, order.next(), Tick(1), Tick(9));
        note(Subject::Token(token(1)));
        note(Subject::Tenant("t".into()));
        for now in [Tick(1), Tick(8)] {
            assert!(unconfirmed.covers(&token(1), None, now));
            assert!(unconfirmed.covers(&token(2), Some("t"), now));
            assert!(!unconfirmed.covers(&token(2), Some("u"), now));
        }
        assert!(!unconfirmed.covers(&token(1), Some("t"), Tick(9)));
    }

    #[test]
    fn a_confirmation_counts_if_it_began_after_the_attempt_that_failed() {
        let (unconfirmed, order) = (Unconfirmed::new(), LogicalClock::default());
        let subject = Subject::Token(token(1));
        let (before, failed, after) = (order.next(), order.next(), order.next());
        unconfirmed.note(subject.clone(), None, failed, Tick(1), Tick(9));
        unconfirmed.confirm(&subject, None, before);
        assert!(unconfirmed.covers(&token(1), None, Tick(2)));
        unconfirmed.confirm(&subject, None, after);
        assert!(!unconfirmed.covers(&token(1), None, Tick(2)));
    }

    #[test]
    fn a_confirmation_of_one_type_counts_for_an_attempt_of_that_type_alone() {
        let (unconfirmed, order) = (Unconfirmed::new(), LogicalClock::default());
        let subject = Subject::Token(token(1));
        let [app, dataset] = ["app", "dataset"].map(Arc::from);
        let note = |token_type: Option<&Arc<str>>| {
            let (begun, token_type) = (order.next(), token_type.cloned());
            unconfirmed.note(subject.clone(), token_type, begun, Tick(1), Tick(9));
        };
        let covered_after = |confirmed: &Arc<str>| {
            unconfirmed.confirm(&subject, Some(confirmed), order.next());
            unconfirmed.covers(&token(1), None, Tick(2))
        };
        note(Some(&app));
        assert!(covered_after(&dataset));
        assert!(!covered_after(&app));
        note(Some(&app));
        note(Some(&dataset));
        assert!(covered_after(&app));
        unconfirmed.confirm(&subject, None, order.next());
        assert!(!unconfirmed.covers(&token(1), None, Tick(2)));
    }

    #[test]
    fn what_does_not_fit_is_answered_from_nowhere_but_the_loader() {
        let (unconfirmed, order) = (Unconfirmed::with_capacity(2), LogicalClock::default());
        let note = |n, now, until| {
            let subject = Subject::Token(token(n));
            unconfirmed.note(subject, None, order.next(), Tick(now), Tick(until))
        };
        assert!(note(1, 1, 5) && note(2, 1, 9));
        assert!(!unconfirmed.covers(&token(7), None, Tick(4)));
        // The first is over, and makes room.
        assert!(note(3, 5, 20));
        assert!(!unconfirmed.covers(&token(7), None, Tick(5)));
        assert!(!note(4, 6, 30));
        assert!(unconfirmed.covers(&token(7), None, Tick(29)));
        // That one of them is confirmed says nothing of the one that did not fit.
        for n in [2, 3, 4] {
            unconfirmed.confirm(&Subject::Token(token(n)), None, order.next());
        }
        assert!(unconfirmed.covers(&token(7), None, Tick(29)));
        assert!(!unconfirmed.covers(&token(7), None, Tick(30)));
    }
}
