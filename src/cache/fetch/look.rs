//! The look of a lookup that no other one of its key is under way for: by its caller itself, without a call.

use std::pin::pin;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::read::run;
use super::state::{Existing, Sent, Step};
use crate::cache::answer::Resolved;
use crate::cache::engine::Engine;
use crate::cache::error::{Unavailable, UnavailableKind};
use crate::cache::single_flight::SendNumber;
use crate::loader::Lookup;
use crate::store::keys::EntryKey;
use crate::trace::in_span;
use crate::util::task::{caught, spawn_stealable};

/// What a look led to.
pub(in crate::cache) enum Looked<M> {
    Answer(Resolved<M>),
    /// A call is needed, and begins with this step: nothing is read twice.
    Call(Option<Step<M>>),
}

impl<M: Send + Sync + 'static> Engine<M> {
    /// Looks at the entry in the caller's own task, unless another lookup of the key is under way. If the caller gives
    /// up before the store has answered, a task goes on.
    ///
    /// # Errors
    /// Returns an error if it panics, as the metadata's `Drop` may.
    pub(in crate::cache) async fn look(
        self: &Arc<Self>,
        key: &EntryKey,
        lookup: &Lookup,
    ) -> Result<Looked<M>, Unavailable> {
        let now = self.clock.now();
        if self.has_to_register(now) {
            return Ok(Looked::Call(None));
        }
        let Some(_alone) = self.entry_calls.begin_alone(key) else {
            return Ok(Looked::Call(None));
        };
        let mut unfinished = Unfinished {
            engine: self,
            key,
            lookup,
            is_finished: false,
        };
        let sent = Sent::after(self, lookup, SendNumber::BEFORE, now);
        let look = pin!(async {
            match self.read(key, lookup, &sent).await {
                Step::Valid(found) => Looked::Answer(self.found(lookup, found)),
                // Whether it may be answered depends on who waits for it.
                Step::Acquire(Existing::Stale(_)) => Looked::Call(None),
                other => Looked::Call(Some(other)),
            }
        });
        // guard: J14
        let looked = caught(look).await;
        unfinished.is_finished = true;
        looked.ok_or(Unavailable::new(UnavailableKind::Internal))
    }
}

/// A look, which goes on as a call that nobody waits for if its caller gives up: otherwise nothing would ever be
/// cached for callers that are less patient than the store is slow.
struct Unfinished<'a, M: Send + Sync + 'static> {
    engine: &'a Arc<Engine<M>>,
    key: &'a EntryKey,
    lookup: &'a Lookup,
    is_finished: bool,
}

impl<M: Send + Sync + 'static> Drop for Unfinished<'_, M> {
    fn drop(&mut self) {
        // guard: J2
        if self.is_finished || Handle::try_current().is_err() {
            return;
        }
        if let Some(leader) = self.engine.entry_calls.lead(self.key) {
            let (engine, key) = (Arc::clone(self.engine), self.key.clone());
            let call = run(engine, leader, key, self.lookup.clone(), true, None);
            spawn_stealable(in_span(call));
        }
    }
}
