//! The clock that all processes of a run share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The engine's clock on Linux. It is the same in every process, and continues while a process is stopped.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A reading of the clock, in nanoseconds.
pub type Stamp = u64;

/// Reads the clock.
pub fn now() -> Stamp {
    let now = clock_gettime(CLOCK);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// Converts a duration to the clock's unit.
pub fn nanos(time: Duration) -> Stamp {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Formats `at` in milliseconds after `origin`.
pub fn millis_after(origin: Stamp, at: Stamp) -> f64 {
    let (sign, distance) = if at >= origin {
        (1.0, at - origin)
    } else {
        (-1.0, origin - at)
    };
    sign * Duration::from_nanos(distance).as_secs_f64() * 1_000.0
}
