//! Counts evicted entries.

use std::sync::Arc;

use quick_cache::Lifecycle;

use crate::metrics::Counter;

/// Counts the entries that a map evicts for its capacity. The map also reports a replaced entry, so each
/// insertion names its key, which is not counted. Removed entries are not reported.
#[derive(Clone)]
pub(super) struct Evictions {
    count: Arc<Counter>,
}

impl Evictions {
    pub(super) fn counted_by(count: &Arc<Counter>) -> Self {
        let count = Arc::clone(count);
        Self { count }
    }
}

/// The state of one insertion.
pub(super) struct Inserting<K, V> {
    key: Option<K>,
    /// The evicted entries. They are dropped after the map's lock is released: dropping a record may run the user's code, and
    /// a panic in it would leave the map half changed. There are many if the new entry is a large one.
    evicted: Vec<V>,
}

impl<K, V> Inserting<K, V> {
    pub(super) fn of(key: K) -> Self {
        Self {
            key: Some(key),
            ..Self::default()
        }
    }
}

impl<K, V> Default for Inserting<K, V> {
    fn default() -> Self {
        Self {
            key: None,
            evicted: Vec::new(),
        }
    }
}

impl<K: PartialEq, V> Lifecycle<K, V> for Evictions {
    type RequestState = Inserting<K, V>;

    fn on_evict(&self, state: &mut Inserting<K, V>, key: K, value: V) {
        if state.key.as_ref() != Some(&key) {
            self.count.add();
        }
        // guard: M4b
        state.evicted.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_evicted_is_dropped_later_however_much_it_is() {
        let (evictions, value) = (Evictions::counted_by(&Arc::default()), Arc::new(()));
        let mut inserting = Inserting::of(0);
        for key in 1..=16 {
            evictions.on_evict(&mut inserting, key, Arc::clone(&value));
        }
        assert_eq!(Arc::strong_count(&value), 17);
        drop(inserting);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
