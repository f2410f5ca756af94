//! Random identifiers from the operating system's generator.

use chrono::{DateTime, Utc};

use crate::error::Error;

/// Returns a new identifier: the prefix, 48 bits of the time in milliseconds and 80 random bits, in hex,
/// so that identifiers sort roughly by age.
pub(crate) fn id(prefix: &str, now: DateTime<Utc>) -> Result<String, Error> {
    let mut random = [0u8; 10];
    getrandom::fill(&mut random).map_err(|error| Error::Randomness(error.into()))?;
    let random = random
        .iter()
        .fold(0u128, |all, byte| all << 8 | u128::from(*byte));
    let millis = now.timestamp_millis().max(0) & 0xffff_ffff_ffff;
    Ok(format!("{prefix}{millis:012x}{random:020x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_have_a_fixed_length_and_sort_by_age() {
        let now = Utc::now();
        let (one, other) = (id("key_", now).unwrap(), id("key_", now).unwrap());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[..4]), (36, "key_"));
        let later = id("key_", now + chrono::TimeDelta::milliseconds(1)).unwrap();
        assert!(later > one && later > other);
    }

    #[test]
    fn each_of_80_bits_is_random() {
        let random = |_| u128::from_str_radix(&id("", Utc::now()).unwrap()[12..], 16).unwrap();
        let (any, all) = (0..100)
            .map(random)
            .fold((0, !0), |(any, all), random| (any | random, all & random));
        assert_eq!((any, all), ((1 << 80) - 1, 0));
    }
}
