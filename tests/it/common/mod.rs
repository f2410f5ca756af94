//! A database for tests, whose rows have versions, which counts its loads and can hold its answers back.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test module uses a part"
)]

pub mod flood;
mod points;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
pub use points::{Points, until};
use test_support::{Gate, RedisServer};
use tower_api_token::{
    Answer, ApiTokenCache, ApiTokenCacheBuilder, CachedApiToken, Lookup, Origin, RedisStore,
    TokenDigest, TokenRecord, Unavailable,
};

/// The version of a row, which is the metadata of its record. It shows which commit an answer was read from.
pub type Version = u64;
pub type Cache = ApiTokenCache<Version>;
pub type Builder = ApiTokenCacheBuilder<Version>;

#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub token_type: String,
    pub tenant: Option<String>,
    pub version: Version,
    pub revoked: bool,
    pub expires_at: Option<DateTime<Utc>>,
    pub digest: Option<TokenDigest>,
}

impl Row {
    pub fn new(token_type: &str) -> Self {
        Self {
            id: "tok-1".to_owned(),
            token_type: token_type.to_owned(),
            tenant: None,
            version: 0,
            revoked: false,
            expires_at: None,
            digest: None,
        }
    }

    pub fn of_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }
}

/// How a load ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Answers,
    Fails,
    Panics,
}

#[derive(Debug, Default)]
pub struct Db {
    rows: Mutex<HashMap<String, Row>>,
    suspended: Mutex<Vec<String>>,
    mode: Mutex<Mode>,
    loads: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    /// Each answer passes this gate after its query has run.
    pub gate: Gate,
}

impl Db {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn with(token: &str, row: Row) -> Arc<Self> {
        let db = Self::new();
        db.insert(token, row);
        db
    }

    pub fn insert(&self, token: &str, row: Row) {
        self.rows.lock().unwrap().insert(token.to_owned(), row);
    }

    /// Commits a change of the row.
    pub fn change(&self, token: &str, change: impl FnOnce(&mut Row)) {
        let mut rows = self.rows.lock().unwrap();
        let row = rows.get_mut(token).expect("the row is there");
        row.version += 1;
        change(row);
    }

    pub fn revoke(&self, token: &str) {
        self.change(token, |row| row.revoked = true);
    }

    pub fn suspend(&self, tenant: &str) {
        self.suspended.lock().unwrap().push(tenant.to_owned());
    }

    pub fn resume(&self, tenant: &str) {
        self.suspended
            .lock()
            .unwrap()
            .retain(|suspended| suspended != tenant);
    }

    pub fn mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Returns the number of loads that have begun.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Returns the largest number of loads that ran at once.
    pub fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    fn query(&self, token: &str) -> Option<TokenRecord<Version>> {
        let rows = self.rows.lock().unwrap();
        let row = rows.get(token).filter(|row| !row.revoked)?;
        let mut record = TokenRecord::new(row.id.as_str())
            .token_type(row.token_type.as_str())
            .tenant_id(row.tenant.clone())
            .expires_at(row.expires_at);
        if let Some(digest) = row.digest {
            record = record.digest(digest);
        }
        if let Some(tenant) = &row.tenant
            && self.suspended.lock().unwrap().contains(tenant)
        {
            record = record.denied("tenant suspended");
        }
        Some(record.metadata(row.version))
    }

    async fn load(
        self: Arc<Self>,
        lookup: Lookup,
    ) -> std::io::Result<Option<TokenRecord<Version>>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let running = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        let _running = Running(&self.now);
        self.most.fetch_max(running, Ordering::SeqCst);
        let answer = self.query(lookup.token().expose());
        self.gate.pass().await;
        let mode = *self.mode.lock().unwrap();
        match mode {
            Mode::Answers => Ok(answer),
            Mode::Fails => Err(std::io::Error::other("the database is away")),
            Mode::Panics => panic!("the loader panics, as the test wants it to"),
        }
    }

    /// Returns the builder of a cache in front of this database.
    pub fn cache(self: &Arc<Self>) -> Builder {
        let db = Arc::clone(self);
        ApiTokenCache::builder(move |lookup| Arc::clone(&db).load(lookup))
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Creates a store whose timeouts are long enough for a busy machine.
pub fn redis(server: &RedisServer) -> RedisStore {
    redis_at(&server.url())
}

/// Client tracking is off, except where it is what is tested: many tests move the clock by hand, and heartbeats go
/// by the real time.
pub fn redis_at(url: &str) -> RedisStore {
    let patient = Duration::from_secs(5);
    RedisStore::new(url)
        .unwrap()
        .response_timeout(patient)
        .connect_timeout(patient)
        .client_tracking(false)
}

/// Returns the key of the token's entry.
pub fn entry(token: &str) -> String {
    format!("api_token:token:{{{}}}", TokenDigest::of(token))
}

/// Gives the user `api`, with the password `secret`, the rights that the guide names and `further` ones.
pub fn grant(server: &RedisServer, further: &[&str]) {
    let guide = include_str!("../../../docs/deployment.md");
    let mut lines = guide.lines();
    let rule = lines.find_map(|line| line.strip_prefix("ACL SETUSER api "));
    let rule = rule.expect("the rule").replace("PASSWORD", "secret");
    let words = ["ACL", "SETUSER", "api"].into_iter().chain(rule.split(' '));
    let words: Vec<&str> = words.chain(further.iter().copied()).collect();
    server.command(&words).ok();
}

pub fn nothing_was_denied(server: &RedisServer) {
    let denied = server.command(&["ACL", "LOG"]).array();
    assert!(denied.is_empty(), "{denied:?}");
}

pub async fn ask(cache: &Cache, token: &str) -> Result<Answer<Version>, Unavailable> {
    cache.authenticate_typed(token, "app").await
}

/// Authenticates the token, which must be valid.
pub async fn found(cache: &Cache, token: &str) -> CachedApiToken<Version> {
    match ask(cache, token).await {
        Ok(Answer::Valid(token)) => token,
        answer => panic!("{answer:?}"),
    }
}

pub async fn is_invalid(cache: &Cache, token: &str) -> bool {
    matches!(ask(cache, token).await, Ok(Answer::Invalid(_)))
}

/// The number of records and of negatives in the local level.
pub fn local_entries<M: Send + Sync + 'static>(cache: &ApiTokenCache<M>) -> (usize, usize) {
    let stats = cache.stats();
    (stats.local_records as usize, stats.local_negatives as usize)
}

/// How long a test waits before it fails, which is long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done`, which is asked repeatedly. `what` is the message of the failure.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until an answer comes from Redis.
pub async fn cached(cache: &Cache, token: &str) {
    let what = format!("{token} is not cached");
    let shared = async || found(cache, token).await.origin() == Origin::Shared;
    eventually(&what, shared).await;
}

/// Repeats an invalidation until it is confirmed.
pub async fn confirmed(invalidate: impl AsyncFn() -> bool) {
    eventually("the invalidation is not confirmed", invalidate).await;
}

/// Starts a request in a task.
pub fn start(
    cache: &Cache,
    token: &str,
) -> tokio::task::JoinHandle<Result<Answer<Version>, Unavailable>> {
    let (cache, token) = (cache.clone(), token.to_owned());
    tokio::spawn(async move { ask(&cache, &token).await })
}
