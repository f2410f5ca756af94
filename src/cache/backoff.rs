//! The pauses between attempts of an invalidation.

use std::time::Duration;

use crate::util::random_fraction;

/// The first pause. A reconnect takes about as long.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause. When the store is back, it may return what the invalidation is to remove, so it must not wait
/// long.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that grow, each shortened at random by up to a half, so that many invalidations do not repeat in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Returns the next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(LONGEST);
        pause.mul_f64(1.0 - random_fraction() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_are_shortened_by_up_to_a_half() {
        let mut backoff = Backoff::new();
        for millis in [100, 200, 400, 800, 1000, 1000, 1000] {
            let longest = Duration::from_millis(millis);
            let pause = backoff.pause();
            assert!(
                (longest / 2..=longest).contains(&pause),
                "{pause:?} of {longest:?}"
            );
        }
    }

    #[test]
    fn two_invalidations_pause_for_different_times() {
        let pauses: std::collections::HashSet<Duration> =
            (0..100).map(|_| Backoff::new().pause()).collect();
        assert!(pauses.len() > 90, "{}", pauses.len());
    }
}
