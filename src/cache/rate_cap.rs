//! A cap on how often something is done in a second.

use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::Tick;

/// Counts within whole seconds: the second in the upper half, the count in the lower.
#[derive(Debug)]
pub(crate) struct RateCap {
    per_second: u32,
    window: AtomicU64,
}

impl RateCap {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            window: AtomicU64::new(0),
        }
    }

    pub(crate) fn allows(&self, now: Tick) -> bool {
        let second = (now.0 / 1_000_000_000) & u64::from(u32::MAX);
        let counted = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                let count = if window >> 32 == second {
                    window & u64::from(u32::MAX)
                } else {
                    0
                };
                (count < u64::from(self.per_second)).then_some(second << 32 | (count + 1))
            });
        counted.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_cap_nothing_is_allowed_until_the_next_second() {
        let cap = RateCap::new(2);
        let at = |millis: u64| Tick(millis * 1_000_000);
        let allowed = [5_000, 5_100, 5_999, 6_000, 6_001, 6_002, 9_000].map(|t| cap.allows(at(t)));
        assert_eq!(allowed, [true, true, false, true, true, false, true]);
    }
}
