//! The database of the tests: rows that both sides load, and a gate that holds our loads back.

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

/// A row, as the loader of either side gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which row an answer came from.
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
    /// The end, which Python knows nothing of.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Row {
    /// A row of the type `app`, of no tenant.
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

    /// The same, of a tenant.
    #[must_use]
    pub fn of_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// The row as Python gets it; without times, which a test writes itself where they matter.
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
    /// Our loads pass it after they have read.
    pub gate: Gate,
}

impl Database {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// One with a row.
    pub fn with(token: &str, row: Row) -> Arc<Self> {
        let database = Self::new();
        database.commit(token, row);
        database
    }

    /// A commit of a row, new or changed.
    pub fn commit(&self, token: &str, row: Row) {
        lock(&self.rows).insert(token.to_owned(), row);
    }

    /// A commit that takes the row away.
    pub fn revoke(&self, token: &str) {
        lock(&self.rows).remove(token);
    }

    /// A commit that suspends a tenant.
    pub fn suspend(&self, tenant: &str) {
        lock(&self.suspended).push(tenant.to_owned());
    }

    /// How many loads of ours began.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// The row as Python gets it now.
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

    /// A cache of ours in front of it, in the shared layout, to be finished by the test.
    pub fn cache(self: &Arc<Self>, redis: &RedisServer) -> ApiTokenCacheBuilder<()> {
        let database = Arc::clone(self);
        ApiTokenCache::builder(move |lookup| Arc::clone(&database).load(lookup))
            .store(patient(redis))
            .key_layout(KeyLayout::seed())
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
