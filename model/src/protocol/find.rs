//! R3 and the tenant check: what a key that was found is worth.

use super::Steps;
use super::canonical::fresh_generation;
use super::state::{At, Flight, Key, Late, Record, State, Value};
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn get(&mut self, i: usize) {
        if !self.holds(Rule::TReadAfterK) && self.from.t[0] != 0 && self.flight(i).known.is_none() {
            let mut state = *self.from;
            state.instances[i].flight.known = Some((0, state.t[0]));
            self.by(i, "GET T, before K is read", state);
        }
        let state = self.running(i);
        match state.key {
            Key::Empty => {
                let mut state = state;
                self.miss(&mut state, i);
                self.by(i, "GET K: nothing", state);
            }
            Key::Lease(_) => self.leased(
                i,
                state,
                "GET K: a lease, to be polled",
                "GET K: a lease, for too long",
            ),
            Key::Value(value) => self.found(i, state, value, "GET K: a value"),
        }
        if self.config.lose {
            let mut state = *self.from;
            self.load_uncached(&mut state, i);
            self.by(i, "GET K: an error or a timeout", state);
        }
    }

    fn miss(&self, state: &mut State, i: usize) {
        let flight = &mut state.instances[i].flight;
        *flight = Flight {
            at: At::Acquire,
            ..Flight::default()
        };
        if !self.holds(Rule::Lease) || !self.holds(Rule::LoadAfterAcquire) {
            flight.at = At::Load;
            flight.fills = true;
        }
    }

    /// Somebody else's lease: poll, or give up waiting. (A poll later is a GET later, so there is no state for waiting.)
    pub(super) fn leased(
        &mut self,
        i: usize,
        state: State,
        polls: &'static str,
        gives_up: &'static str,
    ) {
        let mut polling = state;
        // The clock rule's breach, if any, is about the flight's start.
        let t_was_usable = polling.instances[i].flight.t_was_usable;
        polling.instances[i].flight = Flight {
            at: At::Get,
            t_was_usable,
            ..Flight::default()
        };
        self.by(i, polls, polling);
        if self.config.most_loads.is_some() {
            return; // no fault, so nobody waits in vain
        }
        let mut state = state;
        self.load_uncached(&mut state, i);
        self.by(i, gives_up, state);
    }

    /// A value, from GET or from R4. The age that `state` has is that of the sending.
    pub(super) fn found(&mut self, i: usize, mut state: State, value: Value, what: &'static str) {
        let before = state.instances[i].flight;
        state.instances[i].flight = Flight {
            age: before.age,
            known: before.known.filter(|_| !self.holds(Rule::TReadAfterK)),
            record: Some(value.record),
            generation: value.generation,
            t_was_usable: before.t_was_usable,
            ..Flight::default()
        };
        if self.replaces_other_type(i, value.record) {
            state.instances[i].flight = Flight {
                at: At::Acquire,
                old: Some(value),
                ..Flight::default()
            };
            self.by(i, "the value has another type, and is replaced", state);
        } else if self.tenant(value.record).is_some() {
            state.instances[i].flight.at = At::CheckT;
            self.by(i, what, state);
        } else {
            self.confirmed(i, state, what);
        }
    }

    /// The value counts. If it is past its soft end, it is only what to fall back on.
    fn confirmed(&mut self, i: usize, state: State, what: &'static str) {
        let mut fresh = state;
        let flight = &mut fresh.instances[i].flight;
        flight.at = At::Answer;
        flight.keep = self.config.local.is_some();
        flight.known = None;
        self.by(i, what, fresh);
        let flight = state.instances[i].flight;
        if let Some(record) = flight.record.filter(|_| self.config.stale) {
            let mut past = state;
            let known = self.tenant(record).map(|t| (t as u8, flight.generation));
            past.instances[i].flight = Flight {
                at: At::Acquire,
                known,
                old: Some(Value {
                    record,
                    generation: flight.generation,
                }),
                stale: true,
                by_local_t: flight.by_local_t,
                ..Flight::default()
            };
            self.by(i, "the value counts, but is past its soft end", past);
        }
    }

    /// A local entry of T that is usable and equal is evidence; one that differs is none.
    pub(super) fn check_t_locally(&mut self, i: usize) {
        let Some(clock) = self.config.local else {
            return;
        };
        let flight = *self.flight(i);
        let Some(t) = flight.record.and_then(|record| self.tenant(record)) else {
            return;
        };
        let cell = self.instance(i).cells[t];
        let usable = cell.age < self.config.staleness(i, clock) || flight.t_was_usable;
        if usable && cell.generation == flight.generation {
            let mut state = *self.from;
            state.instances[i].flight.by_local_t = true;
            self.confirmed(i, state, "the local entry of T confirms the value");
        }
    }

    /// GET T, sent after K's reply; if it is missing, it is created at once.
    pub(super) fn check_t(&mut self, i: usize) {
        let flight = *self.flight(i);
        let (Some(record), generation) = (flight.record, flight.generation) else {
            return;
        };
        let Some(t) = self.tenant(record) else { return };
        if flight.known.is_some_and(|(_, early)| early == generation) {
            self.confirmed(i, *self.from, "the T read early confirms the value");
        }
        let mut state = self.running(i);
        let found = state.t[t];
        if found == generation {
            self.learn(&mut state, i, t, found, flight.t_age);
            self.confirmed(i, state, "GET T: the value's generation");
        } else {
            let old = Value { record, generation };
            let replace = |state: &mut State, now: u8| {
                state.instances[i].flight = Flight {
                    at: At::Acquire,
                    known: Some((t as u8, now)),
                    old: Some(old),
                    ..Flight::default()
                };
            };
            if found != 0 {
                self.learn(&mut state, i, t, found, flight.t_age);
                replace(&mut state, found);
                self.by(i, "GET T: another generation, so the value is old", state);
            } else {
                let mut created = state;
                let fresh = fresh_generation(&mut created);
                created.t[t] = fresh;
                self.learn(&mut created, i, t, fresh, flight.t_age);
                replace(&mut created, fresh);
                self.by(
                    i,
                    "GET T: nothing, so the value is old; T is created",
                    created,
                );
                self.create_t_badly(i, t, created, fresh);
            }
        }
        if self.config.lose {
            let mut state = *self.from;
            self.load_uncached(&mut state, i);
            self.by(i, "GET T: an error or a timeout", state);
            self.lose_created_t(i, t, |steps, state| steps.load_uncached(state, i));
        }
    }

    /// With N9 broken for T: `state`, and the creation is sent again by a library.
    pub(super) fn create_t_badly(&mut self, i: usize, t: usize, mut state: State, generation: u8) {
        if !self.holds(Rule::FreshGeneration)
            && self.delayed(&mut state, Late::CreateT(t as u8, generation))
        {
            self.by(
                i,
                "… and a second transmission of that creation is under way",
                state,
            );
        }
    }

    /// A creation of T whose reply is lost, or that will run late; `then` is what the flight does without it.
    pub(super) fn lose_created_t(&mut self, i: usize, t: usize, then: impl Fn(&Self, &mut State)) {
        let mut state = *self.from;
        let fresh = fresh_generation(&mut state);
        if state.t[t] == 0 {
            let mut created = state;
            then(self, &mut created);
            created.t[t] = fresh;
            self.by(i, "SET T NX GET: T is created, the reply is lost", created);
        }
        then(self, &mut state);
        if self.delayed(&mut state, Late::CreateT(t as u8, fresh)) {
            self.by(i, "SET T NX GET: a timeout, and it will run later", state);
        }
    }

    /// The record that a load sees.
    pub(super) fn current_record(&self, state: &State) -> Record {
        let token = state.database.token;
        let mut record = Record {
            token,
            ..Record::default()
        };
        if let Some(t) = self.tenant(record) {
            record.tenant = state.database.tenant[t];
        }
        record
    }
}
