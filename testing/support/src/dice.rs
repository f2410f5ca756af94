//! Chance from a seed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Chance from a seed, by `SplitMix64`.
///
/// The seed decides what is done; when threads and processes are scheduled it does not decide, so that
/// the same seed gives the same kind of run and not the same run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The `stream`-th independent source of this seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.roll();
        dice
    }

    /// A seed for a run that nobody named one for.
    pub fn any_seed() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % n).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub fn of<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.below(several.len())]
    }

    /// From 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A time up to this one, every one as likely.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.fraction())
    }

    /// A time between the two, in milliseconds, every one as likely.
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least) + self.up_to(Duration::from_millis(most - least))
    }

    /// A time between the two, in milliseconds, every order of magnitude as likely.
    pub fn magnitude(&mut self, least: u64, most: u64) -> Duration {
        let least = Duration::from_millis(least.max(1));
        let ratio = Duration::from_millis(most).as_secs_f64() / least.as_secs_f64();
        least.mul_f64(ratio.powf(self.fraction()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_each_stream_has_its_own() {
        let numbers = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            [(); 4].map(|()| dice.roll())
        };
        assert_eq!(numbers(1, 0), numbers(1, 0));
        assert_ne!(numbers(1, 0), numbers(1, 1));
        assert_ne!(numbers(1, 0), numbers(2, 0));
    }

    #[test]
    fn numbers_stay_within_what_was_asked_for() {
        let mut dice = Dice::new(7, 0);
        for _ in 0..10_000 {
            assert!(dice.below(3) < 3);
            assert!((0.0..1.0).contains(&dice.fraction()));
            let time = dice.millis(2, 5).as_secs_f64();
            assert!((0.002..=0.005).contains(&time), "{time}");
            let time = dice.magnitude(1, 100).as_secs_f64();
            assert!((0.000_999..=0.100_1).contains(&time), "{time}");
        }
        assert_eq!(dice.below(0), 0);
    }
}
