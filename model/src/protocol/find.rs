//! R3 and the tenant check: whether a value that was found is valid.

use super::canonical::fresh_generation;
use super::state::{At, Call, Key, Late, Record, State, Value};
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn get(&mut self, i: usize) {
        if !self.holds(Rule::TReadAfterK) && self.from.t[0] != 0 && self.call(i).known.is_none() {
            let mut state = *self.from;
            state.instances[i].call.known = Some((0, state.t[0]));
            self.by(i, "GET T, before K is read", state);
        }
        let mut state = self.running(i);
        self.learn_all(&mut state, i);
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
        let call = &mut state.instances[i].call;
        *call = Call {
            at: At::Acquire,
            ..Call::default()
        };
        if !self.holds(Rule::Lease) || !self.holds(Rule::LoadAfterAcquire) {
            call.at = At::Load;
            call.fills = true;
        }
    }

    /// Another call holds the lease: poll, or give up waiting. Polling later is a later GET, so waiting needs no state.
    pub(super) fn leased(
        &mut self,
        i: usize,
        state: State,
        polls: &'static str,
        gives_up: &'static str,
    ) {
        let mut polling = state;
        // Where the clock rule is broken, the clock was read when the call started.
        let t_was_usable = polling.instances[i].call.t_was_usable;
        polling.instances[i].call = Call {
            at: At::Get,
            t_was_usable,
            ..Call::default()
        };
        self.by(i, polls, polling);
        if self.config.most_loads.is_some() {
            return; // without faults, every lease ends in a fill
        }
        let mut state = state;
        self.load_uncached(&mut state, i);
        self.by(i, gives_up, state);
    }

    /// GET or R4 returned a value. The age in `state` counts from the sending.
    pub(super) fn found(&mut self, i: usize, mut state: State, value: Value, what: &'static str) {
        let before = state.instances[i].call;
        state.instances[i].call = Call {
            age: before.age,
            known: before
                .known
                .filter(|_| self.config.all || !self.holds(Rule::TReadAfterK)),
            record: Some(value.record),
            generation: value.generation,
            t_was_usable: before.t_was_usable,
            ..Call::default()
        };
        if self.config.own {
            state.instances[i].call.noted = before.noted;
            state.instances[i].call.at = At::Replied;
            self.by(i, what, state);
        } else {
            self.looks_valid(i, state, value, what);
        }
    }

    /// The reply with a value has arrived. Notes are read now.
    pub(super) fn replied(&mut self, i: usize) {
        let mut state = *self.from;
        let call = &mut state.instances[i].call;
        let noted = std::mem::take(&mut call.noted) || self.is_noted(i);
        if noted && self.holds(Rule::NotedIsNotRead) {
            self.load_uncached(&mut state, i);
            self.by(i, "the token is noted: K is not answered from", state);
        } else if let Some(record) = call.record {
            let generation = call.generation;
            let value = Value { record, generation };
            self.looks_valid(i, state, value, "the value arrives");
        }
    }

    fn looks_valid(&mut self, i: usize, mut state: State, value: Value, what: &'static str) {
        if self.is_former(value) {
            self.confirmed(i, state, what);
        } else if self.replaces_other_type(i, value.record) {
            state.instances[i].call = Call {
                at: At::Acquire,
                old: Some(value),
                ..Call::default()
            };
            self.by(i, "the value has another type, and is replaced", state);
        } else if self.tenant(value.record).is_some() {
            state.instances[i].call.at = At::CheckT;
            self.by(i, what, state);
        } else {
            self.confirmed(i, state, what);
        }
    }

    /// The value is valid. Past its soft end it is only a fallback.
    fn confirmed(&mut self, i: usize, state: State, what: &'static str) {
        let mut fresh = state;
        let call = &mut fresh.instances[i].call;
        call.at = At::Answer;
        call.keep = self.config.local.is_some();
        call.known = None;
        self.by(i, what, fresh);
        let call = state.instances[i].call;
        if let Some(record) = call.record.filter(|_| self.config.stale) {
            let mut past = state;
            let known = self.tenant(record).map(|t| (t as u8, call.generation));
            let known = known.filter(|_| !self.config.all);
            past.instances[i].call = Call {
                at: At::Acquire,
                known,
                old: Some(Value {
                    record,
                    generation: call.generation,
                }),
                stale: true,
                by_local_t: call.by_local_t,
                ..Call::default()
            };
            self.by(i, "the value is valid, but past its soft end", past);
        }
    }

    /// T was read before K's reply arrived: only A is, as long as every rule holds.
    pub(super) fn check_known(&mut self, i: usize) {
        let call = *self.call(i);
        if call.known.is_some_and(|(_, read)| read == call.generation) {
            let what = "the generation that was read with K, or before, confirms the value";
            self.confirmed(i, *self.from, what);
        }
    }

    /// A usable local entry of T confirms a value of the same generation. One that differs shows nothing.
    pub(super) fn check_t_locally(&mut self, i: usize) {
        let Some(clock) = self.config.local else {
            return;
        };
        let call = *self.call(i);
        let Some(t) = call.record.and_then(|record| self.tenant(record)) else {
            return;
        };
        let cell = self.instance(i).cells[t];
        let usable = cell.age < self.config.staleness(i, clock) || call.t_was_usable;
        if usable && cell.generation != 0 && cell.generation == call.generation {
            let mut state = *self.from;
            state.instances[i].call.by_local_t = true;
            self.confirmed(i, state, "the local entry of T confirms the value");
        }
    }

    /// GET T, sent after K's reply. A missing T is created at once.
    pub(super) fn check_t(&mut self, i: usize) {
        let call = *self.call(i);
        let (Some(record), generation) = (call.record, call.generation) else {
            return;
        };
        let Some(t) = self.tenant(record) else { return };
        let mut state = self.running(i);
        let found = state.t[t];
        if found == 0 && self.config.all && !self.holds(Rule::MissingAllIsChanged) {
            self.confirmed(
                i,
                state,
                "GET T: nothing, so the value is not known to be old",
            );
            return;
        }
        if found != 0 && found == generation {
            self.learn(&mut state, i, t, found, call.t_age);
            self.confirmed(i, state, "GET T: the value's generation");
        } else {
            let old = Value { record, generation };
            let replace = |state: &mut State, now: u8| {
                state.instances[i].call = Call {
                    at: At::Acquire,
                    // The acquire reads A again.
                    known: (!self.config.all).then_some((t as u8, now)),
                    old: Some(old),
                    ..Call::default()
                };
            };
            if found != 0 {
                self.learn(&mut state, i, t, found, call.t_age);
                replace(&mut state, found);
                self.by(i, "GET T: another generation, so the value is old", state);
            } else {
                let mut created = state;
                let fresh = fresh_generation(&mut created);
                created.t[t] = fresh;
                self.learn(&mut created, i, t, fresh, call.t_age);
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

    /// With N9 broken for T: a client library sends the creation in `state` again.
    pub(super) fn create_t_badly(&mut self, i: usize, t: usize, mut state: State, generation: u8) {
        if !self.holds(Rule::FreshGeneration)
            && self.delayed(&mut state, Late::CreateT(t as u8, generation))
        {
            self.by(i, "… and that creation was transmitted twice", state);
        }
    }

    /// A creation of T whose reply is lost, or that runs late. `then` is what the call does without the reply.
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
