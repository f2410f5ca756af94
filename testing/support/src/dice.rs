//! Random numbers from a seed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Random numbers from a seed, by `SplitMix64`.
///
/// The seed determines the actions of a run, but not how threads and processes are scheduled. So the same seed
/// gives a similar run, not the same one.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Creates the independent generator number `stream` of this seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.roll();
        dice
    }

    /// Returns a new seed, for a run without a given one.
    pub fn any_seed() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
    }

    /// Returns any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % n).unwrap_or(0)
    }

    /// Returns true in `percent` of 100 cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns one of several values.
    pub fn of<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.below(several.len())]
    }

    /// Returns a number from 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a time up to `most`, uniformly distributed.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.fraction())
    }

    /// Returns a time between two numbers of milliseconds, uniformly distributed.
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least) + self.up_to(Duration::from_millis(most - least))
    }

    /// Returns a time between two numbers of milliseconds, with each order of magnitude equally likely.
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
    fn same_seed_and_stream_give_the_same_numbers() {
        let numbers = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            [(); 4].map(|()| dice.roll())
        };
        assert_eq!(numbers(1, 0), numbers(1, 0));
        assert_ne!(numbers(1, 0), numbers(1, 1));
        assert_ne!(numbers(1, 0), numbers(2, 0));
    }

    #[test]
    fn numbers_are_in_their_ranges() {
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
