//! A limit on how often something is done per second.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Tick;

/// Counts within whole seconds: the second in the upper half, the count in the lower.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: u32,
    window: AtomicU64,
    /// How many were rejected since [`take_rejected`](Self::take_rejected) was last called.
    rejected: AtomicU64,
}

impl RateLimiter {
    pub(crate) const fn new(per_second: u32) -> Self {
        Self {
            per_second,
            window: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    /// Counts one, and returns whether it is within the limit.
    pub(crate) fn allows(&self, now: Tick) -> bool {
        let second = (now.0 / 1_000_000_000) & u64::from(u32::MAX);
        let counted = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                // A thread that read the clock before another one began the next second counts in that one.
                let (second, count) = match window >> 32 {
                    present if present >= second => (present, window & u64::from(u32::MAX)),
                    _ => (second, 0),
                };
                (count < u64::from(self.per_second)).then_some(second << 32 | (count + 1))
            });
        if counted.is_err() {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        }
        counted.is_ok()
    }

    /// Returns how many were rejected since the last call.
    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "for the log"))]
    pub(crate) fn take_rejected(&self) -> u64 {
        self.rejected.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_nothing_is_allowed_until_the_next_second() {
        let limiter = RateLimiter::new(2);
        let at = |millis: u64| Tick(millis * 1_000_000);
        let allowed =
            [5_000, 5_100, 5_999, 6_000, 6_001, 6_002, 9_000].map(|t| limiter.allows(at(t)));
        assert_eq!(allowed, [true, true, false, true, true, false, true]);
        assert_eq!(limiter.take_rejected(), 2);
        assert_eq!(limiter.take_rejected(), 0);
    }

    #[test]
    fn a_thread_that_read_the_clock_earlier_does_not_begin_the_second_again() {
        let limiter = RateLimiter::new(2);
        let at = |millis: u64| Tick(millis * 1_000_000);
        let allowed = [6_000, 6_001, 5_999, 6_002].map(|t| limiter.allows(at(t)));
        assert_eq!(allowed, [true, true, false, false]);
    }
}
