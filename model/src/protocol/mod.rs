//! The protocol, as steps from one state to the next.
//!
//! A step is what nobody else can observe the inside of: one command running on the server, with everything its sender
//! then does without sending another. Sending and running are one step where only the sender could tell them apart; with
//! a local level they are two, because the age of an entry counts from the sending. Whoever is between two steps may stay
//! there for any time, which is what a pause is.

mod answer;
mod canonical;
mod describe;
mod faults;
mod fill;
mod find;
mod flight;
mod generation;
mod local;
mod operator;
mod registry;
mod request;
mod state;
mod types;

pub use self::state::State;

use self::state::{Flight, Instance, Stage};
use crate::config::{Config, Requests};
use crate::rules::Rule;
use crate::search::{Model, Step, fingerprint};

/// The protocol with the parts that a [`Config`] names.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// The parts.
    pub config: Config,
}

/// Collects the steps out of one state.
struct Steps<'a> {
    config: &'a Config,
    from: &'a State,
    into: &'a mut Vec<(Step, State)>,
}

impl Steps<'_> {
    fn holds(&self, rule: Rule) -> bool {
        self.config.rules.hold(rule)
    }

    fn instance(&self, i: usize) -> &Instance {
        &self.from.instances[i]
    }

    fn flight(&self, i: usize) -> &Flight {
        &self.from.instances[i].flight
    }

    fn push(&mut self, who: &'static str, what: &'static str, mut state: State) {
        normalise(&mut state);
        self.into.push((Step { who, what }, state));
    }

    /// A step of instance `i`.
    fn by(&mut self, i: usize, what: &'static str, state: State) {
        self.push(["A", "B", "C"][i], what, state);
    }
}

impl Model for Protocol {
    type State = State;

    fn initial(&self) -> State {
        State::default()
    }

    fn successors(&self, from: &State, into: &mut Vec<(Step, State)>) {
        // Once every request that is watched has its answer, nothing that happens can break a promise.
        if from.requests[..self.requests()]
            .iter()
            .all(|request| request.stage == Stage::Done)
        {
            return;
        }
        let mut steps = Steps {
            config: &self.config,
            from,
            into,
        };
        steps.operators();
        steps.requests();
        for i in 0..self.config.instances {
            steps.fly(i);
            steps.read_t_for_others(i);
            steps.register(i);
            steps.lose_registry(i);
            steps.tick(i);
        }
        steps.faults();
    }

    fn fingerprint(&self, state: &State) -> u64 {
        let one = self.hash(state);
        // The second and the third instance are alike where requests are watched on the first: either order will do.
        if self.config.instances == 3 && matches!(self.config.requests, Requests::Observed(_)) {
            let mut other = *state;
            other.instances.swap(1, 2);
            for operator in &mut other.operators {
                operator.elapsed.swap(1, 2);
            }
            normalise(&mut other);
            return one.min(self.hash(&other));
        }
        one
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        state.broken.then_some(match self.config.most_loads {
            Some(_) => "too many loads",
            None if self.config.type_of.is_some() => {
                "answered for another type, or from a state of the database that lacks a change whose invalidation had returned"
            }
            None => "answered from a state of the database that lacks a change whose invalidation had returned",
        })
    }

    fn describe(&self, state: &State) -> String {
        describe::line(&self.config, state)
    }
}

/// Gives states that differ in nothing observable one form.
fn normalise(state: &mut State) {
    local::forget_useless_ages(state);
    canonical::rename(state);
    // The order of late commands means nothing; free places last.
    state.late.sort_unstable_by(|a, b| b.cmp(a));
}

impl Protocol {
    fn hash(&self, state: &State) -> u64 {
        let State {
            database,
            key,
            t,
            e,
            registry,
            instances,
            requests,
            operators,
            late,
            old_writer,
            now,
            waited,
            loads,
            broken,
        } = state;
        let one = (
            database, key, t, e, registry, late, old_writer, now, waited, loads, broken,
        );
        let many = (
            &instances[..self.config.instances],
            &requests[..self.requests()],
        );
        fingerprint(&(one, many, &operators[..self.config.operators.len()]))
    }

    fn requests(&self) -> usize {
        match self.config.requests {
            Requests::Observed(n) | Requests::Only(n) => n,
        }
    }
}
