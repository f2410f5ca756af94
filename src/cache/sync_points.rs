//! The points at which a test can hold a lookup or an invalidation (docs/internals/protocol.md, section 8).

#[cfg(feature = "test-util")]
pub use on::SyncPoints;

/// A step of the protocol at which a test can hold a lookup or an invalidation.
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
    /// Before an attempt of an invalidation.
    BeforeInvalidation,
    /// After an invalidation was confirmed.
    Invalidated,
}

#[cfg(feature = "test-util")]
mod on {
    use std::fmt;
    use std::future::Future;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::SyncPoint;
    use crate::util::BoxFuture;

    type Hook = dyn Fn(SyncPoint) -> BoxFuture<'static, ()> + Send + Sync;

    /// A function that each lookup and invalidation calls at each [`SyncPoint`]. It continues when the returned
    /// future is ready.
    #[derive(Clone)]
    pub struct SyncPoints {
        hook: Arc<Hook>,
        /// Whether invalidations are refused, if a contract is tested. Their pauses then take no time.
        faults: Option<Arc<AtomicBool>>,
    }

    impl SyncPoints {
        /// Creates sync points from a closure.
        pub fn new<F, Fut>(hook: F) -> Self
        where
            F: Fn(SyncPoint) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = ()> + Send + 'static,
        {
            Self {
                hook: Arc::new(move |point| Box::pin(hook(point))),
                faults: None,
            }
        }

        pub(crate) fn with_faults(mut self, invalidations_fail: Arc<AtomicBool>) -> Self {
            self.faults = Some(invalidations_fail);
            self
        }

        pub(crate) fn refuses_invalidations(&self) -> bool {
            let fails = |fault: &Arc<AtomicBool>| fault.load(Ordering::SeqCst);
            self.faults.as_ref().is_some_and(fails)
        }

        pub(crate) fn skips_pauses(&self) -> bool {
            self.faults.is_some()
        }

        pub(crate) async fn reach(&self, point: SyncPoint) {
            (self.hook)(point).await;
        }
    }

    impl fmt::Debug for SyncPoints {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("SyncPoints")
        }
    }
}
