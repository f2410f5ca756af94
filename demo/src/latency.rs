//! A histogram of latencies that costs one atomic addition per request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per power of two, so that a bucket is at most 12.5 % wide.
const STEPS: usize = 8;

/// The number of buckets. The last one counts everything above two minutes.
const BUCKETS: usize = 25 * STEPS;

/// Counts since the start, by latency in microseconds.
#[derive(Debug)]
pub struct Latencies([AtomicU64; BUCKETS]);

/// A snapshot of the counts. The difference of two yields the percentiles of the time between them.
pub type Counts = [u64; BUCKETS];

/// Percentiles in microseconds. Each is the upper end of a bucket: never too low, and at most 12.5 % too
/// high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    pub p50: u64,
    pub p95: u64,
    pub p99: u64,
}

impl Latencies {
    /// Counts a latency.
    pub fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a snapshot.
    pub fn counts(&self) -> Counts {
        std::array::from_fn(|bucket| self.0[bucket].load(Ordering::Relaxed))
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Percentiles {
    /// Returns the percentiles of what was recorded between two snapshots; `None` if nothing was.
    pub fn between(before: &Counts, after: &Counts) -> Option<Self> {
        let counts: Counts = std::array::from_fn(|bucket| after[bucket] - before[bucket]);
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let percentile = |percent: u64| {
            let rank = (total * percent).div_ceil(100);
            let mut seen = 0;
            let reached = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            upper_end(reached.unwrap_or(BUCKETS - 1))
        };
        Some(Self {
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
        })
    }
}

/// Returns the bucket. Below `STEPS` each microsecond has its own; above, the exponent and the next three
/// bits select one.
fn bucket(micros: u64) -> usize {
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let exponent = micros.ilog2() as usize;
    let step = (micros >> (exponent - 3)) as usize % STEPS;
    ((exponent - 2) * STEPS + step).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (exponent, step) = (bucket / STEPS + 2, bucket % STEPS);
    (((STEPS + step + 1) as u64) << (exponent - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_ends_at_most_an_eighth_above_its_values() {
        let powers = (0..26).map(|exponent| 1u64 << exponent);
        for micros in powers.flat_map(|power| [power - 1, power, power + 1, power + power / 3]) {
            let end = upper_end(bucket(micros));
            assert!(
                end >= micros && end <= micros + micros / 8,
                "{micros}: {end}"
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_cover_the_time_between_two_snapshots() {
        let latencies = Latencies::default();
        latencies.record(Duration::from_secs(9));
        let before = latencies.counts();
        assert_eq!(Percentiles::between(&before, &before), None);
        for _ in 0..98 {
            latencies.record(Duration::from_micros(5));
        }
        latencies.record(Duration::from_micros(6));
        latencies.record(Duration::from_micros(7));
        let percentiles = Percentiles::between(&before, &latencies.counts());
        let (p50, p95, p99) = (5, 5, 6);
        assert_eq!(percentiles, Some(Percentiles { p50, p95, p99 }));
    }
}
