//! The order of events within a process, where a clock's resolution is no argument.

use std::sync::atomic::{AtomicU64, Ordering};

/// A place in the order of sends and arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

#[derive(Debug, Default)]
pub(crate) struct Sequence(AtomicU64);

impl Sequence {
    pub(crate) fn next(&self) -> Moment {
        Moment(self.0.fetch_add(1, Ordering::SeqCst))
    }
}
