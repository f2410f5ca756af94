//! The handle.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Serialize, de};
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, TokenDigest};

use crate::audit::{AuditEntry, AuditQuery};
use crate::core::Core;
use crate::database::pool::Database;
use crate::error::{ChangeError, Error, Unconfirmed};
use crate::key::{IssuedKey, Key};
use crate::last_use::KeyLastUses;
use crate::loader::KeyLoader;
use crate::new_key::NewKey;
use crate::operations::list::{self, KeyQuery, Page};
use crate::operations::rotate::{Rotated, Rotation};
use crate::outbox::bound::Wait;
use crate::outbox::change::{Change, Of};
use crate::outbox::commit::Committed;
use crate::outbox::pending::Pending;
use crate::outbox::shared::Shared;
use crate::outbox::worker::{self, Failed};

/// API keys in a database: makes, lists, rotates and revokes them, and invalidates what caches hold of them.
///
/// Cloning it is cheap: clones share the pool, the bound caches and the background task.
///
/// # Examples
/// ```no_run
/// use tower_api_token::{ApiTokenLayer, RedisStore};
/// use tower_api_token_sqlx::{ApiKeys, NewKey};
///
/// # async fn example(app: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
/// let keys = ApiKeys::connect("postgres://service@127.0.0.1/service").await?;
/// let cache = keys.cache().store(RedisStore::new("redis://127.0.0.1:6379")?).build()?;
/// let app = app.layer(ApiTokenLayer::new(cache));
///
/// let issued = keys.issue(NewKey::new("acme").name("continuous integration")).await?;
/// println!("shown once: {}", issued.token.expose());
/// keys.revoke(&issued.key.id).by("alice").await?;
/// # let _ = app;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ApiKeys {
    shared: Arc<Shared>,
}

impl ApiKeys {
    pub(crate) fn new(core: Arc<Core>, outbox: Option<Duration>, wait: Wait) -> Self {
        Self {
            shared: Arc::new(Shared::new(core, outbox, wait)),
        }
    }

    /// Returns the database.
    pub fn database(&self) -> &Database {
        &self.shared.core.database
    }

    pub(crate) fn core(&self) -> &Core {
        &self.shared.core
    }

    fn change<T, F, Fut>(&self, of: Of, commit: F) -> Change<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Core>, Option<String>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Committed<T>, Error>> + Send + 'static,
    {
        Change::new(Arc::clone(&self.shared), of, commit)
    }
}

/// Caches of these keys.
impl ApiKeys {
    /// Starts building a cache of these keys: with their loader, and with a recorder of last uses that writes to their
    /// table.
    ///
    /// Loads use at most half of the pool's connections, so that a flood of unknown tokens cannot keep a revocation from
    /// the database. Another [`max_concurrent_loads`](ApiTokenCacheBuilder::max_concurrent_loads) replaces this.
    ///
    /// When it is built it is [bound](Self::bind) to these keys. All caches that are bound to one table, in all instances,
    /// have to share a store and a namespace: an instance that confirms an invalidation does so for all of them.
    pub fn cache(&self) -> ApiTokenCacheBuilder<()> {
        self.cache_of(ApiTokenCache::builder(self.loader()))
    }

    /// Starts building a cache like [`cache`](Self::cache), whose handlers read the keys' metadata as `M`.
    ///
    /// A key whose metadata is not an `M` is answered with 503, and one without is read from `null`. So make it an
    /// `Option`, unless each key has it.
    pub fn cache_with_metadata<M>(&self) -> ApiTokenCacheBuilder<M>
    where
        M: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.cache_of(ApiTokenCache::builder(self.loader_with_metadata::<M>()))
    }

    fn cache_of<M>(&self, builder: ApiTokenCacheBuilder<M>) -> ApiTokenCacheBuilder<M>
    where
        M: Send + Sync + 'static,
    {
        let keys = self.clone();
        let connections = self.database().max_connections() as usize;
        builder
            // guard: K28
            .max_concurrent_loads((connections / 2).max(1))
            .last_use(LastUseRecorder::new(self.last_use_sink()))
            .on_build(move |cache| keys.bind(cache))
    }

    /// Binds a cache that was not built by [`cache`](Self::cache): changes invalidate it.
    ///
    /// With the first, the task begins that repeats invalidations which were not confirmed, of every instance. It ends
    /// with the runtime in which the keys were built, by [`shutdown`](Self::shutdown), or when no cache is bound any
    /// longer. It does not end when the keys are dropped: the cache still answers, and what other processes revoke has to
    /// reach it.
    pub fn bind<M: Send + Sync + 'static>(&self, cache: &ApiTokenCache<M>) {
        self.shared.add(Arc::new(cache.clone()));
        worker::start(&self.shared);
    }

    /// Ends the binding of a cache: changes no longer invalidate it, and it can be dropped. It is not
    /// [shut down](ApiTokenCache::shutdown).
    pub fn unbind<M: Send + Sync + 'static>(&self, cache: &ApiTokenCache<M>) {
        self.shared.remove(cache);
    }

    /// Returns the loader, which ignores metadata.
    pub fn loader(&self) -> KeyLoader {
        self.loader_with_metadata()
    }

    /// Returns a loader that reads metadata as `M`.
    pub fn loader_with_metadata<M: de::DeserializeOwned>(&self) -> KeyLoader<M> {
        KeyLoader::new(Arc::clone(&self.shared.core))
    }

    /// Returns the sink of last uses, for a [`LastUseRecorder`] with settings of yours.
    pub fn last_use_sink(&self) -> KeyLastUses {
        KeyLastUses::new(Arc::clone(&self.shared.core))
    }
}

/// Changes.
impl ApiKeys {
    /// Creates a key with a random text in its [format](crate::ApiKeysBuilder::format).
    ///
    /// No cache has an answer to a text that is random, so there is nothing to invalidate: this succeeds while the store is
    /// away.
    pub fn issue(&self, key: NewKey) -> Change<IssuedKey> {
        self.change(Of::Tenant(key.tenant.clone()), async move |core, actor| {
            crate::operations::issue::issue(&core, key, actor).await
        })
    }

    /// Adds a key whose text exists already, by its digest: [`BearerToken::digest`](tower_api_token::BearerToken::digest),
    /// or [`TokenDigest::of`] the text.
    ///
    /// The change fails with [`Error::Duplicate`] if there is such a key, even one that is revoked.
    pub fn import(&self, digest: TokenDigest, key: NewKey) -> Change<Key> {
        self.change(Of::Tenant(key.tenant.clone()), async move |core, actor| {
            crate::operations::issue::import(&core, digest, None, key, actor).await
        })
    }

    /// Imports a key by its text, which is stored if the service stores texts.
    #[cfg(feature = "admin")]
    pub(crate) fn import_text(
        &self,
        text: tower_api_token::BearerToken,
        key: NewKey,
    ) -> Change<Key> {
        self.change(Of::Tenant(key.tenant.clone()), async move |core, actor| {
            crate::operations::issue::import(&core, text.digest(), Some(&text), key, actor).await
        })
    }

    /// Replaces a key: creates a successor with a text of its own and all that was granted to the key, which expires after
    /// `overlap`. Without an overlap it is revoked.
    ///
    /// While the store is away, the rotation is committed and unconfirmed, and
    /// [`into_committed`](ChangeError::into_committed) of the error has the successor's text. A `?` would lose it.
    ///
    /// A key is rotated once. It cannot be answered twice with the successor's text, so who lost the answer rotates the
    /// successor, without an overlap. [`rotation`](Self::rotation) shows who still uses the key.
    pub fn rotate(&self, id: impl Into<String>, overlap: Duration) -> Change<Rotated> {
        let id = id.into();
        self.change(Of::Key(id.clone()), async move |core, actor| {
            crate::operations::rotate::rotate(&core, &id, overlap, actor).await
        })
    }

    /// Undoes the rotation of this key, within its overlap: it expires when it would have, and its successor is revoked.
    ///
    /// The change fails if the key has expired or is revoked, or if its successor was rotated too.
    pub fn undo_rotation(&self, id: impl Into<String>) -> Change<Key> {
        let id = id.into();
        self.change(Of::Key(id.clone()), async move |core, actor| {
            crate::operations::rotate::undo(&core, &id, actor).await
        })
    }

    /// Revokes a key. Revoking it again keeps the time of the first revocation, and waits for a confirmation once more.
    ///
    /// The successor of its rotation is another key, also if that rotation was committed just before:
    /// [`Key::successor_id`] of the result names it.
    pub fn revoke(&self, id: impl Into<String>) -> Change<Key> {
        let id = id.into();
        self.change(Of::Key(id.clone()), async move |core, actor| {
            crate::operations::revoke::revoke(&core, &id, actor).await
        })
    }

    /// Revokes all keys of a tenant, and returns how many were not revoked before.
    ///
    /// This includes the successors of rotations that are under way. A key that is issued or imported at the same time
    /// may be committed after it, and is accepted: [suspend](Self::suspend) the tenant first.
    pub fn revoke_all(&self, tenant: impl Into<String>) -> Change<u64> {
        let tenant = tenant.into();
        self.change(Of::Tenant(tenant.clone()), async move |core, actor| {
            crate::operations::revoke::revoke_all(&core, &tenant, actor).await
        })
    }

    /// Suspends a tenant: its keys are answered with 403, those too that are created later.
    pub fn suspend(&self, tenant: impl Into<String>) -> Change<()> {
        self.set_suspended(tenant.into(), true)
    }

    /// Ends the suspension of a tenant.
    pub fn resume(&self, tenant: impl Into<String>) -> Change<()> {
        self.set_suspended(tenant.into(), false)
    }

    fn set_suspended(&self, tenant: String, suspended: bool) -> Change<()> {
        self.change(Of::Tenant(tenant.clone()), async move |core, actor| {
            crate::operations::tenants::set_suspended(&core, &tenant, suspended, actor).await
        })
    }

    /// Deletes keys that were revoked or have expired before this time, a thousand at once, and returns their number.
    ///
    /// Their rows in the audit table stay.
    pub fn purge(&self, ended_before: DateTime<Utc>) -> Change<u64> {
        self.change(Of::All, async move |core, actor| {
            crate::operations::purge::purge(&core, ended_before, actor).await
        })
    }
}

/// Reading.
impl ApiKeys {
    /// Returns a page of keys, including those that are revoked or have expired.
    ///
    /// # Errors
    /// Returns an error if the limit is invalid or if the database fails.
    pub async fn list(&self, query: KeyQuery) -> Result<Page, Error> {
        let mut page = list::list(self.core(), query).await?;
        self.add_last_uses(&mut page.keys).await;
        Ok(page)
    }

    /// Returns the key with this id.
    ///
    /// # Errors
    /// Returns the database's error.
    pub async fn get(&self, id: &str) -> Result<Option<Key>, Error> {
        let key = list::get(self.core(), id).await?;
        Ok(self.with_last_use(key).await)
    }

    /// Returns the key whose text has this digest, even if it is revoked.
    ///
    /// # Errors
    /// Returns the database's error.
    pub async fn find(&self, digest: TokenDigest) -> Result<Option<Key>, Error> {
        let key = list::find(self.core(), digest).await?;
        Ok(self.with_last_use(key).await)
    }

    /// Returns the rotation of this key, which may be the predecessor or the successor, with the last uses of both.
    ///
    /// Returns `None` for a key that was not rotated or whose rotation was undone, and if one of the two was purged. In a
    /// chain of rotations, a key that is both is taken as the predecessor.
    ///
    /// # Errors
    /// Returns the database's error.
    pub async fn rotation(&self, id: &str) -> Result<Option<Rotation>, Error> {
        let Some(key) = list::get(self.core(), id).await? else {
            return Ok(None);
        };
        let (other, is_predecessor) = match (&key.successor_id, &key.predecessor_id) {
            (Some(successor), _) => (list::get(self.core(), successor).await?, true),
            (None, Some(predecessor)) => (list::get(self.core(), predecessor).await?, false),
            (None, None) => return Ok(None),
        };
        let Some(other) = other else { return Ok(None) };
        let mut both = if is_predecessor {
            [key, other]
        } else {
            [other, key]
        };
        self.add_last_uses(&mut both).await;
        let [predecessor, successor] = both;
        // The successor of a rotation that was undone still names its predecessor, which may have another one.
        if predecessor.successor_id.as_ref() != Some(&successor.id) {
            return Ok(None);
        }
        Ok(Some(Rotation {
            predecessor,
            successor,
        }))
    }

    /// Returns whether a tenant is suspended.
    ///
    /// # Errors
    /// Returns the database's error.
    pub async fn is_suspended(&self, tenant: &str) -> Result<bool, Error> {
        crate::operations::tenants::is_suspended(self.core(), tenant).await
    }

    /// Returns entries of the audit table.
    ///
    /// # Errors
    /// Returns an error if the limit is invalid or if the database fails.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditEntry>, Error> {
        self.core().audit(query).await
    }

    /// Returns the id of the key with this digest.
    #[cfg(feature = "admin")]
    pub(crate) async fn id_of(&self, digest: TokenDigest) -> Result<Option<String>, Error> {
        let key = list::find(self.core(), digest).await?;
        Ok(key.map(|key| key.id))
    }

    async fn with_last_use(&self, key: Option<Key>) -> Option<Key> {
        let mut keys: Vec<Key> = key.into_iter().collect();
        self.add_last_uses(&mut keys).await;
        keys.pop()
    }

    /// Adds later uses that an instance has recorded and not written yet. One call reads those of a page. While a store is
    /// unavailable, and with a layout that cannot look them up, the times are the database's.
    async fn add_last_uses(&self, keys: &mut [Key]) {
        if keys.is_empty() {
            return;
        }
        let digests: Vec<TokenDigest> = keys.iter().map(|key| key.digest).collect();
        for cache in self.shared.caches() {
            match cache.last_uses(digests.clone()).await {
                Ok(recorded) => {
                    for (key, recorded) in keys.iter_mut().zip(recorded) {
                        key.last_used_at = key.last_used_at.max(recorded);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the store did not return last uses; the database's are used");
                }
            }
        }
    }
}

/// The outbox.
impl ApiKeys {
    /// Returns how many invalidations are not confirmed, for a gauge. It is zero most of the time.
    ///
    /// # Errors
    /// Returns the database's error.
    pub async fn pending_count(&self) -> Result<u64, Error> {
        Ok(self.core().pending_count().await?)
    }

    /// Returns the first invalidations that are not confirmed, at most 10,000.
    ///
    /// # Errors
    /// Returns an error if the limit is invalid or if the database fails.
    pub async fn pending(&self, limit: u32) -> Result<Vec<Pending>, Error> {
        if !(1..=10_000).contains(&limit) {
            return Err(Error::invalid("limit", "not from 1 to 10,000"));
        }
        Ok(self.core().pending(limit).await?.pending)
    }

    /// Discards an invalidation that can never succeed, such as one whose text is lost, by its [id](Pending::id). Caches
    /// may then answer from before the change until their entry expires.
    ///
    /// It is in the audit table as `invalidation_discarded`, with its subject.
    pub fn discard_pending(&self, id: impl Into<String>) -> Change<()> {
        let id = id.into();
        self.change(Of::All, async move |core, actor| {
            crate::operations::discard::discard(&core, &id, actor).await
        })
    }

    /// Performs all invalidations that are not confirmed, once, and returns their number. The background task does so by
    /// itself; this is for commands and tests.
    ///
    /// # Errors
    /// Returns the first failure, [`Failed`](ChangeError::Failed) if the database did not answer.
    pub async fn work_outbox(&self) -> Result<u64, ChangeError<()>> {
        worker::round(&self.shared)
            .await
            .map_err(|failed| match failed {
                Failed::Database(error) => Error::Database(error).into(),
                Failed::Invalidation(cause) => {
                    ChangeError::Unconfirmed(Unconfirmed { value: (), cause })
                }
                Failed::Panicked(error) => std::panic::resume_unwind(error.into_panic()),
            })
    }

    /// Ends the background task, and [shuts down](ApiTokenCache::shutdown) all bound caches, which writes their last uses.
    /// Returns how many were lost. The database stays open; [`Database::close`] closes it.
    pub async fn shutdown(&self) -> usize {
        self.shared.shutdown().await
    }
}
