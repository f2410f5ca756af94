//! What the clones of one [`ApiKeys`](crate::ApiKeys) share: the caches that are bound to them, and the task that works
//! off the outbox.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tower_api_token::BoxError;

use crate::core::{Core, join_all};
use crate::error::UnconfirmedCause;
use crate::outbox::bound::{BoundCache, Target, Wait};
use crate::outbox::pending::{Pending, Subject};

pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) interval: Option<Duration>,
    /// How the task confirms.
    pub(crate) wait: Wait,
    /// The namespaces of shared stores that are noted in the database.
    pub(crate) noted: Mutex<HashSet<String>>,
    caches: Mutex<Vec<Arc<dyn BoundCache>>>,
    task: Mutex<Option<AbortHandle>>,
    /// The runtime of the task: a cache may be built outside of it.
    runtime: Handle,
    /// Notified when a change is not confirmed.
    pub(crate) unconfirmed: Notify,
}

impl Shared {
    pub(crate) fn new(core: Arc<Core>, interval: Option<Duration>, wait: Wait) -> Self {
        Self {
            core,
            interval,
            wait,
            noted: Mutex::default(),
            caches: Mutex::default(),
            task: Mutex::default(),
            runtime: Handle::current(),
            unconfirmed: Notify::new(),
        }
    }

    pub(crate) fn caches(&self) -> Vec<Arc<dyn BoundCache>> {
        lock(&self.caches).clone()
    }

    /// Adds a cache whose answers changes invalidate.
    pub(crate) fn add(&self, cache: Arc<dyn BoundCache>) {
        lock(&self.caches).push(cache);
    }

    /// Removes a cache, and ends the task if no other is left.
    pub(crate) fn remove(&self, cache: &dyn Any) {
        let mut caches = lock(&self.caches);
        caches.retain(|it| !it.is(cache));
        let is_last = caches.is_empty();
        if is_last {
            self.end_task();
        }
    }

    /// Spawns the task, unless it runs.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: F) {
        let mut task = lock(&self.task);
        let runtime = match &*task {
            None => self.runtime.clone(),
            // Its runtime has ended.
            Some(ended) if ended.is_finished() => {
                Handle::try_current().unwrap_or_else(|_| self.runtime.clone())
            }
            Some(_) => return,
        };
        *task = Some(runtime.spawn(work).abort_handle());
    }

    /// Returns whether the task's runtime has ended. guard: K27
    pub(crate) fn has_lost_its_task(&self) -> bool {
        lock(&self.task)
            .as_ref()
            .is_some_and(AbortHandle::is_finished)
    }

    fn end_task(&self) {
        if let Some(task) = lock(&self.task).take() {
            // Safe at any point: its rows stay in the database for the next start or another instance.
            task.abort();
        }
    }

    /// Ends the task, flushes the caches' last uses, and returns how many of them were lost.
    pub(crate) async fn shutdown(&self) -> usize {
        self.end_task();
        let mut lost = 0;
        for cache in self.caches() {
            lost += cache.shutdown().await;
        }
        lost
    }

    /// Performs the invalidations of a committed change, and deletes their rows. Returns when they were confirmed, and
    /// when they are in force everywhere.
    ///
    /// If one is not confirmed its row stays, and the task repeats it. With `foreign`, which says that this process does not
    /// reach the caches that matter, all rows stay.
    pub(crate) async fn confirm(
        &self,
        pending: &[Pending],
        wait: Wait,
        foreign: Option<UnconfirmedCause>,
    ) -> Result<(DateTime<Utc>, DateTime<Utc>), UnconfirmedCause> {
        let now = self.core.now();
        let mut at = (now, now);
        let (mut ids, mut failed) = (Vec::new(), None);
        for (number, one) in pending.iter().enumerate() {
            // What the last one waits for has happened to those before it, too.
            let all_instances = wait.all_instances && number + 1 == pending.len();
            let wait = Wait {
                all_instances,
                ..wait
            };
            match self.invalidate(&one.subject, wait).await {
                Ok(times) => {
                    at = (at.0.max(times.0), at.1.max(times.1));
                    ids.push(one.id.as_str());
                }
                Err(cause) => failed = failed.or(Some(cause)),
            }
        }
        // guard: K23
        if foreign.is_some() {
            ids.clear();
        }
        // The invalidation is done even if its row cannot be deleted now. It is then merely repeated. guard: K15
        if let Err(error) = self.core.step(self.core.delete_pending(&ids)).await {
            tracing::warn!(%error, "a confirmed invalidation could not be deleted from the outbox and will be repeated");
        }
        match failed.or(foreign.filter(|_| !pending.is_empty())) {
            None => Ok(at),
            Some(cause) => {
                self.unconfirmed.notify_one();
                Err(cause)
            }
        }
    }

    /// Invalidates the subject in every bound cache, at the same time: one whose store is away must not keep it from the
    /// others. Returns the first failure.
    pub(crate) async fn invalidate(
        &self,
        subject: &Subject,
        wait: Wait,
    ) -> Result<(DateTime<Utc>, DateTime<Utc>), UnconfirmedCause> {
        let caches = self.caches();
        // guard: K1
        if caches.is_empty() {
            return Err(UnconfirmedCause::NoCache);
        }
        let target = self.target(subject).await?;
        let now = self.core.now();
        let mut at = (now, now);
        let all = caches
            .iter()
            .map(|cache| cache.invalidate(target.clone(), wait));
        // guard: K19
        for receipt in join_all(all.collect()).await {
            let receipt = receipt.map_err(UnconfirmedCause::Invalidation)?;
            at.0 = at.0.max(receipt.confirmed_at());
            at.1 = at.1.max(receipt.effective_at());
        }
        Ok(at)
    }

    async fn target(&self, subject: &Subject) -> Result<Target, UnconfirmedCause> {
        let digest = match subject {
            Subject::Tenant(id) => return Ok(Target::Tenant(id.clone())),
            Subject::Key(digest) => *digest,
        };
        let Some(texts) = &self.core.texts else {
            return Ok(Target::Digest(digest));
        };
        let found = self
            .core
            .step(async { texts(digest).await.map_err(Unfound) });
        match found.await {
            // Another text has other keys in the store, so that its invalidation would confirm nothing. guard: K20
            Ok(Some(text)) if text.digest() != digest => {
                Err(Unfound("it has another digest".into()).into())
            }
            Ok(Some(text)) => Ok(Target::Text(text)),
            // The cache then says whether its layout needs the text.
            Ok(None) => Ok(Target::Digest(digest)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why the text of a key was not found.
struct Unfound(BoxError);

impl From<std::io::Error> for Unfound {
    fn from(error: std::io::Error) -> Self {
        Self(error.into())
    }
}

impl From<Unfound> for UnconfirmedCause {
    fn from(Unfound(error): Unfound) -> Self {
        Self::Text(error.into())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("core", &self.core)
            .field("caches", &lock(&self.caches).len())
            .finish_non_exhaustive()
    }
}

/// Locks a mutex, even a poisoned one: a panic leaves no value half-written here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
