//! The circuit breaker: while Redis does not answer, requests do not pay its deadline one after the
//! other.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "metrics")]
use crate::store::Breakers;
use crate::store::StoreError;
use crate::util::lock;

#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerSettings {
    /// So many failures in a row open it.
    pub(super) failures: u32,
    /// How long it stays open before a probe is let through.
    pub(super) pause: Duration,
}

#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    /// How long a command may take.
    deadline: Duration,
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
    /// One command probes; nothing else is let through. For longer than a probe can take nobody is
    /// waited for: its caller may be polled no more.
    HalfOpen {
        until: Instant,
    },
}

/// Leave to send one command, and the duty to say how it went. Dropped without (the caller hung up),
/// it is no failure, and lets the next one probe.
pub(super) struct Admission<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    pub(super) fn new(settings: BreakerSettings, deadline: Duration) -> Self {
        Self {
            settings,
            deadline,
            state: Mutex::new(State::Closed { failures: 0 }),
        }
    }

    /// # Errors
    /// It is open, or another's probe is under way.
    pub(super) fn admit(&self) -> Result<Admission<'_>, StoreError> {
        let mut state = self.lock();
        let probe = match *state {
            State::Closed { .. } => false,
            State::Open { until } | State::HalfOpen { until } => {
                let now = Instant::now();
                if now < until {
                    return Err(StoreError::breaker_open());
                }
                *state = State::HalfOpen {
                    until: now + self.deadline + self.settings.pause,
                };
                true
            }
        };
        Ok(Admission {
            breaker: self,
            probe,
        })
    }

    /// Something answered, by whatever way it was asked.
    pub(super) fn close(&self) {
        *self.lock() = State::Closed { failures: 0 };
    }

    /// Adds it to the sums by state. An open one whose pause is over is open until somebody asks.
    #[cfg(feature = "metrics")]
    pub(super) fn count(&self, sums: &mut Breakers) {
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
    pub(super) fn succeeded(self) {
        self.breaker.close();
    }

    /// `times`: for how many callers.
    pub(super) fn failed(mut self, times: usize) {
        self.probe = false; // settled here
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
            // A straggler from before it opened does not keep it open for longer.
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

    const DEADLINE: Duration = Duration::from_millis(250);

    fn breaker() -> Breaker {
        let settings = BreakerSettings {
            failures: 3,
            pause: PAUSE,
        };
        Breaker::new(settings, DEADLINE)
    }

    fn fail(breaker: &Breaker, times: usize) {
        for _ in 0..times {
            breaker.admit().unwrap().failed(1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_blip_does_not_open_it_and_failures_in_a_row_do() {
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
    async fn a_probe_that_is_given_up_leaves_the_place_to_the_next() {
        let breaker = breaker();
        fail(&breaker, 3);
        tokio::time::advance(PAUSE).await;
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().succeeded();
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_caller_is_polled_no_more_does_not_keep_it_open() {
        let breaker = breaker();
        fail(&breaker, 3);
        tokio::time::advance(PAUSE).await;
        let left = breaker.admit().unwrap();
        tokio::time::advance(DEADLINE).await;
        assert!(breaker.admit().is_err(), "it may still be answered");
        tokio::time::advance(PAUSE).await;
        breaker.admit().unwrap().succeeded();
        drop(left);
        assert!(breaker.admit().is_ok() && breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_straggler_does_not_keep_it_open_and_an_answer_by_another_way_closes_it() {
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
