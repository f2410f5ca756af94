//! The settings of the router, and what its handlers share.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use chrono::{DateTime, Utc};
use tower_api_token::BoxError;

use crate::admin::events::AdminChange;
use crate::admin::problem::Problem;
use crate::core::BoxFuture;
use crate::error::Error;
use crate::keys::ApiKeys;
use crate::outbox::change::{Change, InDoubt};

/// How long a request waits for the database, so that requests do not pile up while it hangs.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

type Known = Arc<dyn Fn(String) -> BoxFuture<'static, Result<bool, BoxError>> + Send + Sync>;
type OnCommit = Arc<dyn Fn(&AdminChange) + Send + Sync>;

/// The operator who sends a request to the [router](crate::ApiKeys::admin_router), for the audit table.
///
/// The service's authentication inserts it into the request's extensions. Without one the audit table names nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// Creates an actor with this name, of at most 200 bytes without control characters. With another name, every change
    /// is answered with 500 and not made.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

/// Settings of the router; see [`ApiKeys::admin_router_with`](crate::ApiKeys::admin_router_with).
#[derive(Clone, Default)]
#[must_use]
pub struct AdminSettings {
    pub(crate) token_types: Option<Vec<String>>,
    pub(crate) imports_have_format: bool,
    known_tenants: Option<Known>,
    on_commit: Option<OnCommit>,
}

impl AdminSettings {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the token types of new keys, each of which then needs one of these. Defaults to any type or none.
    pub fn token_types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.token_types = Some(types.into_iter().map(Into::into).collect());
        self
    }

    /// Rejects an imported text that does not have the [format](crate::ApiKeysBuilder::format) of its type. Choose it if
    /// the layer has that format, because the layer looks no other text up. Defaults to importing any text that the
    /// grammar of RFC 6750 allows.
    pub fn imports_have_format(mut self, only: bool) -> Self {
        self.imports_have_format = only;
        self
    }

    /// Sets which tenants exist: keys of others are not created, and answered with 422. Defaults to all, as tenants need
    /// not be created.
    pub fn known_tenants<F, Fut>(mut self, is_known: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, BoxError>> + Send + 'static,
    {
        self.known_tenants = Some(Arc::new(move |tenant| Box::pin(is_known(tenant))));
        self
    }

    /// Sets what is called after the commit of each change that is made through the router, before its invalidation. It
    /// has to return soon. Defaults to nothing.
    pub fn on_commit(mut self, call: impl Fn(&AdminChange) + Send + Sync + 'static) -> Self {
        self.on_commit = Some(Arc::new(call));
        self
    }
}

impl fmt::Debug for AdminSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminSettings")
            .field("token_types", &self.token_types)
            .field("imports_have_format", &self.imports_have_format)
            .finish_non_exhaustive()
    }
}

/// What a request's extensions may hold.
pub(crate) type By = Option<Extension<Actor>>;

/// What handlers share.
pub(crate) struct Admin {
    pub(crate) keys: ApiKeys,
    pub(crate) settings: AdminSettings,
}

impl Admin {
    /// Returns the time by which a key's status is shown.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.keys.core().now()
    }

    /// Commits a change in the name of the operator.
    pub(crate) async fn commit<T: Send + 'static>(
        &self,
        mut change: Change<T>,
        by: By,
        wait: bool,
    ) -> Result<InDoubt<T>, Problem> {
        if let Some(Extension(Actor(name))) = by {
            change = change.by(name);
        }
        if wait {
            change = change.wait_for_all_instances();
        }
        with_timeout(change.commit()).await
    }

    pub(crate) fn committed(&self, action: &'static str, key_id: Option<&str>, tenant: &str) {
        tracing::info!(action, key_id, tenant, "keys were changed");
        if let Some(on_commit) = &self.settings.on_commit {
            on_commit(&AdminChange {
                action,
                key_id: key_id.map(str::to_owned),
                tenant_id: tenant.to_owned(),
            });
        }
    }

    pub(crate) async fn require_tenant(&self, tenant: &str) -> Result<(), Problem> {
        let Some(is_known) = &self.settings.known_tenants else {
            return Ok(());
        };
        let known = tokio::time::timeout(DATABASE_TIMEOUT, is_known(tenant.to_owned())).await;
        match known {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Problem::unprocessable("tenant_id: there is no such tenant")),
            Ok(Err(error)) => Err(Problem::no_database(&*error)),
            Err(elapsed) => Err(Problem::no_database(&elapsed)),
        }
    }
}

/// Waits for the database.
pub(crate) async fn with_timeout<T>(
    query: impl Future<Output = Result<T, Error>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(DATABASE_TIMEOUT, query).await {
        Ok(result) => Ok(result?),
        Err(elapsed) => Err(Problem::no_database(&elapsed)),
    }
}
