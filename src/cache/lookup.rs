//! A lookup: the local level, a look at the store by the caller itself, and if that does not answer, a shared call.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::answer::{Answer, Resolved};
use super::cached_token::CachedApiToken;
use super::engine::Engine;
use super::error::{Unavailable, UnavailableKind};
use super::fetch::{self, Looked, Step};
use super::local::{LocalEntry, Refreshes};
use super::lookup_span::LookupSpan;
use super::single_flight::{CallError, Work};
use crate::clock::Tick;
use crate::loader::Lookup;
use crate::metrics::{Origin, Outcome, Timer};
use crate::store::keys::EntryKey;
use crate::token::{BearerToken, Denial, InvalidReason};
use crate::trace::{chain, in_span, limited};
use crate::util::{lock, task::spawn_stealable};

impl<M: Send + Sync + 'static> Engine<M> {
    /// Answers from this process's memory, if it can: without a call, a task or an allocation. A valid answer is
    /// a use of the token.
    pub(crate) fn answer_locally(
        self: &Arc<Self>,
        token: &str,
        asked: Option<&str>,
    ) -> Option<Answer<M>> {
        let (answer, now) = self.local_answer(token, asked)?;
        self.note_use(&answer, asked, || now);
        Some(answer)
    }

    /// Answers from this process's memory, if it can. It is not a use of the token.
    pub(crate) fn peek_locally(
        self: &Arc<Self>,
        token: &str,
        asked: Option<&str>,
    ) -> Option<Answer<M>> {
        Some(self.local_answer(token, asked)?.0)
    }

    fn note_use(&self, answer: &Answer<M>, asked: Option<&str>, now: impl FnOnce() -> Tick) {
        if let (Some(last_use), Answer::Valid(token)) = (&self.last_use, answer) {
            last_use.note(token.principal().used(), asked, now());
        }
    }

    /// Returns with the answer the time that its age was read at.
    fn local_answer(
        self: &Arc<Self>,
        token: &str,
        asked: Option<&str>,
    ) -> Option<(Answer<M>, Tick)> {
        if self.local.freshness().is_off() {
            return None;
        }
        let now = self.clock.now();
        let in_key = self.keys.type_in_key(asked);
        let fingerprint = self.local.fingerprint(token, in_key);
        // guard: L5
        let (entry, refreshes) = self.local.get(fingerprint, token, now)?;
        self.refresh(&entry, refreshes, token, in_key);
        if self.bounds.wants_renewal(now) {
            self.renew_registration(now);
        }
        let origin = match &entry {
            LocalEntry::Found(principal) if principal.meta.stale => Origin::Stale,
            _ => Origin::Local,
        };
        Some((self.decide(Resolved { entry, origin }, asked), now))
    }

    /// Refuses a type that is not declared: a mistake of the service, and no reason to call a token invalid.
    pub(crate) fn check_type(&self, asked: Option<&str>) -> Result<(), Unavailable> {
        if self.token_types.allow(asked) {
            return Ok(());
        }
        limited!(
            error,
            "a lookup for a token type that is not declared; answering unavailable",
            token_type = asked.unwrap_or_default()
        );
        Err(self.unavailable(Unavailable::new(UnavailableKind::UnknownTokenType)))
    }

    /// Answers a caller that found no local answer. A valid answer is a use of the token.
    pub(crate) fn resolve(
        self: &Arc<Self>,
        token: BearerToken,
        asked: Option<Arc<str>>,
    ) -> impl Future<Output = Result<Answer<M>, Unavailable>> + use<M> {
        let engine = Arc::clone(self);
        async move {
            let answer = engine.look_up(token, asked.as_deref()).await?;
            engine.note_use(&answer, asked.as_deref(), || engine.clock.now());
            Ok(answer)
        }
    }

    /// Answers a caller that found no local answer. It is not a use of the token.
    pub(crate) async fn look_up(
        self: &Arc<Self>,
        token: BearerToken,
        asked: Option<&str>,
    ) -> Result<Answer<M>, Unavailable> {
        let (watch, span) = (Timer::start(), LookupSpan::start(asked));
        // A block, and not a function, which would hold each of its arguments twice.
        let answer = async {
            let lookup = self.lookup(token, self.keys.type_in_key(asked));
            let key = self.key(&lookup);
            let looked = self.look(&key, &lookup).await;
            let resolved = match looked.map_err(|error| self.unavailable(error))? {
                Looked::Answer(resolved) => resolved,
                Looked::Call(first) => {
                    // Boxed, so that a lookup that the store answers takes no memory for a call.
                    let called = Box::pin(self.share_call(key, lookup, first, &span)).await;
                    called.map_err(|error| self.unavailable(error))?
                }
            };
            let origin = resolved.origin;
            Ok((self.decide(resolved, asked), origin))
        };
        let answered = span.around(answer).await;
        let origin = answered.as_ref().ok().map(|(_, origin)| *origin);
        self.metrics.missed(watch, origin);
        span.ends(&answered);
        answered.map(|(answer, _)| answer)
    }

    /// Joins the key's call, or begins one with `first`.
    async fn share_call(
        self: &Arc<Self>,
        key: EntryKey,
        lookup: Lookup,
        first: Option<Step<M>>,
        span: &LookupSpan,
    ) -> Result<Resolved<M>, Unavailable> {
        let first = Mutex::new(first);
        let begin = |leader| {
            let (engine, first) = (Arc::clone(self), lock(&first).take());
            let work = fetch::run(engine, leader, key.clone(), lookup.clone(), false, first);
            // Within the span of its caller, also in a task of its own.
            Work::new(in_span(work))
        };
        let joined = || {
            self.counters.joined.add();
            span.joined();
        };
        let called = self.entry_calls.run(&key, begin, joined).await;
        called.map_err(|error| match error {
            CallError::Failed(error) => error,
            CallError::Broken | CallError::Stalled => Unavailable::new(UnavailableKind::Internal),
        })
    }

    /// Decides what follows from an entry for a request that asks for the type `asked`. Only identity is
    /// cached; type, expiry and denial are decided for every request.
    pub(crate) fn decide(&self, resolved: Resolved<M>, asked: Option<&str>) -> Answer<M> {
        let (answer, outcome) = match resolved.entry {
            LocalEntry::Found(principal) => {
                let record = &principal.entry.value;
                // guard: H25
                if !record.is_of_type(asked) {
                    self.counters.wrong_token_type.add();
                    let reason = InvalidReason::WrongTokenType;
                    (Answer::Invalid(reason), Outcome::Invalid)
                } else if record.expires_at.is_some() && record.is_expired(self.clock.wall()) {
                    // guard: H26
                    (Answer::Invalid(InvalidReason::Expired), Outcome::Invalid)
                } else if let Some(denial) = Denial::of(record) {
                    (Answer::Denied(denial), Outcome::Denied)
                } else {
                    let token = CachedApiToken::new(principal, resolved.origin);
                    (Answer::Valid(token), Outcome::Valid)
                }
            }
            LocalEntry::Absent(_) => (Answer::Invalid(InvalidReason::Unknown), Outcome::Invalid),
        };
        self.counters.looked_up(outcome, Some(resolved.origin));
        answer
    }

    fn refresh(
        self: &Arc<Self>,
        entry: &LocalEntry<M>,
        refreshes: Refreshes,
        token: &str,
        in_key: Option<&str>,
    ) {
        if refreshes.all {
            self.refresh_generation(self.local.all());
        }
        if let Some(cell) = refreshes.tenant {
            self.refresh_generation(&cell);
        }
        // Outside of a runtime nothing can refresh the entry, which then ends at its bound.
        if refreshes.entry && Handle::try_current().is_ok() {
            let token = match entry {
                LocalEntry::Found(principal) => principal.token.clone(),
                LocalEntry::Absent(_) => BearerToken::new(token),
            };
            let lookup = self.lookup(token, in_key);
            let key = self.key(&lookup);
            if let Some(leader) = self.entry_calls.lead(&key) {
                self.counters.refreshes.add();
                let fetched = fetch::run(Arc::clone(self), leader, key, lookup, true, None);
                let entry = entry.clone();
                let pause = self.refresh_pause();
                spawn_stealable(async move {
                    fetched.await;
                    // If it brought no answer, another hit may try again, but not at once.
                    sleep(pause).await;
                    // guard: TR12c
                    entry.refresh_ended();
                });
            } else {
                entry.refresh_ended();
            }
        }
    }

    /// Enters this instance's bound into the registry again: hits alone look nothing up, and an operator that does
    /// not find the bound does not wait for it. guard: TR14
    #[cold]
    fn renew_registration(self: &Arc<Self>, now: Tick) {
        if Handle::try_current().is_err() || !self.bounds.begin_renewal(now) {
            return;
        }
        let engine = Arc::clone(self);
        spawn_stealable(async move {
            if let Err(error) = engine.register().await {
                engine.counters.store_errors.add();
                limited!(
                    warn,
                    "this instance's registration in the token store could not be renewed",
                    error = chain(&error)
                );
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use crate::loader::Lookup;
    use crate::{ApiTokenCache, BearerToken, TokenRecord};

    /// glibc's caches of each thread hold blocks of up to 1,032 bytes. Beyond them a lookup takes 2 % longer.
    #[test]
    fn a_lookup_fits_into_the_allocators_cache() {
        let load = async |_: Lookup| Ok::<_, Infallible>(None::<TokenRecord>);
        let cache = ApiTokenCache::builder(load).build().unwrap();
        let token = BearerToken::new("app-0123456789abcdef");
        let lookup = cache.engine.resolve(token, Some("app".into()));
        assert!(size_of_val(&lookup) <= 1_032, "{}", size_of_val(&lookup));
    }
}
