//! The points at which a test can hold a lookup (docs/internals/protocol.md, section 8).

#[cfg(feature = "test-util")]
pub use on::SyncPoints;

/// A step of the protocol at which a test can hold a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(not(feature = "test-util"), allow(unreachable_pub))]
pub enum SyncPoint {
    /// After the reply to the read of an entry.
    Read,
    /// After the reply to the acquire of a lease.
    Acquired,
    /// After the loader answered.
    Loaded,
    /// After a reply with a tenant's generation.
    TenantRead,
    /// Before the fill is sent.
    BeforeFill,
    /// After the reply to the fill.
    Filled,
}

#[cfg(feature = "test-util")]
mod on {
    use std::fmt;
    use std::future::Future;
    use std::sync::Arc;

    use super::SyncPoint;
    use crate::util::BoxFuture;

    type Hook = dyn Fn(SyncPoint) -> BoxFuture<'static, ()> + Send + Sync;

    /// A function that each lookup calls at each [`SyncPoint`]. The lookup continues when the returned
    /// future is ready.
    #[derive(Clone)]
    pub struct SyncPoints(Arc<Hook>);

    impl SyncPoints {
        /// Creates sync points from a closure.
        pub fn new<F, Fut>(hook: F) -> Self
        where
            F: Fn(SyncPoint) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = ()> + Send + 'static,
        {
            Self(Arc::new(move |point| Box::pin(hook(point))))
        }

        pub(crate) async fn reach(&self, point: SyncPoint) {
            (self.0)(point).await;
        }
    }

    impl fmt::Debug for SyncPoints {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("SyncPoints")
        }
    }
}
