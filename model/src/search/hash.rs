//! A 64-bit fingerprint of a state.
//!
//! States with equal fingerprints count as one, and the second is never explored. With `n` states the probability of any
//! collision is about `n² / 2⁶⁵`, or one in 3,700 for a hundred million. This requires all 64 bits to be well mixed, so bytes
//! are gathered into words and folded by a 64 × 64 → 128 bit multiplication.

use std::hash::Hasher;

const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// The hasher behind [`fingerprint`].
#[derive(Debug)]
pub(crate) struct Folding {
    state: u64,
    word: u64,
    bytes: u32,
}

impl Default for Folding {
    fn default() -> Self {
        Self {
            state: 0x2545_f491_4f6c_dd1d,
            word: 0,
            bytes: 0,
        }
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Folding {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.word = (self.word << 8) | u64::from(byte);
        self.bytes += 1;
        if self.bytes.is_multiple_of(8) {
            self.mix();
        }
    }

    fn mix(&mut self) {
        self.state = fold(self.state ^ self.word, KEYS[0]).rotate_left(23)
            ^ fold(self.word ^ KEYS[1], self.state | 1);
        self.word = 0;
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
    }

    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.byte(byte);
    }

    // Discriminants of enums, which all fit into a byte.
    #[inline]
    fn write_isize(&mut self, discriminant: isize) {
        self.byte(discriminant as u8);
    }

    // Lengths of slices, which all fit into a byte.
    #[inline]
    fn write_usize(&mut self, length: usize) {
        self.byte(length as u8);
    }

    fn finish(&self) -> u64 {
        let state = fold(self.state ^ self.word, KEYS[0]) ^ u64::from(self.bytes);
        fold(state ^ KEYS[1], KEYS[0]).max(1) // 0 marks an empty slot of the table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_inputs_do_not_collide() {
        let mut seen = std::collections::HashSet::new();
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for c in 0..16u8 {
                    let mut hasher = Folding::default();
                    hasher.write(&[a, 0, 0, b, 0, 0, 0, 0, 0, c]);
                    assert!(seen.insert(hasher.finish()));
                }
            }
        }
    }
}
