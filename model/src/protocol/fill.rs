//! R4, R5 and R6: the lease, the load, and the fill. There is no CAD: it does no more than an eviction.

use super::canonical::fresh_nonce;
use super::state::{At, Call, Key, Late, Proof, State, Value};
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    /// SET NX GET, or compare-and-acquire over `old`.
    pub(super) fn acquire(&mut self, i: usize) {
        let call = *self.call(i);
        let state = self.running(i);
        let free = match call.old {
            None => state.key == Key::Empty,
            Some(old) => state.key == Key::Value(old),
        };
        let command = |nonce| match call.old {
            None => Late::Acquire(nonce),
            Some(old) => Late::CompareAcquire(old, nonce),
        };
        if free {
            let mut leased = state;
            let nonce = fresh_nonce(&mut leased);
            leased.key = Key::Lease(nonce);
            let mut lost = leased;
            let mine = &mut leased.instances[i].call;
            mine.nonce = nonce;
            mine.noted = false;
            mine.fills = true;
            // A call that loads before it acquires already has its record.
            mine.at = if mine.record.is_some() {
                At::Fill
            } else {
                At::Load
            };
            if mine.record.is_some() {
                mine.proof = Proof::Fill;
            }
            self.by(i, "acquires the lease", leased);
            if !self.holds(Rule::FreshNonce) && self.delayed(&mut leased, command(nonce)) {
                self.by(
                    i,
                    "acquires the lease, and the acquire was transmitted twice",
                    leased,
                );
            }
            if self.config.lose {
                self.load_uncached(&mut lost, i);
                self.by(i, "acquires the lease, but the reply is lost", lost);
            }
        } else {
            match (call.old, state.key) {
                (None, Key::Value(value)) => {
                    let mut state = state;
                    state.instances[i].call.known = None;
                    self.found(i, state, value, "the acquire returns a value")
                }
                (None, _) => self.leased(
                    i,
                    state,
                    "the acquire returns a lease, to be polled",
                    "the acquire returns a lease, for too long",
                ),
                (Some(_), _) => {
                    let mut state = state;
                    state.instances[i].call = Call {
                        at: At::Get,
                        ..Call::default()
                    };
                    self.by(i, "compare-and-acquire returns 0", state);
                }
            }
        }
        if self.config.lose {
            let mut state = *self.from;
            let nonce = fresh_nonce(&mut state);
            self.load_uncached(&mut state, i);
            self.by(i, "the acquire is lost", state);
            if self.delayed(&mut state, command(nonce)) {
                self.by(i, "the acquire times out, and will run later", state);
            }
        }
    }

    pub(super) fn load(&mut self, i: usize) {
        let call = *self.call(i);
        let mut state = self.running(i);
        if let Some(most) = self.config.most_loads {
            // Without losses, E's reply arrives with the acquire's.
            if self.config.e && call.e == 0 && !call.second {
                return;
            }
            let counts = !self.config.loads_after_operators || self.operators_are_done();
            state.loads += u8::from(counts);
            state.broken |= state.loads > most;
        }
        let record = self.current_record(&state);
        let mine = &mut state.instances[i].call;
        mine.record = Some(record);
        if call.fills {
            if call.nonce == 0 && !self.holds(Rule::LoadAfterAcquire) {
                mine.at = At::Acquire;
            } else {
                mine.at = At::Loaded;
            }
        } else {
            mine.at = At::Answer;
            mine.proof = Proof::Load;
        }
        self.by(
            i,
            if call.second {
                "the second load runs"
            } else {
                "the load runs"
            },
            state,
        );

        if self.config.load_fails {
            let mut state = self.running(i);
            if call.stale && call.fills {
                let mine = &mut state.instances[i].call;
                mine.at = At::Restore;
                mine.known = None;
                mine.e = 0;
                mine.record = None;
            } else {
                self.unavailable(&mut state, i);
            }
            self.by(i, "the load fails", state);
        }
    }

    /// The CAS.
    pub(super) fn fill(&mut self, i: usize) {
        let call = *self.call(i);
        let Some(record) = call.record else { return };
        let value = Value {
            record: self.stored(i, record),
            generation: call.generation,
        };
        let mut state = self.running(i);
        let guarded = self.holds(Rule::Lease) && self.holds(Rule::GuardedFill);
        // If the CAS did not succeed, only those who joined before the load may have the answer.
        let answer = |state: &mut State| {
            let age = state.instances[i].call.age;
            state.instances[i].call = Call {
                at: At::Answer,
                age,
                record: Some(record),
                proof: Proof::Load,
                ..Call::default()
            };
        };
        let mut failed = state;
        answer(&mut failed);
        if !guarded || state.key == Key::Lease(call.nonce) {
            state.key = Key::Value(value);
            let mut lost = state;
            answer(&mut lost);
            let age = state.instances[i].call.age;
            let (proof, by_local_t) = if self.config.simple_proof {
                (Proof::Load, false)
            } else {
                self.proof_of_fill(i)
            };
            state.instances[i].call = Call {
                at: At::Answer,
                age,
                record: Some(record),
                generation: call.generation,
                proof,
                keep: self.config.local.is_some(),
                by_local_t,
                ..Call::default()
            };
            self.by(i, "the CAS returns 1", state);
            if self.config.lose {
                self.by(i, "the CAS runs, but the reply is lost", lost);
            }
        } else {
            self.by(i, "the CAS returns 0", failed);
        }
        if self.config.lose {
            if self.holds(Rule::Lease) {
                self.by(i, "the CAS is lost", failed);
            }
            if guarded && self.delayed(&mut failed, Late::Fill(call.nonce, value)) {
                self.by(i, "the CAS times out, and will run later", failed);
            }
        }
    }

    /// Stale-if-error: the CAS from the lease to the bytes that it replaced.
    pub(super) fn restore(&mut self, i: usize) {
        let call = *self.call(i);
        let Some(old) = call.old else { return };
        let mut state = self.running(i);
        if state.key == Key::Lease(call.nonce) || !self.holds(Rule::GuardedStale) {
            state.key = Key::Value(old);
            let mut lost = state;
            let age = state.instances[i].call.age;
            state.instances[i].call = Call {
                at: At::Answer,
                age,
                record: Some(old.record),
                generation: old.generation,
                proof: if self.holds(Rule::StaleProofPoint) {
                    Proof::Get
                } else {
                    Proof::Load
                },
                keep: self.config.local.is_some(),
                by_local_t: call.by_local_t,
                ..Call::default()
            };
            self.by(i, "the stale value is restored", state);
            if self.config.lose {
                self.unavailable(&mut lost, i);
                self.by(
                    i,
                    "the stale value is restored, but the reply is lost",
                    lost,
                );
            }
        } else {
            let mut state = state;
            self.unavailable(&mut state, i);
            self.by(
                i,
                "the stale value is not restored: the lease is gone",
                state,
            );
        }
        if self.config.lose {
            let mut state = *self.from;
            self.unavailable(&mut state, i);
            self.by(i, "the stale value is not restored: the CAS is lost", state);
            if self.delayed(&mut state, Late::Fill(call.nonce, old)) {
                self.by(i, "the stale value will be restored later", state);
            }
        }
    }
}
