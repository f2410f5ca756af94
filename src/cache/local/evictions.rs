//! How many entries were pushed out.

use std::sync::Arc;

use quick_cache::Lifecycle;
use quick_cache::sync::DefaultLifecycle;

use crate::cache::stats::Counter;

/// Counts what a map pushes out for its budget, or does not let in because it is larger than that.
/// What is replaced or removed is not among them.
pub(super) struct Evictions<K, V> {
    // It drops what was pushed out after the map's lock: a record holds metadata of the user's.
    inner: DefaultLifecycle<K, V>,
    count: Arc<Counter>,
}

impl<K, V> Evictions<K, V> {
    pub(super) fn counted_by(count: &Arc<Counter>) -> Self {
        Self {
            inner: DefaultLifecycle::default(),
            count: Arc::clone(count),
        }
    }
}

impl<K, V> Clone for Evictions<K, V> {
    fn clone(&self) -> Self {
        Self::counted_by(&self.count)
    }
}

impl<K, V> Lifecycle<K, V> for Evictions<K, V> {
    type RequestState = <DefaultLifecycle<K, V> as Lifecycle<K, V>>::RequestState;

    fn on_evict(&self, state: &mut Self::RequestState, key: K, value: V) {
        self.count.add();
        self.inner.on_evict(state, key, value);
    }
}
