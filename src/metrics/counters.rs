//! The counters behind [`Stats`].

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::label::{Origin, Outcome, Reason};
use super::stats::{ByEnd, Stats, column};

/// Counts what happens off the hot path in one counter each, and lookups and rejections in stripes.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) joined: Counter,
    pub(crate) fills_refused: Counter,
    pub(crate) unwritable: Counter,
    pub(crate) reported: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) wrong_token_type: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) store_errors: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) negative_writes_skipped: Counter,
    pub(crate) invalidations: Counter,
    pub(crate) invalidation_failures: Counter,
    hot: Hot,
}

impl Counters {
    pub(crate) fn looked_up(&self, outcome: Outcome, origin: Option<Origin>) {
        self.hot.0[stripe()].lookups[outcome as usize][column(origin)]
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rejected(&self, reason: Reason) {
        self.hot.0[stripe()].rejections[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Reads all counters but those of the local level and of the recorder.
    pub(crate) fn read(&self) -> Stats {
        let mut lookups = ByEnd::<u64>::default();
        let mut rejections = [0; Reason::ALL.len()];
        for stripe in &self.hot.0 {
            for (sum, cell) in rejections.iter_mut().zip(&stripe.rejections) {
                *sum += cell.load(Ordering::Relaxed);
            }
            for (sums, row) in lookups.iter_mut().zip(&stripe.lookups) {
                for (sum, cell) in sums.iter_mut().zip(row) {
                    *sum += cell.load(Ordering::Relaxed);
                }
            }
        }
        Stats {
            loads: self.loads.get(),
            load_failures: self.load_failures.get(),
            joined: self.joined.get(),
            fills_refused: self.fills_refused.get(),
            unwritable: self.unwritable.get(),
            report_only_rejections: self.reported.get(),
            corrupt: self.corrupt.get(),
            wrong_token_type: self.wrong_token_type.get(),
            overloaded: self.overloaded.get(),
            store_errors: self.store_errors.get(),
            refreshes: self.refreshes.get(),
            negative_writes_skipped: self.negative_writes_skipped.get(),
            invalidations: self.invalidations.get(),
            invalidation_failures: self.invalidation_failures.get(),
            lookups,
            rejections,
            ..Stats::default()
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_many(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const STRIPES: usize = 16;

/// Lookups and rejections, which are counted on the hot path. Each thread has a stripe, so that threads do
/// not pass one cache line back and forth.
#[derive(Debug, Default)]
struct Hot([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    lookups: ByEnd<AtomicU64>,
    rejections: [AtomicU64; Reason::ALL.len()],
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
    }
    STRIPE.with(Cell::get)
}
