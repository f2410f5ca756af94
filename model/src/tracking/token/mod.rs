//! One key K: links, sessions, watches and heartbeats, step by step.
//!
//! A link is a connection. Both directions keep their order, the server may close it at any time, and frames may be delayed
//! for any time or be lost with the link. The supervisor may replace it at any time, and the old link may live on. Each
//! step is atomic to all others: a command that the server runs, a frame that the instance reads, or one load or store of a
//! request. Time is one clock of ticks for all; drift is the margin's matter, which the other models have.
//!
//! Fenced fills are assumed: a value that somebody writes to K includes every change whose DEL has run. What instances
//! without links here do to K is then "K is filled, or vanishes, at any time".

mod canonical;
mod describe;
mod instance;
mod operator;
mod request;
mod server;
mod state;
mod steps;

pub(crate) use self::state::State;

use self::state::Link;
use self::steps::Steps;
use crate::search::{Model, Step, fingerprint};
use crate::tracking::config::Tracking;

/// K's tracking with the parts that a [`Tracking`] names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenTracking {
    pub(crate) config: Tracking,
}

impl Model for TokenTracking {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State::default();
        for instance in &mut state.instances[..self.config.instances] {
            instance.links[0] = Link::new();
        }
        state
    }

    fn successors(&self, from: &State, into: &mut Vec<(Step, State)>) {
        let mut steps = Steps {
            config: &self.config,
            from,
            into,
        };
        if steps.is_over() {
            return;
        }
        steps.tick();
        steps.operator();
        steps.environment();
        for i in 0..self.config.instances {
            for l in 0..2 {
                steps.execute(i, l);
                steps.receive(i, l);
            }
            steps.run_queued_push(i);
            steps.send_heartbeats(i);
            steps.credit_heartbeats(i);
            steps.repeat_self_test(i);
            steps.reads(i);
            steps.replace_link(i);
        }
        steps.request();
    }

    fn fingerprint(&self, state: &State) -> u64 {
        let State {
            database,
            deleted,
            replied,
            confirmed,
            key,
            operator,
            losses,
            instances,
            request,
            broken,
        } = state;
        let one = (
            database, deleted, replied, confirmed, key, operator, losses, request, broken,
        );
        fingerprint(&(one, &instances[..self.config.instances]))
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        state
            .broken
            .then_some("answered with a value that an invalidation had revoked before the request")
    }

    fn describe(&self, state: &State) -> String {
        describe::line(&self.config, state)
    }
}
