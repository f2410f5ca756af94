//! The pauses between attempts.

use std::time::Duration;

use crate::util::random_fraction;

/// Pauses that double, each shortened at random by up to a half, so that many callers do not repeat in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            longest,
        }
    }

    /// Returns the next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.longest);
        pause.mul_f64(1.0 - random_fraction() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(1))
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_shortened_by_up_to_a_half() {
        let mut backoff = backoff();
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
    fn two_callers_pause_for_different_times() {
        let pauses: std::collections::HashSet<Duration> =
            (0..100).map(|_| backoff().pause()).collect();
        assert!(pauses.len() > 90, "{}", pauses.len());
    }
}
