//! The state of the driver, under one lock: the ledger, the answers and the faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chaos::clock::Stamp;
use crate::chaos::instance::Instance;
use crate::chaos::ledger::{Confirmed, Covered, Ledger, Target};
use crate::chaos::oracle::judge;
use crate::chaos::timeline::{Injected, describe};
use crate::chaos::wire::{Answered, Counted, Origin, Said};

/// The number of violations that are described. Others are only counted.
const DESCRIBED: usize = 5;

/// The books, as they are shared.
pub type Shared = Arc<Mutex<Books>>;

/// Locks the books, even after a panic, which leaves their contents valid.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of answers by outcome and origin.
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
    /// Unavailable.
    pub unavailable: u64,
    /// Answers that are never correct.
    pub wrong: u64,
}

impl Answers {
    /// Returns their sum.
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

/// The number of invalidations by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Invalidations {
    /// `Ok` for a token.
    pub tokens: u64,
    /// `Ok` for a tenant.
    pub tenants: u64,
    /// `Ok` for everything.
    pub all: u64,
    /// Confirmed with `wait_for_all_instances`.
    pub waited: u64,
    /// Confirmed by a worker's own engine.
    pub own: u64,
    /// Not confirmed, and repeated.
    pub failed: u64,
}

/// The state of the driver.
#[derive(Debug, Default)]
pub struct Books {
    pub ledger: Ledger,
    pub answers: Answers,
    pub invalidations: Invalidations,
    pub faults: Vec<Injected>,
    /// For how long a version was replaced, by a confirmed change, that a local level still answered.
    pub oldest: Stamp,
    pub violations: u64,
    /// The time of the first violation, and the descriptions of the first few.
    pub first_violation: Option<Stamp>,
    pub described: Vec<String>,
    /// The last reported counters of each instance.
    pub counted: BTreeMap<u64, Counted>,
}

impl Books {
    /// Judges an answer, and counts it.
    pub fn answered(&mut self, by: Instance, answered: &Answered) {
        self.answers.count(answered.said);
        if let (Some(token), Said::Found(version, Origin::Local)) = (answered.token, answered.said)
        {
            let history = self.ledger.token(token);
            let age = history.replaced_for(version.token, answered.start);
            self.oldest = self.oldest.max(age.unwrap_or_default());
        }
        if let Err(violation) = judge(&self.ledger, by, answered) {
            self.violations += 1;
            self.first_violation.get_or_insert(answered.end);
            if self.described.len() < DESCRIBED {
                let text = describe(&self.ledger, &self.faults, by, answered, violation);
                self.described.push(text);
            }
        }
    }

    /// Records an invalidation that returned `Ok`.
    pub fn confirmed(&mut self, covered: &Covered, confirmed: Confirmed) {
        let counts = &mut self.invalidations;
        match covered.first() {
            _ if confirmed.all => counts.all += 1,
            Some((Target::Tenant(_), _)) => counts.tenants += 1,
            _ => counts.tokens += 1,
        }
        counts.waited += u64::from(confirmed.waited);
        counts.own += u64::from(confirmed.instance.is_some());
        self.ledger.confirm(covered, confirmed);
    }
}
