//! Counts of latencies, for percentiles that are at most 6 % too high.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per power of two.
const STEPS: u64 = 16;
/// Up to an hour in microseconds.
const BUCKETS: usize = 32 * STEPS as usize;

#[derive(Debug)]
pub struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Histogram {
    pub fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Returns the percentile in microseconds, such as 99.0.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (self.count() as f64 * percent / 100.0).ceil() as u64;
        let mut seen = 0;
        let reached = self.0.iter().position(|count| {
            seen += count.load(Ordering::Relaxed);
            seen >= rank
        });
        Duration::from_micros(upper_end(reached.unwrap_or(BUCKETS - 1) as u64))
    }
}

/// Returns the bucket: below `STEPS` one for each microsecond; above, the exponent and the next four bits select it.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let exponent = u64::from(micros.ilog2());
    let step = (micros >> (exponent - 4)) % STEPS;
    usize::try_from((exponent - 3) * STEPS + step).map_or(BUCKETS - 1, |at| at.min(BUCKETS - 1))
}

fn upper_end(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    let (exponent, step) = (bucket / STEPS + 3, bucket % STEPS);
    ((STEPS + step + 1) << (exponent - 4)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_a_sixteenth_too_high() {
        for micros in [0, 7, 15, 16, 17, 999, 1_000, 12_345, 4_000_000] {
            let histogram = Histogram::default();
            histogram.record(Duration::from_micros(micros));
            let found = histogram.percentile(99.0).as_micros() as u64;
            assert!(
                found >= micros && found <= micros + micros / 16,
                "{micros}: {found}"
            );
        }
    }

    #[test]
    fn percentile_is_the_latency_at_its_rank() {
        let histogram = Histogram::default();
        for micros in 1..=10 {
            histogram.record(Duration::from_micros(micros));
        }
        let micros = |percent| histogram.percentile(percent).as_micros();
        assert_eq!((micros(50.0), micros(90.0), micros(99.0)), (5, 9, 10));
    }
}
