//! The life of one row: its commits, and the invalidations that were confirmed.

use std::collections::HashMap;

use super::steps::Steps;
use crate::chaos::clock::{Stamp, nanos};
use crate::chaos::oracle::Instance;

/// A state that was committed.
#[derive(Debug, Clone, Copy)]
pub struct Commit<S> {
    /// Read before the commit became visible.
    pub at: Stamp,
    /// The row from then on.
    pub state: S,
}

/// An invalidation that returned `Ok`.
#[derive(Debug, Clone, Copy)]
pub struct Confirmed {
    /// The newest commit when it started.
    pub version: usize,
    /// Read before it was called.
    pub started: Stamp,
    /// Read after it returned.
    pub returned: Stamp,
    /// Whether it was asked `wait_for_all_instances`.
    pub waited: bool,
    /// The worker that called it, if it was not the operator.
    pub instance: Option<u64>,
}

/// A row's versions are the places of its commits; version 0 is how the run began.
#[derive(Debug)]
pub struct History<S> {
    commits: Vec<Commit<S>>,
    confirmed: Vec<Confirmed>,
    after_wait: Steps,
    after_plain: Steps,
    after_own: HashMap<u64, Steps>,
}

impl<S: Copy> History<S> {
    pub(super) fn new(at: Stamp, state: S) -> Self {
        Self {
            commits: vec![Commit { at, state }],
            confirmed: Vec::new(),
            after_wait: Steps::default(),
            after_plain: Steps::default(),
            after_own: HashMap::new(),
        }
    }

    /// All commits, by version.
    pub fn commits(&self) -> &[Commit<S>] {
        &self.commits
    }

    /// All confirmed invalidations, in the order in which they were heard of.
    pub fn confirmed(&self) -> &[Confirmed] {
        &self.confirmed
    }

    /// The newest version.
    pub fn newest(&self) -> usize {
        self.commits.len() - 1
    }

    /// The row as it is.
    pub fn present(&self) -> S {
        self.commits[self.newest()].state
    }

    /// The row as it was in a version, if there was one.
    pub fn state(&self, version: usize) -> Option<S> {
        self.commits.get(version).map(|commit| commit.state)
    }

    pub(super) fn commit(&mut self, at: Stamp, state: S) {
        self.commits.push(Commit { at, state });
    }

    /// Takes note of an invalidation that returned `Ok`.
    pub(super) fn confirm(&mut self, confirmed: Confirmed) {
        let Confirmed {
            version, returned, ..
        } = confirmed;
        if confirmed.waited {
            self.after_wait.demand(returned, version);
        }
        self.after_plain.demand(returned, version);
        if let Some(instance) = confirmed.instance {
            let own = self.after_own.entry(instance).or_default();
            own.demand(returned, version);
        }
        self.confirmed.push(confirmed);
    }

    /// The oldest version that a request may be answered from that started at `start` in `instance`.
    ///
    /// The promise of protocol.md section 1: after `wait_for_all_instances` none from before; after a plain
    /// invalidation likewise, except from a local level for less than the instance's bound; the
    /// caller's own local level is not excepted.
    pub fn oldest_allowed(&self, start: Stamp, instance: Instance, may_be_local: bool) -> usize {
        let plain = if may_be_local {
            start.saturating_sub(nanos(instance.bound))
        } else {
            start
        };
        let own = self.after_own.get(&instance.id);
        self.after_wait
            .before(start)
            .max(self.after_plain.before(plain))
            .max(own.map_or(0, |own| own.before(start)))
    }
}
