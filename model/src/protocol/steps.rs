//! The steps that lead out of one state. Each file beside this one adds some.

use super::canonical::normalise;
use super::state::{Call, Instance, State};
use crate::config::Config;
use crate::rules::Rule;
use crate::search::Step;

/// Collects the steps that lead out of one state.
pub(super) struct Steps<'a> {
    pub(super) config: &'a Config,
    pub(super) from: &'a State,
    pub(super) into: &'a mut Vec<(Step, State)>,
}

impl Steps<'_> {
    pub(super) fn holds(&self, rule: Rule) -> bool {
        self.config.rules.hold(rule)
    }

    pub(super) fn instance(&self, i: usize) -> &Instance {
        &self.from.instances[i]
    }

    pub(super) fn call(&self, i: usize) -> &Call {
        &self.from.instances[i].call
    }

    pub(super) fn push(&mut self, who: &'static str, what: &'static str, mut state: State) {
        normalise(&mut state);
        self.into.push((Step { who, what }, state));
    }

    /// Adds a step of instance `i`.
    pub(super) fn by(&mut self, i: usize, what: &'static str, state: State) {
        self.push(["A", "B", "C"][i], what, state);
    }
}
