//! Completion: who receives an answer, and whether it keeps the promise.

use super::state::{At, Call, Entry, Proof, Record, Stage, State, Value, Versions};
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn complete(&mut self, i: usize) {
        let mut state = *self.from;
        let call = *self.call(i);
        let Some(record) = call.record else { return };
        let mut left = None;
        for r in 0..state.requests.len() {
            let request = state.requests[r];
            let Stage::Joined { before } = request.stage else {
                continue;
            };
            if usize::from(request.instance) != i {
                continue;
            }
            if before & call.proof as u8 != 0 || !self.holds(Rule::ProofPoints) {
                // For the tenant, an answer that a local entry of T confirms comes from the local level.
                // A fill's is one too for those who joined after the load.
                let loaded_since = call.proof == Proof::Fill && before & Proof::Load as u8 != 0;
                let tenant = if call.by_local_t && !loaded_since {
                    request.waited.tenant
                } else {
                    request.now.tenant
                };
                self.judge(
                    &mut state,
                    r,
                    record,
                    Versions {
                        token: request.now.token,
                        tenant,
                    },
                );
            } else {
                state.requests[r].stage = Stage::Joined { before: 0 };
                left = left.or(Some(request.token_type));
            }
        }
        if call.keep {
            self.keep(
                &mut state,
                i,
                Value {
                    record,
                    generation: call.generation,
                },
                call.age,
            );
        }
        state.instances[i].call = Call::default();
        if let Some(token_type) = left {
            self.start_call(&mut state, i, token_type);
            self.by(
                i,
                "completes; those who joined too late start a new call",
                state,
            );
        } else {
            self.by(i, "completes", state);
        }
    }

    /// Answers every waiter with "unavailable", which may be shared with all: it says nothing about the token.
    pub(super) fn unavailable(&self, state: &mut State, i: usize) {
        for request in &mut state.requests {
            let here = usize::from(request.instance) == i;
            if here && matches!(request.stage, Stage::Joined { .. }) {
                request.stage = Stage::Done;
            }
        }
        state.instances[i].call = Call::default();
    }

    /// Answers request `r` from `record`, and checks that this includes the `required` versions.
    pub(super) fn judge(&self, state: &mut State, r: usize, record: Record, required: Versions) {
        let tenant_is_current = match self.tenant(record) {
            Some(t) => record.tenant >= required.tenant[t],
            None => true,
        };
        let wrong_type = self.is_wrong_for_type(record, state.requests[r].token_type);
        if record.token < required.token || !tenant_is_current || wrong_type {
            state.broken = true;
        }
        state.requests[r].stage = Stage::Done;
    }

    fn keep(&self, state: &mut State, i: usize, value: Value, age: u8) {
        let Some(clock) = self.config.local else {
            return;
        };
        let age = if self.holds(Rule::AgeFromSending) {
            age
        } else {
            0
        };
        let age = self.age_at_keep(i, age);
        let end = self.config.staleness(i, clock) + clock.nap;
        let entry = &mut state.instances[i].entry;
        let newer = entry.is_none_or(|present| age <= present.age);
        if newer && age < end {
            *entry = Some(Entry { value, age });
        }
    }

    pub(super) fn tenant(&self, record: Record) -> Option<usize> {
        self.config.tenant_of[usize::from(record.token)].map(usize::from)
    }

    pub(super) fn start_call(&self, state: &mut State, i: usize, token_type: u8) {
        let instance = &mut state.instances[i];
        instance.asked = if self.calls_have_types() {
            token_type
        } else {
            0
        };
        instance.call = Call {
            at: At::Get,
            ..Call::default()
        };
        if let Some(clock) = self.config.local
            && !self.holds(Rule::FreshClockForT)
        {
            let cell = instance.cells[0];
            let bound = self.config.staleness(i, clock);
            instance.call.t_was_usable = cell.generation != 0 && cell.age < bound;
        }
    }
}
