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
    /// The evicted entries, which are dropped after the map's lock is released, because dropping a record may
    /// run the user's code. There are seldom more than two.
    out: [Option<V>; 2],
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
            out: [None, None],
        }
    }
}

impl<K: PartialEq, V> Lifecycle<K, V> for Evictions {
    type RequestState = Inserting<K, V>;

    fn on_evict(&self, state: &mut Inserting<K, V>, key: K, value: V) {
        if state.key.as_ref() != Some(&key) {
            self.count.add();
        }
        if let Some(place) = state.out.iter_mut().find(|place| place.is_none()) {
            *place = Some(value);
        }
    }
}
