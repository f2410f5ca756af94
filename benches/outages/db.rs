//! The database, and the caches in front of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::sleep;
use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, Lookup, RedisStore, TokenRecord};

/// The milliseconds of a load while the database is healthy.
pub(crate) const LOAD: u64 = 2;

pub(crate) fn token(n: usize) -> String {
    format!("app-{n:024}")
}

/// A database that answers quickly unless it is the faulty part.
pub(crate) struct Db {
    pub(crate) fails: AtomicBool,
    pub(crate) tenants: AtomicBool,
    pub(crate) takes: AtomicU64,
    pub(crate) loads: AtomicUsize,
    now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

impl Db {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            fails: AtomicBool::new(false),
            tenants: AtomicBool::new(true),
            takes: AtomicU64::new(LOAD),
            loads: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    async fn load(self: Arc<Self>, lookup: Lookup) -> std::io::Result<Option<TokenRecord>> {
        self.loads.fetch_add(1, SeqCst);
        let running = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        sleep(Duration::from_millis(self.takes.load(SeqCst))).await;
        self.now.fetch_sub(1, SeqCst);
        if self.fails.load(SeqCst) {
            return Err(std::io::Error::other("the database is away"));
        }
        let token = lookup.token().expose();
        // Ten tenants.
        let tenant = format!("t-{}", &token[token.len() - 1..]);
        let tenant = self.tenants.load(SeqCst).then_some(tenant);
        Ok(Some(
            TokenRecord::new(token).token_type("app").tenant_id(tenant),
        ))
    }

    pub(crate) fn cache(self: &Arc<Self>, url: &str) -> ApiTokenCache {
        self.cache_with(url, |builder| builder)
    }

    pub(crate) fn cache_with(
        self: &Arc<Self>,
        url: &str,
        more: impl FnOnce(ApiTokenCacheBuilder<()>) -> ApiTokenCacheBuilder<()>,
    ) -> ApiTokenCache {
        let db = Arc::clone(self);
        let loader = move |lookup| Arc::clone(&db).load(lookup);
        let store = RedisStore::new(url).expect("a url");
        let builder = ApiTokenCache::builder(loader)
            .store(store)
            .token_types(["app"]);
        more(builder.local_capacity(0)).build().expect("a cache")
    }
}
