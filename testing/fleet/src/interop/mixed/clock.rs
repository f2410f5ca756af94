//! The clock that all processes of a run share, including Python's.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A reading, in nanoseconds.
pub type Stamp = u64;

/// Reads the clock.
pub fn now() -> Stamp {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Converts a duration to the clock's unit.
pub fn nanos(time: Duration) -> Stamp {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
