//! The set of visited states: an open-addressed table of fingerprints, each with its parent's, so that a counterexample can
//! be reconstructed without storing states. A slot takes 16 bytes.

#[derive(Debug)]
pub(crate) struct Seen {
    slots: Vec<[u64; 2]>,
    len: usize,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![[0; 2]; 1 << 16],
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns true if `fingerprint` is new.
    pub(crate) fn insert(&mut self, fingerprint: u64, parent: u64) -> bool {
        if self.len * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let at = self.find(fingerprint);
        if self.slots[at][0] == fingerprint {
            return false;
        }
        self.slots[at] = [fingerprint, parent];
        self.len += 1;
        true
    }

    pub(crate) fn parent(&self, fingerprint: u64) -> u64 {
        self.slots[self.find(fingerprint)][1]
    }

    fn find(&self, fingerprint: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = fingerprint as usize & mask;
        while self.slots[at][0] != 0 && self.slots[at][0] != fingerprint {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let larger = vec![[0; 2]; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot[0] != 0 {
                let at = self.find(slot[0]);
                self.slots[at] = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_survive_growth() {
        let mut seen = Seen::new();
        let key = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 1..200_000 {
            assert!(seen.insert(key(n), n));
            assert!(!seen.insert(key(n), 0));
        }
        assert_eq!(seen.len(), 199_999);
        assert!((1..200_000).all(|n| seen.parent(key(n)) == n));
    }
}
