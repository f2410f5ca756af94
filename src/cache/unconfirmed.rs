//! Invalidations by this instance that the store did not confirm (protocol.md I6).
//!
//! The change is committed, and the store may still hold the previous value. Until an invalidation of the token,
//! of the tenant or of all is confirmed, or until every such value has expired, its values in the store are not used: the
//! loader is asked instead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::{LogicalTime, Tick};
use crate::token::TokenDigest;
use crate::util::lock;

/// The number of tokens and tenants that are remembered, which takes some 5 MB. If another one does not fit,
/// nothing is answered from the store for one TTL, because any value could be that of the revoked token.
pub(super) const CAPACITY: usize = 65_536;

/// What an invalidation is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Token(TokenDigest),
    Tenant(Box<str>),
    All,
}

pub(crate) struct Unconfirmed {
    capacity: usize,
    /// Until when any note applies, or 0 if there is none, so that a lookup then pays one atomic load.
    until: AtomicU64,
    noted: Mutex<Noted>,
}

struct Noted {
    subjects: HashMap<Subject, Note>,
    /// Until when nothing is answered from the store, because a note did not fit.
    overflow: Tick,
}

struct Note {
    /// The only token type that the attempt was for; `None` means all types.
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
    /// old value until `until`. Returns whether the note fit.
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

    /// Removes the note on `subject`, because an invalidation that began at `begun` was confirmed. An
    /// invalidation that began before the noted attempt may have run before the attempt's change, and removes
    /// nothing.
    pub(crate) fn confirm(
        &self,
        subject: &Subject,
        token_type: Option<&Arc<str>>,
        begun: LogicalTime,
    ) {
        if self.is_empty() {
            return;
        }
        let mut noted = self.lock();
        let covered = |note: &Note| {
            let same_type = token_type.is_none() || note.token_type.as_ref() == token_type;
            note.begun < begun && same_type
        };
        if noted.subjects.get(subject).is_some_and(covered) {
            noted.subjects.remove(subject);
        }
        if noted.subjects.is_empty() {
            self.until.store(noted.overflow.0, Ordering::SeqCst);
        }
    }

    /// Returns whether nothing is noted, for which no clock has to be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.until.load(Ordering::SeqCst) == 0
    }

    /// Returns whether the store may hold an old value for this token, or for one of this tenant's tokens.
    ///
    /// Must be called after the store's reply, or after the send number of a fill is taken: a note that is
    /// made later concerns only requests that start later still.
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
            // guard: I6e
            || holds(&Subject::All)
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
    fn a_noted_subject_is_covered_until_its_time_and_no_other_is() {
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
    fn an_invalidation_that_began_after_the_attempt_removes_its_note() {
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
    fn an_invalidation_of_one_type_removes_only_a_note_of_that_type() {
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
        // One note, now of both types.
        assert!(covered_after(&app) && covered_after(&dataset));
        unconfirmed.confirm(&subject, None, order.next());
        assert!(!unconfirmed.covers(&token(1), None, Tick(2)));
    }

    #[test]
    fn if_a_note_does_not_fit_nothing_is_answered_from_the_store() {
        let (unconfirmed, order) = (Unconfirmed::with_capacity(2), LogicalClock::default());
        let note = |n, now, until| {
            let subject = Subject::Token(token(n));
            unconfirmed.note(subject, None, order.next(), Tick(now), Tick(until))
        };
        assert!(note(1, 1, 5) && note(2, 1, 9));
        assert!(!unconfirmed.covers(&token(7), None, Tick(4)));
        // The first note has expired, and makes room.
        assert!(note(3, 5, 20));
        assert!(!unconfirmed.covers(&token(7), None, Tick(5)));
        assert!(!note(4, 6, 30));
        assert!(unconfirmed.covers(&token(7), None, Tick(29)));
        // A confirmation of the others does not concern the one that did not fit.
        for n in [2, 3, 4] {
            unconfirmed.confirm(&Subject::Token(token(n)), None, order.next());
        }
        assert!(unconfirmed.covers(&token(7), None, Tick(29)));
        assert!(!unconfirmed.covers(&token(7), None, Tick(30)));
    }
}
