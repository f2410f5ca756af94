//! What threads share, in the modules whose interleavings `scripts/interleavings` explores
//! (docs/internals/interleavings.md). There a checker's types take the place of these.

#[cfg(all(test, interleavings))]
mod explored;

#[cfg(all(test, interleavings))]
pub(crate) use explored::*;
#[cfg(not(all(test, interleavings)))]
pub(crate) use real::*;

#[cfg(not(all(test, interleavings)))]
mod real {
    pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock, RwLock, atomic};

    pub(crate) use arc_swap::ArcSwapOption;
    pub(crate) use tokio::sync::Notify;
    pub(crate) use tokio::time::timeout_at;

    pub(crate) use crate::util::task::spawn_stealable;

    /// Returns `number`, that of the locks or counters which share out all keys. The checker gets one of each.
    pub(crate) const fn number_of(number: usize) -> usize {
        number
    }
}
