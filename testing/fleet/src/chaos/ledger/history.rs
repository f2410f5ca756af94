//! The history of a row: its commits and the confirmed invalidations.

use std::collections::HashMap;

use super::steps::Steps;
use crate::chaos::clock::{Stamp, nanos};
use crate::chaos::instance::Instance;

/// A committed state.
#[derive(Debug, Clone, Copy)]
pub struct Commit<S> {
    /// The time before the commit became visible.
    pub at: Stamp,
    /// The state of the row from then on.
    pub state: S,
}

/// An invalidation that returned `Ok`.
#[derive(Debug, Clone, Copy)]
pub struct Confirmed {
    /// The time before it was called.
    pub started: Stamp,
    /// The time after it returned.
    pub returned: Stamp,
    /// Whether it was called with `wait_for_all_instances`.
    pub waited: bool,
    /// Whether it was of everything.
    pub all: bool,
    /// Whether a generation in a local level confirms what Redis has from before it: the generation of all, in the digest
    /// layout. (A tenant has a history of its own.)
    pub by_generation: bool,
    /// The worker that called it; `None` for the operator.
    pub instance: Option<u64>,
}

/// The history of a row. A version is the index of a commit; version 0 is the initial state.
#[derive(Debug)]
pub struct History<S> {
    commits: Vec<Commit<S>>,
    confirmed: Vec<(usize, Confirmed)>,
    after_wait: Steps,
    after_plain: Steps,
    after_generation: Steps,
    after_own: HashMap<u64, Steps>,
}

impl<S: Copy> History<S> {
    pub(super) fn new(at: Stamp, state: S) -> Self {
        Self {
            commits: vec![Commit { at, state }],
            confirmed: Vec::new(),
            after_wait: Steps::default(),
            after_plain: Steps::default(),
            after_generation: Steps::default(),
            after_own: HashMap::new(),
        }
    }

    /// Returns all commits, by version.
    pub fn commits(&self) -> &[Commit<S>] {
        &self.commits
    }

    /// Returns all confirmed invalidations in the order of their reports, each with the newest version when it started.
    pub fn confirmed(&self) -> &[(usize, Confirmed)] {
        &self.confirmed
    }

    /// Returns the newest version.
    pub fn newest(&self) -> usize {
        self.commits.len() - 1
    }

    /// Returns the current state of the row.
    pub fn present(&self) -> S {
        self.commits[self.newest()].state
    }

    /// Returns the state of the row in a version, if it exists.
    pub fn state(&self, version: usize) -> Option<S> {
        self.commits.get(version).map(|commit| commit.state)
    }

    pub(super) fn commit(&mut self, at: Stamp, state: S) {
        self.commits.push(Commit { at, state });
    }

    /// Records an invalidation of this version that returned `Ok`.
    pub(super) fn confirm(&mut self, version: usize, confirmed: Confirmed) {
        let returned = confirmed.returned;
        if confirmed.waited {
            self.after_wait.demand(returned, version);
        }
        if confirmed.by_generation {
            self.after_generation.demand(returned, version);
        } else {
            self.after_plain.demand(returned, version);
        }
        if let Some(instance) = confirmed.instance {
            let own = self.after_own.entry(instance).or_default();
            own.demand(returned, version);
        }
        self.confirmed.push((version, confirmed));
    }

    /// Returns for how long before `start` a change of this version was confirmed.
    pub fn replaced_for(&self, version: usize, start: Stamp) -> Option<Stamp> {
        let replaced = self.confirmed.iter().filter(|(it, _)| *it > version);
        let first = replaced.map(|(_, it)| it.returned).min()?;
        start.checked_sub(first)
    }

    /// Returns the oldest version that may answer a request which started at `start` in `instance`.
    ///
    /// By protocol.md section 1, no version from before the invalidation is allowed after
    /// `wait_for_all_instances`. After a plain invalidation the local level of another instance may still answer
    /// from before, for less than its staleness bound, and so may what its local level confirms.
    pub fn oldest_allowed(
        &self,
        start: Stamp,
        instance: Instance,
        may_be_local: bool,
        may_be_confirmed: bool,
    ) -> usize {
        let within_bound = start.saturating_sub(nanos(instance.bound));
        let plain = if may_be_local { within_bound } else { start };
        let generation = if may_be_confirmed {
            within_bound
        } else {
            start
        };
        let own = self.after_own.get(&instance.id);
        self.after_wait
            .before(start)
            .max(self.after_plain.before(plain))
            .max(self.after_generation.before(generation))
            .max(own.map_or(0, |own| own.before(start)))
    }
}
