//! A fault, from the time before it until the recovery.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use test_support::{FaultProxy, RedisServer};
use tokio::time::{Instant, sleep};
use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, Origin};

use super::db::{Db, token};
use super::load::{End, Load, QUIET, RATE, Request, TOKENS};
use super::row::{Row, ms};

/// What is measured before a fault.
const BEFORE: Duration = Duration::from_millis(500);

/// Measures a fault that begins with `fault`, lasts for `hold`, and ends when `heal` returns. Both may block
/// this thread, because the load runs on others.
pub(crate) async fn measure(
    name: &'static str,
    (cache, db): (&ApiTokenCache, &Arc<Db>),
    hold: Duration,
    fault: impl AsyncFnOnce(),
    heal: impl AsyncFnOnce(),
) {
    let mut load = Load::start(cache, RATE);
    sleep(BEFORE).await;
    db.loads.store(0, SeqCst);
    db.most.store(0, SeqCst);
    let store_errors = cache.stats().store_errors;
    let asks = tokio::spawn(in_the_fault(cache.clone(), hold.max(BEFORE) / 2));
    let broke = Instant::now();
    fault().await;
    sleep(hold.saturating_sub(broke.elapsed())).await;
    heal().await;
    let healed = Instant::now();
    load.until_shared().await;
    let (invalidation, readiness) = asks.await.expect("an answer");
    let row = Row {
        name,
        requests: load.stop().await,
        broke,
        healed,
        most: db.most.load(SeqCst),
        loads: db.loads.load(SeqCst),
        store_errors: cache.stats().store_errors - store_errors,
        invalidation,
        readiness,
    };
    println!("{row}");
    let wrong = |one: &&Request| matches!(one.end, End::Wrong);
    let wrong = row.requests.iter().filter(wrong).count();
    assert_eq!(wrong, 0, "{name}: an outage was taken for an answer");
    assert!(row.most <= 50, "{name}: {} loads at once", row.most);
}

/// Returns what an operator sees during the fault.
async fn in_the_fault(cache: ApiTokenCache, after: Duration) -> (String, String) {
    sleep(after).await;
    let start = Instant::now();
    let invalidated = cache.invalidate(&token(0)).await;
    let took = ms(start.elapsed());
    let invalidation = match invalidated {
        Ok(_) => format!("Ok, {took}"),
        Err(error) => {
            // Until the invalidation is confirmed, the token is not answered from Redis.
            let repeated = cache.clone();
            tokio::spawn(async move {
                while repeated.invalidate(&token(0)).await.is_err() {
                    sleep(Duration::from_millis(10)).await;
                }
            });
            format!("Err, {took}: {}", source(&error))
        }
    };
    let start = Instant::now();
    let checked = cache.check_store().await;
    let took = ms(start.elapsed());
    let readiness = match checked {
        Ok(_) => format!("Ok, {took}"),
        Err(error) => format!("Err, {took}: {error}{}", source_after(&error)),
    };
    (invalidation, readiness)
}

/// Returns the error's source without ports, which differ each time.
fn source(error: &dyn std::error::Error) -> String {
    error.source().map_or(String::new(), |inner| {
        format!("{inner}{}", source_after(inner))
    })
}

fn source_after(error: &dyn std::error::Error) -> String {
    let inner = source(error);
    if inner.is_empty() {
        return inner;
    }
    format!(": {inner}")
}

pub(crate) async fn prime(cache: &ApiTokenCache) {
    for _ in 0..2 {
        for n in 0..TOKENS {
            cache.warm(&token(n)).await.expect("primed");
        }
    }
}

/// A server behind a proxy, with its tokens cached.
pub(crate) struct World {
    pub(crate) server: RedisServer,
    pub(crate) proxy: FaultProxy,
    pub(crate) db: Arc<Db>,
    pub(crate) cache: ApiTokenCache,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[], |builder| builder).await
    }

    pub(crate) async fn without_tenants() -> Self {
        let world = Self::new().await;
        world.db.tenants.store(false, SeqCst);
        world.server.flushall();
        prime(&world.cache).await;
        world
    }

    pub(crate) async fn with(
        args: &[&str],
        more: impl FnOnce(ApiTokenCacheBuilder<()>) -> ApiTokenCacheBuilder<()>,
    ) -> Self {
        let server = RedisServer::start_with(args);
        let proxy = FaultProxy::start(server.addr());
        let db = Db::new();
        let cache = db.cache_with(&format!("redis://{}", proxy.addr()), more);
        prime(&cache).await;
        Self {
            server,
            proxy,
            db,
            cache,
        }
    }

    pub(crate) async fn measure(
        &self,
        name: &'static str,
        seconds: u64,
        fault: impl FnOnce(&Self),
        heal: impl FnOnce(&Self),
    ) {
        measure(
            name,
            (&self.cache, &self.db),
            Duration::from_secs(seconds),
            async || fault(self),
            async || heal(self),
        )
        .await;
    }

    pub(crate) fn set(&self, name: &str, value: &str) {
        self.server.command(&["CONFIG", "SET", name, value]).ok();
    }

    /// Measures a fault with a TTL of a second. Entries are loaded again all the time, so the time until *all*
    /// answers come from Redis is meaningless.
    pub(crate) async fn measure_expiring(
        &self,
        name: &'static str,
        fault: fn(&Self),
        heal: fn(&Self),
    ) {
        let mut load = Load::start(&self.cache, RATE);
        sleep(BEFORE).await;
        self.db.most.store(0, SeqCst);
        self.db.loads.store(0, SeqCst);
        let broke = Instant::now();
        fault(self);
        sleep(Duration::from_secs(2)).await;
        heal(self);
        let healed = Instant::now();
        sleep(QUIET).await;
        load.look();
        let mut row = Row {
            name,
            requests: load.stop().await,
            broke,
            healed,
            most: self.db.most.load(SeqCst),
            loads: self.db.loads.load(SeqCst),
            store_errors: self.cache.stats().store_errors,
            invalidation: "not tried".to_owned(),
            readiness: "not tried".to_owned(),
        };
        println!("{row}");
        let stale = |one: &&Request| matches!(one.end, End::Answered(Origin::Stale));
        let stale = row.requests.iter().filter(stale).count();
        row.requests.retain(|one| matches!(one.end, End::Wrong));
        assert!(row.requests.is_empty(), "{name}: taken for an answer");
        println!("  {stale} of them stale");
    }
}
