//! An attempt of an invalidation, and what is left of one that was not confirmed (protocol.md I4 and I6).

use std::sync::Arc;

use super::engine::Engine;
use super::unconfirmed::{self, Subject};
use crate::clock::{LogicalTime, Tick};
use crate::trace::limited;

/// An attempt that has begun. If it is dropped before it is confirmed, because it failed or because its caller
/// dropped the future, it is noted, so that this instance does not answer from before the change.
pub(super) struct Attempt<M: Send + Sync + 'static> {
    engine: Arc<Engine<M>>,
    subject: Subject,
    token_type: Option<Arc<str>>,
    begun: LogicalTime,
    confirmed: bool,
}

impl<M: Send + Sync + 'static> Attempt<M> {
    pub(super) fn begin(
        engine: &Arc<Engine<M>>,
        subject: Subject,
        token_type: Option<Arc<str>>,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            subject,
            token_type,
            begun: engine.order.next(),
            confirmed: false,
        }
    }

    /// Confirms the attempt, and returns the time from which this instance does not answer from before the change.
    pub(super) fn confirm(mut self) -> Tick {
        self.confirmed = true;
        // The note ends last: a generation that was read while it stood may be known locally, and as soon as it ended, a
        // lookup would take a value under that one for valid. guard: I6h
        let now = self.forget_locally();
        let unconfirmed = &self.engine.unconfirmed;
        unconfirmed.confirm(&self.subject, self.token_type.as_ref(), self.begun);
        now
    }

    /// Invalidates the local level's entries as of the time that it returns.
    fn forget_locally(&self) -> Tick {
        let now = self.engine.clock.now();
        match &self.subject {
            Subject::Token(digest) => self.engine.local.invalidate(*digest, now),
            Subject::Tenant(tenant) => self.engine.generations.invalidate(tenant, now),
            Subject::All => self.engine.local.all().invalidate(now),
        }
        self.engine.wakeups.of(&self.subject).notify_waiters();
        now
    }
}

impl<M: Send + Sync + 'static> Drop for Attempt<M> {
    fn drop(&mut self) {
        let engine = &self.engine;
        // In this process's memory a deletion fails only if it is unsupported, and then nothing could end the note.
        // guard: I6d
        if self.confirmed || engine.store.is_local() {
            return;
        }
        let (subject, token_type) = (self.subject.clone(), self.token_type.take());
        let until = engine.until_all_has_ended();
        let fits =
            engine
                .unconfirmed
                .note(subject, token_type, self.begun, engine.clock.now(), until);
        self.forget_locally();
        // No push ends what is watched, if the deletion did not run. guard: TR16
        engine.end_watches(&self.subject);
        if !fits {
            limited!(
                error,
                "too many invalidations are not confirmed; for one TTL nothing is answered from the token store",
                capacity = unconfirmed::CAPACITY
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Mutex;
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    use super::*;
    use crate::cache::ApiTokenCache;
    use crate::error::BoxError;
    use crate::loader::Lookup;
    use crate::token::TokenRecord;
    use crate::util::lock;

    /// Looks, when it is woken, whether an invalidation is still noted.
    struct Looks {
        engine: Arc<Engine<()>>,
        noted: Mutex<Vec<bool>>,
    }

    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            let is_noted = !self.engine.unconfirmed.is_empty();
            lock(&self.noted).push(is_noted);
        }
    }

    fn engine() -> Arc<Engine<()>> {
        let loader = |_: Lookup| async { Ok::<_, BoxError>(None::<TokenRecord>) };
        ApiTokenCache::builder(loader).build().unwrap().engine
    }

    /// What a load from before the attempt fills, has expired when the note ends, even on a server whose clock is 5 % slow.
    #[test]
    fn a_note_lasts_a_twentieth_longer_than_a_lease_and_a_ttl() {
        let engine = engine();
        let before = engine.clock.now();
        let lasts = engine.until_all_has_ended().since(before);
        let longest = engine.ttls.longest() + engine.waits.lease;
        assert!(lasts >= longest + longest / 20);
        assert!(longest > Duration::from_secs(600));
    }

    #[test]
    fn the_local_level_forgets_before_the_note_ends() {
        let engine = engine();
        let (begun, now) = (engine.order.next(), engine.clock.now());
        let unconfirmed = &engine.unconfirmed;
        unconfirmed.note(Subject::All, None, begun, now, Tick::NEVER);
        let looks = Arc::new(Looks {
            engine: Arc::clone(&engine),
            noted: Mutex::default(),
        });
        let waker = Waker::from(Arc::clone(&looks));
        // The local level wakes those who wait for an invalidation when it has forgotten.
        let mut woken = pin!(engine.wakeups.of(&Subject::All).notified());
        let polled = woken.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        Attempt::begin(&engine, Subject::All, None).confirm();
        assert_eq!(*lock(&looks.noted), [true]);
        assert!(unconfirmed.is_empty());
    }
}
