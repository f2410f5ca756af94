//! Random identifiers from the operating system's generator.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns a new identifier: the prefix, 48 bits of the time in milliseconds and 80 random bits, in hex,
/// so that identifiers sort roughly by age.
pub(crate) fn id(prefix: &str) -> io::Result<String> {
    let mut random = [0u8; 10];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_millis());
    let random = random
        .iter()
        .fold(0u128, |all, byte| all << 8 | u128::from(*byte));
    Ok(format!(
        "{prefix}_{:012x}{random:020x}",
        millis & 0xffff_ffff_ffff
    ))
}

/// Returns 128 random bits in hex, for the content security policy of one response.
pub(crate) fn nonce() -> io::Result<String> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_a_fixed_length() {
        let (one, other) = (id("tok").unwrap(), id("tok").unwrap());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[..4]), (36, "tok_"));
    }
}
