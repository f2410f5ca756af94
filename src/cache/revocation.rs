//! The end of a token's validity, for streams that are open (semantics.md, "Responses under way").

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::Notified;

use super::answer::Answer;
use super::cached_token::{Principal, Revocations};
use super::engine::Engine;
use super::unconfirmed::Subject;
use crate::clock::Tick;
use crate::metrics::Origin;
use crate::store::entry::Group;
use crate::util::sync::Notify;
use crate::util::{BoxFuture, random_fraction};

/// The longest time between two attempts while neither the store nor the loader answers.
const RETRY: Duration = Duration::from_secs(1);

/// The longest time between two loads while the store does not answer. Nothing is promised meanwhile, and all streams
/// together must not be a load for the database.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl<M: Send + Sync + 'static> Revocations<M> for Engine<M> {
    fn until_revoked(self: Arc<Self>, principal: Arc<Principal<M>>) -> BoxFuture<'static, ()> {
        Box::pin(until_revoked(self, principal))
    }
}

/// Completes when the token is no longer valid. While its entry is proved, it only waits: for the end of the proof,
/// for a change that the store reports, or for an invalidation by this process.
async fn until_revoked<M: Send + Sync + 'static>(
    engine: Arc<Engine<M>>,
    mut principal: Arc<Principal<M>>,
) {
    let changes = engine.changes_of(&principal);
    // The time until the next load while the store does not answer.
    let mut pause = engine.bounds.longest();
    let mut patient = false;
    loop {
        // Before the entry is checked, so that no change in between is missed.
        let mut woken: Vec<Pin<Box<Notified<'_>>>> = Vec::with_capacity(changes.len());
        for change in &changes {
            let mut notified = Box::pin(change.of(&engine).notified());
            notified.as_mut().enable();
            woken.push(notified);
        }
        let Some(expires) = engine.expiry_of(&principal) else {
            return;
        };
        let proved = engine
            .local
            .proved_until(&principal, patient, engine.clock.now());
        let proved = match proved {
            // What is not proved may be the generation of all alone. All streams wake with it, and share one read of it.
            // guard: ST5
            None if engine.renews_all().await => {
                let now = engine.clock.now();
                engine.local.proved_until(&principal, patient, now)
            }
            proved => proved,
        };
        let until = match proved {
            Some(until) => until,
            None => match engine.ask_again(&principal).await {
                Again::Revoked => return,
                Again::Valid(next, origin) => {
                    principal = next;
                    let (now, bound) = (engine.clock.now(), engine.bounds.longest());
                    // Another lookup would get no watch either, as when the local level has no room.
                    // guard: ST4
                    patient = true;
                    match engine.local.proved_until(&principal, patient, now) {
                        // The next outage begins anew. guard: ST3
                        Some(until) => {
                            pause = bound;
                            until
                        }
                        None => {
                            let is_outage = origin == Origin::Loaded;
                            let longest = LONGEST_PAUSE.max(bound);
                            // guard: ST1 ST2
                            pause = if is_outage {
                                (pause * 2).min(longest)
                            } else {
                                bound
                            };
                            now.after(pause.mul_f64(0.5 + 0.5 * random_fraction()))
                        }
                    }
                }
                Again::Unknown => {
                    let pause = engine.bounds.longest().min(RETRY);
                    let now = engine.clock.now();
                    now.after(pause.mul_f64(0.5 + 0.5 * random_fraction()))
                }
            },
        };
        let change = std::future::poll_fn(|context| {
            let mut polled = woken.iter_mut().map(|it| it.as_mut().poll(context));
            polled
                .find(std::task::Poll::is_ready)
                .unwrap_or(std::task::Poll::Pending)
        });
        tokio::select! {
            () = change => {}
            () = engine.clock.sleep_until(until.min(expires)) => {}
        }
    }
}

/// Something that a change of wakes those who wait.
enum Change {
    Own(Subject),
    /// The name of a key in the store.
    Reported(String),
}

/// What another lookup of the token says.
enum Again<M> {
    Valid(Arc<Principal<M>>, Origin),
    Revoked,
    Unknown,
}

impl Change {
    fn of<'a, M>(&self, engine: &'a Engine<M>) -> &'a Notify {
        match (self, engine.store.tracker()) {
            (Self::Reported(name), Some(tracker)) => tracker.changes_of(name),
            (Self::Reported(name), None) => engine.wakeups.of(name.as_str()),
            (Self::Own(subject), _) => engine.wakeups.of(subject),
        }
    }
}

impl<M: Send + Sync + 'static> Engine<M> {
    fn changes_of(&self, principal: &Principal<M>) -> Vec<Change> {
        let record = &principal.entry.value;
        let in_key = self.keys.type_in_key(record.token_type.as_deref());
        let key = self.key(&self.lookup(principal.token.clone(), in_key));
        let mut changes = vec![
            Change::Own(Subject::All),
            Change::Own(Subject::Token(principal.meta.digest)),
            Change::Reported(self.keys.entry(&key)),
        ];
        if !self.keys.is_dify() {
            changes.push(Change::Reported(self.keys.all()));
        }
        if let Some(tenant) = &record.tenant_id {
            changes.push(Change::Own(Subject::Tenant(tenant.as_str().into())));
            changes.push(Change::Reported(self.keys.tenant(tenant)));
        }
        changes
    }

    /// Returns when the record expires, or `None` if it has.
    fn expiry_of(&self, principal: &Principal<M>) -> Option<Tick> {
        let Some(expires_at) = principal.entry.value.expires_at else {
            return Some(Tick::NEVER);
        };
        let left = (expires_at - self.clock.wall()).to_std().ok()?;
        (!left.is_zero()).then(|| self.clock.now().after(left))
    }

    /// Reads the generation of all entries, if it is lacking. Returns whether it was read. Without a local level it would
    /// prove nothing.
    async fn renews_all(self: &Arc<Self>) -> bool {
        !self.local.freshness().is_off()
            && self.lacks_all()
            && self.read_generation(&Group::All).await.is_ok()
    }

    /// Looks the token up again. It is not a use of the token.
    async fn ask_again(self: &Arc<Self>, principal: &Principal<M>) -> Again<M> {
        let record = &principal.entry.value;
        let in_key = self.keys.type_in_key(record.token_type.as_deref());
        let token = principal.token.clone();
        let answer = match self.peek_locally(token.expose(), in_key) {
            Some(answer) => Ok(answer),
            None => self.look_up(token, in_key).await,
        };
        match answer {
            Ok(Answer::Valid(token)) => {
                let origin = token.origin();
                let next = token.into_principal();
                let other = &next.entry.value;
                // Another row, or another type, is not what the stream was opened for.
                let is_same = other.id == record.id && other.token_type == record.token_type;
                if is_same {
                    Again::Valid(next, origin)
                } else {
                    Again::Revoked
                }
            }
            Ok(_) => Again::Revoked,
            Err(_) => Again::Unknown,
        }
    }
}
