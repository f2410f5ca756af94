//! The registry of staleness bounds, from which an operator knows how long to wait.
//!
//! Only the first instance's bound is longer than the operators' own. It may enter its bound at any time, which is more
//! freedom than the code has.
//!
//! The registry is lost only together with every connection, and only while no local entry of the first instance is usable:
//! section 7, item 6 promises nothing for entries from before the loss.

use super::state::Reader;
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    /// True if operators know the bound of instance `i`, or find it in the registry.
    fn is_known(&self, i: usize) -> bool {
        self.config.longer.is_none() || i != 0 || self.instance(i).registered
    }

    pub(super) fn register(&mut self, i: usize) {
        if self.is_known(i) {
            return;
        }
        let mut state = *self.from;
        state.registry = true;
        if self.config.lose {
            self.by(i, "enters its bound, but the reply is lost", state);
        }
        state.instances[i].registered = true;
        self.by(i, "enters its bound into the registry", state);
    }

    /// Redis restarts without the registry. By R6, no answer whose proof point was sent before is kept.
    pub(super) fn lose_registry(&mut self, i: usize) {
        let Some(clock) = self.config.local else {
            return;
        };
        let instance = self.instance(i);
        let bound = self.config.staleness(i, clock);
        let usable = instance.entry.is_some_and(|entry| entry.age < bound)
            || instance
                .cells
                .iter()
                .any(|cell| cell.generation != 0 && cell.age < bound);
        if i != 0 || !self.config.registry_lost || !self.from.registry || usable {
            return;
        }
        let mut state = *self.from;
        state.registry = false;
        let instance = &mut state.instances[i];
        instance.registered = false;
        if self.holds(Rule::KeptFromOneConnection) {
            let end = bound + clock.nap;
            instance.call.age = end;
            instance.call.t_age = end;
            if let Reader::Sent { age } | Reader::Replied { age, .. } = &mut instance.reader {
                *age = end;
            }
        }
        self.push(
            "fault",
            "the registry is lost, with every connection",
            state,
        );
    }

    /// Returns the age that an entry starts with if its proof point is sent now.
    pub(super) fn age_at_send(&self, i: usize) -> u8 {
        if self.holds(Rule::BoundBeforeProof) {
            self.if_known(i, 0)
        } else {
            0
        }
    }

    /// Returns the age of an entry that is kept now, `age` ticks after its proof point was sent.
    pub(super) fn age_at_keep(&self, i: usize, age: u8) -> u8 {
        if self.holds(Rule::BoundBeforeProof) {
            age
        } else {
            self.if_known(i, age)
        }
    }

    /// Returns `age`, or one at which no entry is usable if operators may not know of the bound.
    fn if_known(&self, i: usize, age: u8) -> u8 {
        match self.config.local {
            Some(clock) if !self.is_known(i) => self.config.staleness(i, clock) + clock.nap,
            _ => age,
        }
    }
}
