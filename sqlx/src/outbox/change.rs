//! A change: committed with its outbox row and its audit row, then invalidated.

use std::future::IntoFuture;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::arguments::check_id;
use crate::core::{BoxFuture, Core};
use crate::error::{ChangeError, Error, Unconfirmed, UnconfirmedCause};
use crate::operations::list::get;
use crate::outbox::bound::Wait;
use crate::outbox::commit::{Actor, Committed};
use crate::outbox::shared::Shared;
use crate::outbox::worker;

type Commit<T> =
    Box<dyn FnOnce(Arc<Core>, Actor) -> BoxFuture<'static, Result<Committed<T>, Error>> + Send>;

/// A change of keys, which does nothing until it is awaited.
///
/// It is committed in one transaction, together with its row in the audit table and the rows of its invalidations in the
/// outbox. Then the invalidations are made. `Ok` means that they are confirmed: this instance answers later requests
/// from the database as it is now, and other instances do so within their
/// [`max_staleness`](tower_api_token::ApiTokenCacheBuilder::max_staleness).
///
/// # Errors
/// [`ChangeError::Failed`] means that nothing was changed, apart from a commit whose reply was lost.
/// [`ChangeError::Unconfirmed`] means that the change is committed. It has the result, and every instance keeps repeating
/// the invalidation in the background.
///
/// # Cancel safety
/// If the future is dropped, either nothing is changed, or the change is committed and the background task of an instance
/// invalidates it.
///
/// # Examples
/// ```
/// # async fn example(keys: tower_api_token_sqlx::ApiKeys) -> Result<(), Box<dyn std::error::Error>> {
/// let change = keys.revoke("key_0193c4").by("alice");
/// let revoked = change.wait_for_all_instances().await?;
/// println!("{} is rejected everywhere since {}", revoked.id, revoked.effective_at());
/// # Ok(())
/// # }
/// ```
#[must_use = "a change does nothing until it is awaited"]
pub struct Change<T> {
    shared: Arc<Shared>,
    commit: Commit<T>,
    actor: Actor,
    of: Of,
    tenant: Option<String>,
    wait: Wait,
}

/// What a change is of.
#[derive(Debug)]
pub(crate) enum Of {
    /// The key with this id.
    Key(String),
    Tenant(String),
    /// Keys of all tenants.
    All,
}

impl<T> std::fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Change<T> {
    pub(crate) fn new<F, Fut>(shared: Arc<Shared>, of: Of, commit: F) -> Self
    where
        F: FnOnce(Arc<Core>, Actor) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Committed<T>, Error>> + Send + 'static,
    {
        Self {
            shared,
            commit: Box::new(move |core, actor| Box::pin(commit(core, actor))),
            actor: None,
            of,
            tenant: None,
            wait: Wait::default(),
        }
    }

    /// Sets who makes the change, for the audit table. Defaults to nobody.
    pub fn by(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Fails the change unless it is of this tenant, for a service whose users change the keys of their own tenant by ids
    /// that they send.
    ///
    /// It fails with [`Error::UnknownKey`] if the key is another tenant's, as if it did not exist, and with
    /// [`Error::UnknownTenant`] if the change is of another tenant. A change of all tenants fails with
    /// [`Error::Invalid`]. The tenant of a key never changes.
    ///
    /// # Examples
    /// ```
    /// # async fn example(
    /// #     keys: tower_api_token_sqlx::ApiKeys,
    /// #     user: tower_api_token::CachedApiToken,
    /// #     id: &str,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let tenant = user.tenant_id().ok_or("a key without a tenant")?;
    /// keys.revoke(id).of_tenant(tenant).by(user.id()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Waits until no instance can still answer from before the change; see
    /// [`Invalidation::wait_for_all_instances`](tower_api_token::Invalidation::wait_for_all_instances).
    pub fn wait_for_all_instances(mut self) -> Self {
        self.wait.all_instances = true;
        self
    }

    /// Waits until this many Redis replicas have acknowledged it; see
    /// [`Invalidation::wait_for_replicas`](tower_api_token::Invalidation::wait_for_replicas).
    pub fn wait_for_replicas(mut self, replicas: usize) -> Self {
        self.wait.replicas = Some(replicas);
        self
    }

    /// Repeats the invalidation until it is confirmed or `duration` is over, before the change is reported as
    /// unconfirmed. Defaults to zero: one attempt.
    pub fn retry_for(mut self, duration: Duration) -> Self {
        self.wait.retry_for = duration;
        self
    }

    /// Commits the change, and leaves its invalidation to [`InDoubt::confirm`].
    pub(crate) async fn commit(self) -> Result<InDoubt<T>, Error> {
        if let Some(actor) = &self.actor {
            check_id("actor", actor)?;
        }
        worker::restart(&self.shared);
        let core = Arc::clone(&self.shared.core);
        if let Some(tenant) = &self.tenant {
            check_tenant(&core, &self.of, tenant).await?; // guard: K26
        }
        // Before the commit, so that a failure means that nothing was changed.
        let foreign = self.shared.check_stores().await?;
        let committed = (self.commit)(core, self.actor).await?;
        Ok(InDoubt {
            shared: self.shared,
            committed,
            foreign,
            wait: self.wait,
        })
    }

    async fn run(self) -> Result<Confirmed<T>, ChangeError<T>> {
        self.commit().await?.confirm().await
    }
}

/// A change that is committed, and whose invalidation was not tried. If it is dropped, a background task does it.
pub(crate) struct InDoubt<T> {
    shared: Arc<Shared>,
    committed: Committed<T>,
    foreign: Option<UnconfirmedCause>,
    wait: Wait,
}

impl<T> InDoubt<T> {
    #[cfg(feature = "admin")]
    pub(crate) fn value(&self) -> &T {
        &self.committed.value
    }

    pub(crate) async fn confirm(self) -> Result<Confirmed<T>, ChangeError<T>> {
        let Committed { value, pending } = self.committed;
        let confirmed = self.shared.confirm(&pending, self.wait, self.foreign);
        match confirmed.await {
            Ok((confirmed_at, effective_at)) => Ok(Confirmed {
                value,
                confirmed_at,
                effective_at,
            }),
            Err(cause) => Err(ChangeError::Unconfirmed(Unconfirmed { value, cause })),
        }
    }
}

async fn check_tenant(core: &Core, of: &Of, tenant: &str) -> Result<(), Error> {
    match of {
        Of::Key(id) => match get(core, id).await? {
            Some(key) if key.tenant_id == tenant => Ok(()),
            _ => Err(Error::UnknownKey),
        },
        Of::Tenant(id) if id == tenant => Ok(()),
        Of::Tenant(_) => Err(Error::UnknownTenant),
        Of::All => Err(Error::invalid(
            "of_tenant",
            "this change is not of one tenant",
        )),
    }
}

impl<T: Send + 'static> IntoFuture for Change<T> {
    type Output = Result<Confirmed<T>, ChangeError<T>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A change that is committed and confirmed. It dereferences to its result.
#[derive(Clone, Debug)]
pub struct Confirmed<T> {
    value: T,
    confirmed_at: DateTime<Utc>,
    effective_at: DateTime<Utc>,
}

impl<T> Confirmed<T> {
    /// Returns the change's result.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Returns when the invalidation was confirmed. From then on this instance answers from the database.
    pub fn confirmed_at(&self) -> DateTime<Utc> {
        self.confirmed_at
    }

    /// Returns the time from which no instance answers from before the change; see
    /// [`InvalidationReceipt::effective_at`](tower_api_token::InvalidationReceipt::effective_at).
    pub fn effective_at(&self) -> DateTime<Utc> {
        self.effective_at
    }
}

impl<T> Deref for Confirmed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
