//! The protocol, as steps from one state to the next.
//!
//! Each step is atomic to all others: one command that runs on the server, with everything that its sender does before it
//! sends the next. Sending and running are one step unless others can tell them apart. With a local level they are two,
//! because an entry's age counts from the sending. Any time may pass between two steps, which models pauses.

mod all;
mod answer;
mod call;
mod canonical;
mod describe;
mod faults;
mod fill;
mod find;
mod generation;
mod local;
mod operator;
mod own;
mod registry;
mod request;
mod state;
mod steps;
mod types;

pub use self::state::State;

use self::canonical::normalise;
use self::state::{Key, Stage, Value};
use self::steps::Steps;
use crate::config::{Config, Requests};
use crate::search::{Model, Step, fingerprint};

/// The protocol with the parts that a [`Config`] names.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// The parts, rules and faults.
    pub config: Config,
}

impl Model for Protocol {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State::default();
        if self.config.all {
            // What a former release wrote carries no generation of all entries.
            state.key = Key::Value(Value::default());
        }
        state
    }

    fn successors(&self, from: &State, into: &mut Vec<(Step, State)>) {
        // Once every observed request has its answer, no promise can be broken.
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
        if self.config.own {
            steps.own_operators();
        } else {
            steps.operators();
        }
        steps.requests();
        for i in 0..self.config.instances {
            steps.advance(i);
            steps.read_t_for_others(i);
            steps.register(i);
            steps.lose_registry(i);
            steps.tick(i);
        }
        steps.faults();
    }

    fn fingerprint(&self, state: &State) -> u64 {
        let one = self.hash(state);
        // With observed requests on the first instance, the second and third are interchangeable.
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
            noted,
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
        let one = (one, noted);
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
