//! Wakes those who wait for an event about one of many keys.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use crate::util::sync::{Notify, number_of};

/// The number of places.
const PLACES: usize = number_of(1_024);

/// Keys share places, so that nothing grows with the keys, and whoever is woken checks whether the event was its own.
pub(crate) struct Wakeups {
    places: Box<[Notify]>,
    hash: RandomState,
}

impl Wakeups {
    pub(crate) fn new() -> Self {
        Self {
            places: (0..PLACES).map(|_| Notify::new()).collect(),
            hash: RandomState::new(),
        }
    }

    /// Returns what those wait for who wait for `key`.
    pub(crate) fn of(&self, key: &(impl Hash + ?Sized)) -> &Notify {
        self.at(self.hash.hash_one(key) as usize)
    }

    /// Returns what those wait for whose keys have this hash.
    pub(crate) fn at(&self, hash: usize) -> &Notify {
        &self.places[hash % PLACES]
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        self.places.iter().for_each(Notify::notify_waiters);
    }
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wakeups")
    }
}
