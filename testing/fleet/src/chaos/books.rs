//! Everything that the driver knows, under one lock: the ledger, what was answered, what was broken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chaos::clock::Stamp;
use crate::chaos::ledger::{Confirmed, Ledger, Target};
use crate::chaos::oracle::{Instance, judge};
use crate::chaos::timeline;
use crate::chaos::wire::{Answered, Counted, Origin, Said};

/// So many violations are described; the others are counted.
const DESCRIBED: usize = 5;

/// The books, as they are shared.
pub type Shared = Arc<Mutex<Books>>;

/// Whoever panics with it, what is in it is still the truth.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fault, as it was injected.
#[derive(Debug, Clone)]
pub struct Injected {
    /// When it began.
    pub began: Stamp,
    /// When it was mended, if it was.
    pub mended: Option<Stamp>,
    /// The word that it is counted by.
    pub kind: &'static str,
    /// What it was.
    pub what: String,
}

/// Answers by what they said and where from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// From a local level.
    pub local: u64,
    /// From Redis.
    pub shared: u64,
    /// From the database.
    pub loaded: u64,
    /// No such token.
    pub absent: u64,
    /// Denied.
    pub denied: u64,
    /// Could not tell.
    pub unavailable: u64,
    /// What must never be said.
    pub wrong: u64,
}

impl Answers {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self {
            local,
            shared,
            loaded,
            absent,
            denied,
            unavailable,
            wrong,
        } = self;
        local + shared + loaded + absent + denied + unavailable + wrong
    }

    fn count(&mut self, said: Said) {
        let place = match said {
            Said::Found(_, Origin::Local) => &mut self.local,
            Said::Found(_, Origin::Shared) => &mut self.shared,
            Said::Found(_, Origin::Loaded) => &mut self.loaded,
            Said::Absent => &mut self.absent,
            Said::Denied(_) => &mut self.denied,
            Said::Unavailable => &mut self.unavailable,
            Said::Wrong(_) => &mut self.wrong,
        };
        *place += 1;
    }
}

/// Invalidations by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Invalidations {
    /// `Ok` for a token.
    pub tokens: u64,
    /// `Ok` for a tenant.
    pub tenants: u64,
    /// Of them, asked `wait_for_all_instances`.
    pub waited: u64,
    /// Of them, from a worker's own engine.
    pub own: u64,
    /// Not confirmed, and so repeated.
    pub failed: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Books {
    pub ledger: Ledger,
    pub answers: Answers,
    pub invalidations: Invalidations,
    pub faults: Vec<Injected>,
    pub violations: u64,
    /// The first violation's time, and the first few described.
    pub first_violation: Option<Stamp>,
    pub described: Vec<String>,
    /// Each instance's counters, as it told them last.
    pub counted: BTreeMap<u64, Counted>,
}

impl Books {
    /// Judges an answer, and counts it.
    pub fn answered(&mut self, by: Instance, answered: &Answered) {
        self.answers.count(answered.said);
        if let Err(violation) = judge(&self.ledger, by, answered) {
            self.violations += 1;
            self.first_violation.get_or_insert(answered.end);
            if self.described.len() < DESCRIBED {
                let text = timeline::describe(self, by, answered, violation);
                self.described.push(text);
            }
        }
    }

    /// Takes note of an invalidation that returned `Ok`.
    pub fn confirmed(&mut self, target: Target, confirmed: Confirmed) {
        let counts = &mut self.invalidations;
        match target {
            Target::Token(_) => counts.tokens += 1,
            Target::Tenant(_) => counts.tenants += 1,
        }
        counts.waited += u64::from(confirmed.waited);
        counts.own += u64::from(confirmed.instance.is_some());
        self.ledger.confirm(target, confirmed);
    }
}
