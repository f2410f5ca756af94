//! Chance from a seed. The seed decides what is done; when the processes are scheduled it does not
//! decide, so that the same seed gives the same kind of run and not the same run.

use std::time::Duration;

/// `SplitMix64`.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The `stream`-th independent source of this seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.roll();
        dice
    }

    fn roll(&mut self) -> u64 {
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
    fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.roll() >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }

    /// A time between the two, in milliseconds, every one as likely.
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
        least + (most - least).mul_f64(self.fraction())
    }

    /// A time between the two, in milliseconds, every order of magnitude as likely.
    pub fn magnitude(&mut self, least: u64, most: u64) -> Duration {
        let ratio = Duration::from_millis(most).as_secs_f64()
            / Duration::from_millis(least.max(1)).as_secs_f64();
        Duration::from_millis(least.max(1)).mul_f64(ratio.powf(self.fraction()))
    }
}
