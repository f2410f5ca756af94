//! The stores that a cache can be built with.

use self::sealed::IntoStore as Sealed;

/// A store for [`ApiTokenCacheBuilder::store`](crate::ApiTokenCacheBuilder::store).
///
/// | store | for | bounded by | survives a restart |
/// |---|---|---|---|
/// | [`MemoryStore`](crate::MemoryStore) | one process | numbers of records and of unknown tokens | no |
/// | `RedisStore` (feature `redis`) | any number of instances | `maxmemory` of the server | yes |
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store for records with metadata `{M}`",
    label = "expected `RedisStore::new(url)?` or `MemoryStore::new()`",
    note = "`RedisStore` needs metadata that is `serde::Serialize` and `serde::Deserialize`"
)]
pub trait IntoStore<M>: Sealed<M> {}

impl<M, S: Sealed<M>> IntoStore<M> for S {}

pub(crate) mod sealed {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::clock::Clock;
    use crate::error::ConfigError;
    use crate::store::backend::Backend;
    use crate::store::keys::Keys;
    use crate::store::layout::KeyLayout;

    pub trait IntoStore<M> {
        #[doc(hidden)]
        fn layout(&self) -> KeyLayout {
            KeyLayout::default()
        }

        #[doc(hidden)]
        fn check(&self) -> Result<(), ConfigError>;

        #[doc(hidden)]
        fn into_store(self, parts: Parts) -> Erased<M>;
    }

    /// A store with its type erased.
    pub struct Erased<M>(pub(crate) Arc<dyn Backend<M>>);

    impl<M> std::fmt::Debug for Erased<M> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Erased")
        }
    }

    /// What the cache's builder gives to a store.
    #[derive(Debug)]
    pub struct Parts {
        pub(crate) keys: Arc<Keys>,
        pub(crate) clock: Clock,
        /// Whether values may be past their soft end, so that their remaining TTL has to be read.
        pub(crate) stale_if_error: bool,
        /// The TTL of records.
        pub(crate) ttl: Duration,
        /// The staleness bound of the local level, zero if there is none.
        pub(crate) bound: Duration,
    }
}
