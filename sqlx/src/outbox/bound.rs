//! The caches that hold answers about these keys, with the type of their metadata erased.

use std::any::Any;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tower_api_token::store::StoreError;
use tower_api_token::{
    ApiTokenCache, BearerToken, InvalidateError, InvalidationReceipt, TokenDigest,
};

use crate::core::BoxFuture;

/// What is to be invalidated.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Digest(TokenDigest),
    /// With the layout whose keys hold it.
    Text(BearerToken),
    Tenant(String),
}

/// How an invalidation is confirmed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    pub(crate) all_instances: bool,
    pub(crate) replicas: Option<usize>,
    pub(crate) retry_for: Duration,
}

pub(crate) trait BoundCache: Send + Sync {
    fn invalidate(
        &self,
        target: Target,
        wait: Wait,
    ) -> BoxFuture<'_, Result<InvalidationReceipt, InvalidateError>>;

    fn check_store(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    fn last_uses(
        &self,
        digests: Vec<TokenDigest>,
    ) -> BoxFuture<'_, Result<Vec<Option<DateTime<Utc>>>, StoreError>>;

    fn shutdown(&self) -> BoxFuture<'_, usize>;

    /// Returns whether `cache` is an `ApiTokenCache` and this one is a clone of it.
    fn is(&self, cache: &dyn Any) -> bool;

    /// Returns the namespace in a store that other processes use too.
    fn shared_namespace(&self) -> Option<&str>;
}

impl<M: Send + Sync + 'static> BoundCache for ApiTokenCache<M> {
    fn invalidate(
        &self,
        target: Target,
        wait: Wait,
    ) -> BoxFuture<'_, Result<InvalidationReceipt, InvalidateError>> {
        let mut invalidation = match target {
            Target::Digest(digest) => self.invalidate_digest(digest),
            Target::Text(text) => self.invalidate(text.expose()),
            Target::Tenant(id) => self.invalidate_tenant(&id),
        };
        if wait.all_instances {
            invalidation = invalidation.wait_for_all_instances();
        }
        if let Some(replicas) = wait.replicas {
            invalidation = invalidation.wait_for_replicas(replicas);
        }
        Box::pin(invalidation.retry_for(wait.retry_for).into_future())
    }

    fn check_store(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.check_store())
    }

    fn last_uses(
        &self,
        digests: Vec<TokenDigest>,
    ) -> BoxFuture<'_, Result<Vec<Option<DateTime<Utc>>>, StoreError>> {
        Box::pin(self.last_uses(digests))
    }

    fn shutdown(&self) -> BoxFuture<'_, usize> {
        Box::pin(self.shutdown())
    }

    fn is(&self, cache: &dyn Any) -> bool {
        let cache = cache.downcast_ref::<Self>();
        cache.is_some_and(|cache| self.is_clone_of(cache))
    }

    fn shared_namespace(&self) -> Option<&str> {
        self.has_shared_store().then(|| self.namespace())
    }
}
