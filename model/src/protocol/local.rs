//! Section 6: the local level, in ticks of each instance's own clock.
//!
//! Each instance counts ticks by itself. An operator that waits S + margin waits until every instance has counted at least
//! that, less the drift. Otherwise nothing relates the clocks, which is more freedom than real clocks have. An age stops
//! counting once nothing of that age is usable.

use super::canonical::fresh_generation;
use super::state::{Cell, Reader, Stage, State, Value};
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn tick(&mut self, i: usize) {
        let Some(clock) = self.config.local else {
            return;
        };
        let end = self.config.staleness(i, clock) + clock.nap;
        let older = |age: &mut u8| *age = (*age + 1).min(end);
        let mut state = *self.from;
        let instance = &mut state.instances[i];
        older(&mut instance.call.age);
        older(&mut instance.call.t_age);
        if let Some(entry) = &mut instance.entry {
            older(&mut entry.age);
        }
        instance.entry = instance.entry.filter(|entry| entry.age < end);
        for cell in instance
            .cells
            .iter_mut()
            .filter(|cell| cell.generation != 0)
        {
            older(&mut cell.age);
        }
        if let Reader::Sent { age } | Reader::Replied { age, .. } = &mut instance.reader {
            older(age);
        }
        for request in &mut state.requests {
            if usize::from(request.instance) == i
                && let Stage::Reading { nap } = &mut request.stage
            {
                *nap = (*nap + 1).min(clock.nap);
            }
        }
        let longest = self.config.longer.unwrap_or(clock.staleness) + clock.margin - clock.drift;
        for operator in state
            .operators
            .iter_mut()
            .filter(|operator| operator.waiting)
        {
            operator.elapsed[i] = (operator.elapsed[i] + 1).min(longest);
        }
        self.by(i, "one tick passes", state);
    }

    /// What a request may take from the local level, `nap` ticks after it read the clock. True if that is the answer, false
    /// if no usable local entry of T confirms it.
    pub(super) fn local_hit(&self, i: usize, nap: u8) -> Option<(Value, bool)> {
        let clock = self.config.local?;
        let instance = self.instance(i);
        let bound = self.config.staleness(i, clock);
        let usable = |age: u8| age.saturating_sub(nap) < bound;
        let value = instance.entry.filter(|entry| usable(entry.age))?.value;
        let confirmed = match self.tenant(value.record) {
            None => true,
            Some(_) if self.config.all && !self.holds(Rule::EntryNeedsAll) => true,
            Some(t) => {
                instance.cells[t].generation == value.generation && usable(instance.cells[t].age)
            }
        };
        Some((value, confirmed))
    }

    /// Stores T's reply in its local entry. Seeing a generation again does not change when it was *first* seen.
    pub(super) fn learn(&self, state: &mut State, i: usize, t: usize, generation: u8, age: u8) {
        if self.config.local.is_none() {
            return;
        }
        let age = if self.holds(Rule::AgeFromSending) {
            age
        } else {
            0
        };
        let age = self.age_at_keep(i, age);
        let cell = &mut state.instances[i].cells[t];
        if cell.generation == 0 || age <= cell.age {
            let before_load = cell.before_load && cell.generation == generation;
            *cell = Cell {
                generation,
                age,
                before_load,
            };
        }
    }

    /// Reads T for other tokens of tenant 0, at any time.
    pub(super) fn read_t_for_others(&mut self, i: usize) {
        if !self.config.reader {
            return;
        }
        let mut state = *self.from;
        match self.instance(i).reader {
            Reader::Idle => {
                let age = self.age_at_send(i);
                state.instances[i].reader = Reader::Sent { age };
                self.by(i, "GET T is sent for another token", state);
            }
            Reader::Sent { age } => {
                if state.t[0] == 0 {
                    state.t[0] = fresh_generation(&mut state);
                }
                state.instances[i].reader = Reader::Replied {
                    age,
                    generation: state.t[0],
                };
                self.by(i, "T is read, or created, for another token", state);
            }
            Reader::Replied { age, generation } => {
                let present = self.instance(i).cells[0];
                self.learn(&mut state, i, 0, generation, age);
                state.instances[i].reader = Reader::Idle;
                self.by(i, "the T read for another token arrives", state);
                // Both were sent in this tick, and the other one later.
                if present.generation != 0 && present.age == age {
                    let mut state = *self.from;
                    state.instances[i].reader = Reader::Idle;
                    self.by(
                        i,
                        "the T read for another token arrives, and is the older one",
                        state,
                    );
                }
            }
        }
    }
}
