//! How many entries were pushed out.

use std::sync::Arc;

use quick_cache::Lifecycle;

use crate::metrics::Counter;

/// Counts what a map pushes out for its budget. What is removed is not among them, and what is replaced
/// would be, so that each insertion says which key it is for.
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

/// Of one insertion.
pub(super) struct Inserting<K, V> {
    key: Option<K>,
    /// Kept until the map's lock is given back: a record's end may run the user's code. There are
    /// seldom more.
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
