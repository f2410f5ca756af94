//! The circuit breaker: while Redis does not answer, requests do not wait for its timeout one after the
//! other.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "metrics")]
use crate::store::backend::Breakers;
use crate::store::error::StoreError;
use crate::store::redis::settings::BreakerSettings;
use crate::util::lock;

#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    /// How long a command may take.
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One command probes, and no other is let through until then. It ends after the longest time that a
    /// probe takes, because the probe's future may no longer be polled.
    HalfOpen {
        until: Instant,
    },
}

/// The permission to send one command, to be ended with its outcome. Dropped without one, as when the
/// caller is cancelled, it counts as no failure, and another command may probe.
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings, timeout: Duration) -> Self {
        Self {
            settings,
            timeout,
            state: Mutex::new(State::Closed { failures: 0 }),
        }
    }

    /// # Errors
    /// Returns an error if the breaker is open, or another command probes.
    pub(crate) fn admit(&self) -> Result<Admission<'_>, StoreError> {
        let mut state = self.lock();
        let probe = match *state {
            State::Closed { .. } => false,
            State::Open { until } | State::HalfOpen { until } => {
                let now = Instant::now();
                if now < until {
                    return Err(StoreError::circuit_open());
                }
                *state = State::HalfOpen {
                    until: now + self.timeout + self.settings.pause,
                };
                true
            }
        };
        Ok(Admission {
            breaker: self,
            probe,
        })
    }

    /// Closes the breaker: the server answered, over whichever connection.
    pub(crate) fn close(&self) {
        *self.lock() = State::Closed { failures: 0 };
    }

    /// Adds itself to the sums by state. An open breaker whose pause is over stays open until the next
    /// command.
    #[cfg(feature = "metrics")]
    pub(crate) fn count(&self, sums: &mut Breakers) {
        let sum = match *self.lock() {
            State::Closed { .. } => &mut sums.closed,
            State::Open { .. } => &mut sums.open,
            State::HalfOpen { .. } => &mut sums.half_open,
        };
        *sum += 1;
    }

    fn open(&self) -> State {
        State::Open {
            until: Instant::now() + self.settings.pause,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Admission<'_> {
    pub(crate) fn succeeded(self) {
        self.breaker.close();
    }

    /// Counts a failure for each of `times` callers.
    pub(crate) fn failed(mut self, times: usize) {
        self.probe = false;
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        let breaker = self.breaker;
        let mut state = breaker.lock();
        *state = match *state {
            State::Closed { failures }
                if failures.saturating_add(times) < breaker.settings.failures =>
            {
                State::Closed {
                    failures: failures + times,
                }
            }
            // A command that was sent before it opened does not keep it open for longer.
            open @ State::Open { .. } => open,
            State::Closed { .. } | State::HalfOpen { .. } => breaker.open(),
        };
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.probe {
            let mut state = self.breaker.lock();
            if matches!(*state, State::HalfOpen { .. }) {
                *state = State::Open {
                    until: Instant::now(),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    const TIMEOUT: Duration = Duration::from_millis(250);

    fn breaker() -> Breaker {
        let settings = BreakerSettings {
            failures: 3,
            pause: PAUSE,
        };
        Breaker::new(settings, TIMEOUT)
    }

    fn fail(breaker: &Breaker, times: usize) {
        for _ in 0..times {
            breaker.admit().unwrap().failed(1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_one_does_not() {
        let breaker = breaker();
        fail(&breaker, 2);
        breaker.admit().unwrap().succeeded();
        fail(&breaker, 2);
        assert!(breaker.admit().is_ok());
        fail(&breaker, 1);
        assert!(breaker.admit().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_pause_one_probe_decides() {
        let breaker = breaker();
        fail(&breaker, 3);
        tokio::time::advance(PAUSE).await;
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one at a time");
        probe.failed(1);
        assert!(breaker.admit().is_err());
        tokio::time::advance(PAUSE).await;
        breaker.admit().unwrap().succeeded();
        assert!(breaker.admit().is_ok() && breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_dropped_probe_another_command_probes() {
        let breaker = breaker();
        fail(&breaker, 3);
        tokio::time::advance(PAUSE).await;
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().succeeded();
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_no_longer_polled_does_not_keep_it_open() {
        let breaker = breaker();
        fail(&breaker, 3);
        tokio::time::advance(PAUSE).await;
        let left = breaker.admit().unwrap();
        let tick = Duration::from_millis(1);
        tokio::time::advance(TIMEOUT + PAUSE - tick).await;
        assert!(breaker.admit().is_err(), "it may still be answered");
        tokio::time::advance(tick).await;
        breaker.admit().unwrap().succeeded();
        drop(left);
        assert!(breaker.admit().is_ok() && breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_failure_does_not_keep_it_open_and_any_answer_closes_it() {
        let breaker = breaker();
        let straggler = breaker.admit().unwrap();
        fail(&breaker, 3);
        tokio::time::advance(PAUSE / 2).await;
        straggler.failed(1);
        tokio::time::advance(PAUSE / 2).await;
        breaker.admit().unwrap().failed(1);
        assert!(breaker.admit().is_err());
        breaker.close();
        assert!(breaker.admit().is_ok());
    }
}
