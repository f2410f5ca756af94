//! Section 6: the local level, in ticks of each instance's own clock.
//!
//! Clocks of instances do not tick together: each instance counts by itself, and an operator that waits S + margin waits
//! until every instance has counted at least that, less the drift. Outside of such a wait nothing relates the clocks, which
//! is more freedom than real clocks have. Ages stop counting where they cannot make anything usable any more.

use super::Steps;
use super::canonical::fresh_generation;
use super::state::{At, Cell, Flight, Reader, Stage, State, Value};
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
        older(&mut instance.flight.age);
        older(&mut instance.flight.t_age);
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

    /// What a request may take from the local level, `nap` ticks after it read the clock; true if nothing is left to
    /// ask, false if T has no usable local entry that is equal.
    pub(super) fn local_hit(&self, i: usize, nap: u8) -> Option<(Value, bool)> {
        let clock = self.config.local?;
        let instance = self.instance(i);
        let bound = self.config.staleness(i, clock);
        let usable = |age: u8| age.saturating_sub(nap) < bound;
        let value = instance.entry.filter(|entry| usable(entry.age))?.value;
        let confirmed = match self.tenant(value.record) {
            None => true,
            Some(t) => {
                instance.cells[t].generation == value.generation && usable(instance.cells[t].age)
            }
        };
        Some((value, confirmed))
    }

    /// A reply of T enters its local entry. The time at which a generation was *first* seen stays when it is seen again.
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

    /// T is read for other tokens of tenant 0, at any time.
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
                // Sent in the same tick, but the other one later.
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

/// Ages that nothing will look at are 0, so that they do not tell states apart.
pub(super) fn forget_useless_ages(state: &mut State) {
    for instance in &mut state.instances {
        let Flight { at, sent, keep, .. } = instance.flight;
        let of_k = match at {
            At::Get | At::Acquire | At::Fill | At::Restore => sent,
            At::CheckT => true,
            At::Answer => keep,
            _ => false,
        };
        if !of_k {
            instance.flight.age = 0;
        }
        if at == At::Answer && !keep {
            instance.flight.generation = 0;
        }
        if !(sent && matches!(at, At::CheckT | At::ReadT)) {
            instance.flight.t_age = 0;
        }
    }
}
