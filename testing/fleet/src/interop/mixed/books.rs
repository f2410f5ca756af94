//! The state that the parts of a run share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::clock::{Stamp, nanos, now};
use super::judge::{Answered, Cause, Said, Verdict, judge};
use super::ledger::{By, Ledger};
use crate::interop::database::lock;

/// The delay before an answer is judged, after which the ledger has everything that was complete when it was
/// requested. An answer that looks like a violation is judged again at the end of the run.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The late answers of one cause.
#[derive(Debug, Clone, Default)]
pub struct Episodes {
    /// The number of answers.
    pub answers: u64,
    /// The loads that they are based on, each of which is an episode.
    pub loads: BTreeSet<usize>,
    /// The longest time after the invalidation.
    pub longest: Stamp,
}

/// One side's answers.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// The numbers of valid, invalid, denied and unavailable answers.
    pub said: [u64; 4],
    /// The number of valid tokens that a local level returned after a completed invalidation.
    pub within: u64,
    /// The longest time after it.
    pub longest: Stamp,
    /// Late answers with a cause on Python's side.
    pub explained: BTreeMap<Cause, Episodes>,
    /// Late answers without such a cause.
    pub violations: Vec<(Stamp, &'static str, Answered)>,
}

impl Side {
    fn take(&mut self, answered: Answered, verdict: Verdict) {
        let place = match answered.said {
            Said::Found(_) => 0,
            Said::Absent => 1,
            Said::Denied(_) => 2,
            Said::Unavailable => 3,
        };
        self.said[place] += 1;
        match verdict {
            Verdict::Fresh => {}
            // A denial within the bound may be old too, but accepts nothing.
            Verdict::Within(_) if place != 0 => {}
            Verdict::Within(age) => {
                self.within += 1;
                self.longest = self.longest.max(age);
            }
            Verdict::Explained(cause, age, load) => {
                let episodes = self.explained.entry(cause).or_default();
                episodes.answers += 1;
                episodes.loads.insert(load);
                episodes.longest = episodes.longest.max(age);
            }
            Verdict::Violation(age, why) => self.violations.push((age, why, answered)),
        }
    }
}

/// The judged answers of both sides.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    /// Ours.
    pub rust: Side,
    /// The Python nodes'.
    pub python: Side,
}

/// The books, which all parts write to.
#[derive(Debug, Default)]
pub struct Books {
    ledger: Mutex<Ledger>,
    waiting: Mutex<VecDeque<Answered>>,
    suspects: Mutex<Vec<Answered>>,
    sides: Mutex<Sides>,
    stopping: AtomicBool,
}

impl Books {
    /// Creates empty books.
    pub fn new() -> Self {
        Self::default()
    }

    /// Locks the ledger.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Locks the judgements.
    pub fn sides(&self) -> MutexGuard<'_, Sides> {
        lock(&self.sides)
    }

    /// Records an answer.
    pub fn answered(&self, answered: Answered) {
        lock(&self.waiting).push_back(answered);
    }

    /// Ends the run.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Returns whether the run ends.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Returns a guard for a thread of the run. If the thread panics, the guard ends the run, which then panics too.
    pub fn end_with_a_panic(&self) -> impl Drop + '_ {
        struct Guard<'a>(&'a Books);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.stop();
                }
            }
        }
        Guard(self)
    }

    /// Judges answers that are old enough.
    pub fn judge_what_is_settled(&self) {
        let until = now().saturating_sub(nanos(SETTLED_AFTER));
        let mut settled = Vec::new();
        {
            let mut waiting = lock(&self.waiting);
            while waiting
                .front()
                .is_some_and(|answered| answered.end <= until)
            {
                settled.extend(waiting.pop_front());
            }
        }
        for answered in settled {
            let verdict = judge(&self.ledger(), &answered);
            if matches!(verdict, Verdict::Violation(..)) {
                lock(&self.suspects).push(answered);
            } else {
                self.take(answered, verdict);
            }
        }
    }

    /// Judges the other answers, after all reports have been received.
    pub fn judge_the_rest(&self) {
        let waiting: Vec<_> = lock(&self.waiting).drain(..).collect();
        let suspects: Vec<_> = lock(&self.suspects).drain(..).collect();
        for answered in waiting.into_iter().chain(suspects) {
            let verdict = judge(&self.ledger(), &answered);
            self.take(answered, verdict);
        }
    }

    fn take(&self, answered: Answered, verdict: Verdict) {
        let mut sides = self.sides();
        let side = match answered.by {
            By::Rust => &mut sides.rust,
            By::Python(_) => &mut sides.python,
        };
        side.take(answered, verdict);
    }
}
