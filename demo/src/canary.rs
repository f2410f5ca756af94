//! How long revocations took in the last hour, as the live page shows it. `RevocationCanary` measures them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tower_api_token::{ApiTokenCache, ConfigError, RedisStore, RevocationCanary};

/// How long a measurement counts.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// The canary, and what it measured.
#[derive(Debug)]
pub(crate) struct Canary {
    canary: RevocationCanary,
    every: Duration,
    revocations: Revocations,
}

impl Canary {
    /// Creates a canary for `cache`, which measures once in the time `every`. `bound` is the cache's `max_staleness`.
    pub(crate) fn new(
        cache: &ApiTokenCache,
        store: RedisStore,
        every: Duration,
        bound: Duration,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            canary: RevocationCanary::new(cache, store)?,
            every,
            revocations: Revocations::new(bound),
        })
    }

    /// Measures until it is dropped.
    pub(crate) async fn run(&self) {
        loop {
            let measured = self.canary.measure().await;
            if let Err(error) = &measured {
                let error = error as &(dyn std::error::Error + 'static);
                tracing::error!(error, "the canary could not measure a revocation");
            }
            let took = measured.ok().map(|measured| measured.took());
            self.revocations.record(Instant::now(), took);
            tokio::time::sleep(self.every).await;
        }
    }

    /// Returns the figures of the last hour; `null` before the first measurement.
    pub(crate) fn last_hour(&self) -> Value {
        self.revocations.figures(Instant::now())
    }
}

/// The measurements of the last hour: when they ended, and how long the revocation took unless it failed.
#[derive(Debug)]
struct Revocations {
    bound: Duration,
    measured: Mutex<VecDeque<(Instant, Option<Duration>)>>,
}

impl Revocations {
    fn new(bound: Duration) -> Self {
        Self {
            bound,
            measured: Mutex::default(),
        }
    }

    fn record(&self, at: Instant, took: Option<Duration>) {
        self.since(at).push_back((at, took));
    }

    fn figures(&self, now: Instant) -> Value {
        let measured = self.since(now);
        let Some((_, last)) = measured.back() else {
            return Value::Null;
        };
        let slowest = measured.iter().filter_map(|(_, took)| *took).max();
        let failed = measured.iter().filter(|(_, took)| took.is_none());
        json!({
            "last_us": last.map(micros),
            "slowest_us": slowest.map(micros),
            "failed": failed.count(),
            "bound_us": micros(self.bound),
        })
    }

    /// Returns the measurements, without those from more than an hour before `now`.
    fn since(&self, now: Instant) -> MutexGuard<'_, VecDeque<(Instant, Option<Duration>)>> {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        while measured.front().is_some_and(|(at, _)| now - *at > PERIOD) {
            measured.pop_front();
        }
        measured
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_last_hour() {
        let revocations = Revocations::new(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(revocations.figures(start), Value::Null);
        for (minute, took) in [(0, Some(90)), (30, None), (61, Some(20)), (62, Some(7))] {
            let at = start + Duration::from_secs(60 * minute);
            revocations.record(at, took.map(Duration::from_micros));
        }
        let figures = |minute: u64| revocations.figures(start + Duration::from_secs(60 * minute));
        let [last, slowest, bound] = [7, 20, 1_000_000];
        let with = |failed: u64| json!({ "last_us": last, "slowest_us": slowest, "failed": failed, "bound_us": bound });
        assert_eq!(figures(62), with(1));
        assert_eq!(figures(91), with(0));
        assert_eq!(figures(200), Value::Null);
    }
}
