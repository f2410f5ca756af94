//! Section 5: A, the generation of all entries. It is a T (here that of tenant 0) in all but this: it is read with K, and the A
//! of a fill is read with R4, so that it is known before the load.
//!
//! This models a cluster: A may run before K or after it, although both are sent together.

use super::canonical::fresh_generation;
use super::state::{At, Call, Proof, State, Value};
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn read_all(&mut self, i: usize) {
        if self.config.all && self.call(i).known.is_none() {
            self.read_all_with_k(i);
            self.read_all_before_load(i);
        }
    }

    /// A runs before K does. If it runs after K, that is the GET that is sent after K's reply.
    fn read_all_with_k(&mut self, i: usize) {
        let mut state = *self.from;
        let call = &mut state.instances[i].call;
        let in_time = call.sent || !self.holds(Rule::AllReadWithK);
        if call.at == At::Get && in_time && state.t[0] != 0 {
            call.known = Some((0, state.t[0]));
            self.by(i, "A is read with K", state);
        }
    }

    /// Keeps the A that was read with K, whose reply has arrived.
    pub(super) fn learn_all(&self, state: &mut State, i: usize) {
        let call = state.instances[i].call;
        if let Some((_, generation)) = call.known.filter(|_| self.config.all) {
            self.learn(state, i, 0, generation, call.age);
        }
    }

    /// Reads or creates A at any time between the sending of R4 and of the load.
    fn read_all_before_load(&mut self, i: usize) {
        let call = *self.call(i);
        let age = match call.at {
            At::Acquire if call.sent || !self.sends_first(At::Acquire) => call.age,
            At::Load if call.fills => self.age_at_send(i),
            _ => return,
        };
        let mut state = *self.from;
        let created = state.t[0] == 0;
        if created {
            state.t[0] = fresh_generation(&mut state);
        }
        let generation = state.t[0];
        self.learn(&mut state, i, 0, generation, age);
        state.instances[i].call.known = Some((0, generation));
        let what = if created {
            "A is created before the load"
        } else {
            "A is read before the load"
        };
        self.by(i, what, state);
        if created {
            self.create_t_badly(i, 0, state, generation);
        }
        if self.config.lose && call.at == At::Load {
            let mut state = *self.from;
            self.load_uncached(&mut state, i);
            self.by(i, "A can be neither read nor created: not cached", state);
            self.lose_created_t(i, 0, |steps, state| steps.load_uncached(state, i));
        }
    }

    /// True if the load has to wait for A's reply.
    pub(super) fn waits_for_all(&self, call: &Call) -> bool {
        let lacks = call.at == At::Load && call.fills && call.known.is_none();
        self.config.all && lacks && self.holds(Rule::AllBeforeLoad)
    }

    /// True if the value is taken for valid because it carries no generation of all entries.
    pub(super) fn is_former(&self, value: Value) -> bool {
        self.config.all && value.generation == 0 && !self.holds(Rule::WithoutAllIsInvalid)
    }

    /// Returns the proof point of a fill that succeeded, and whether that rests on a local entry of A, which is usable by a clock
    /// that is read now.
    pub(super) fn proof_of_fill(&self, i: usize) -> (Proof, bool) {
        let call = self.call(i);
        if !self.config.all {
            return (call.proof, false);
        }
        if !self.holds(Rule::AllProofPoint) {
            return (Proof::Fill, false);
        }
        let cell = self.instance(i).cells[0];
        let usable = |clock| cell.age < self.config.staleness(i, clock);
        let current = cell.generation == call.generation && self.config.local.is_some_and(usable);
        if current {
            (Proof::Fill, true)
        } else {
            (Proof::Load, false)
        }
    }
}
