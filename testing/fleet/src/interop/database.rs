//! The database of the tests: rows that both sides load, and a gate that pauses our loads.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use test_support::{Gate, RedisServer};
use tower_api_token::store::KeyLayout;
use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, Lookup, RedisStore, TokenRecord};

/// A row, which the loaders of both sides get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The id, which identifies the row in an answer.
    pub id: String,
    /// The application.
    pub app_id: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The type.
    pub token_type: String,
    /// The last use.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The creation.
    pub created_at: Option<DateTime<Utc>>,
    /// The expiry, which Python does not have.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Row {
    /// Creates a row of the type `app`, without a tenant.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            app_id: None,
            tenant: None,
            token_type: "app".to_owned(),
            last_used_at: None,
            created_at: None,
            expires_at: None,
        }
    }

    /// Creates a row of the type `app`, of a tenant.
    #[must_use]
    pub fn of_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Returns the row as Python gets it, without times, which tests write themselves.
    pub fn for_python(&self, token: &str) -> Value {
        json!({
            "id": self.id,
            "app_id": self.app_id,
            "tenant_id": self.tenant,
            "type": self.token_type,
            "token": token,
            "last_used_at": null,
            "created_at": null,
        })
    }

    fn record(self) -> TokenRecord {
        TokenRecord::new(self.id)
            .token_type(self.token_type)
            .app_id(self.app_id)
            .tenant_id(self.tenant)
            .last_used_at(self.last_used_at)
            .created_at(self.created_at)
            .expires_at(self.expires_at)
    }
}

/// The database.
#[derive(Debug, Default)]
pub struct Database {
    rows: Mutex<HashMap<String, Row>>,
    suspended: Mutex<Vec<String>>,
    loads: AtomicUsize,
    /// The gate, which our loads pass after they have read.
    pub gate: Gate,
}

impl Database {
    /// Creates an empty database.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Creates a database with a row.
    pub fn with(token: &str, row: Row) -> Arc<Self> {
        let database = Self::new();
        database.commit(token, row);
        database
    }

    /// Commits a new or changed row.
    pub fn commit(&self, token: &str, row: Row) {
        lock(&self.rows).insert(token.to_owned(), row);
    }

    /// Commits the deletion of the row.
    pub fn revoke(&self, token: &str) {
        lock(&self.rows).remove(token);
    }

    /// Commits the suspension of a tenant.
    pub fn suspend(&self, tenant: &str) {
        lock(&self.suspended).push(tenant.to_owned());
    }

    /// Returns the number of our loads that began.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Returns the current row as Python gets it.
    pub fn for_python(&self, token: &str) -> Value {
        let rows = lock(&self.rows);
        rows.get(token)
            .map_or(Value::Null, |row| row.for_python(token))
    }

    async fn load(self: Arc<Self>, lookup: Lookup) -> io::Result<Option<TokenRecord>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let row = lock(&self.rows).get(lookup.token().expose()).cloned();
        let suspended = lock(&self.suspended).clone();
        self.gate.pass().await;
        Ok(row.map(|row| match &row.tenant {
            Some(tenant) if suspended.contains(tenant) => row.record().denied("suspended"),
            _ => row.record(),
        }))
    }

    /// Returns the builder of our cache for this database, with the shared layout.
    pub fn cache(self: &Arc<Self>, redis: &RedisServer) -> ApiTokenCacheBuilder<()> {
        let database = Arc::clone(self);
        ApiTokenCache::builder(move |lookup| Arc::clone(&database).load(lookup))
            .store(patient(redis).key_layout(KeyLayout::dify()))
            .token_types(["app", "dataset"])
    }
}

/// A store whose deadline does not fire because the machine is busy.
pub fn patient(redis: &RedisServer) -> RedisStore {
    let patience = Duration::from_secs(5);
    RedisStore::new(&redis.url())
        .expect("the server's URL is one")
        .response_timeout(patience)
        .connect_timeout(patience)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
