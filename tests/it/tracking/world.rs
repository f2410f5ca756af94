//! Instances that are tracked, each behind a proxy of its own.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Builder, Cache, Db, Row, entry, eventually, redis_at};
use test_support::{Feature, FrameProxy, RedisServer};
use tower_api_token::RedisStore;
use tower_api_token::test_util::ManualClock;

pub(super) const TOKEN: &str = "app-0123456789abcdef";
pub(super) const TENANT: &str = "t-1";
/// The key of the tenant's generation.
pub(super) const GENERATION: &str = "api_token:tenant:{t-1}";
/// The default staleness bound.
pub(super) const BOUND: Duration = Duration::from_secs(1);
/// How long an entry of a first look is used.
pub(super) const UNWATCHED: Duration = Duration::from_millis(50);
pub(super) const TICK: Duration = Duration::from_nanos(1);
/// In either layout.
const HEARTBEAT: [&str; 2] = [
    "DEL api_token:fence:heartbeat",
    "DEL api_token~fence:heartbeat",
];

pub(super) struct World {
    pub(super) server: RedisServer,
    pub(super) db: Arc<Db>,
    pub(super) clock: ManualClock,
}

impl World {
    /// Returns `None` if the server cannot be tracked.
    pub(super) fn new(tenant: Option<&str>) -> Option<Self> {
        (!Feature::Tracking.is_missing()).then(|| Self::on(RedisServer::start(), tenant))
    }

    pub(super) fn on(server: RedisServer, tenant: Option<&str>) -> Self {
        let mut row = Row::new("app");
        row.tenant = tenant.map(str::to_owned);
        Self {
            server,
            db: Db::with(TOKEN, row),
            clock: ManualClock::new(),
        }
    }

    pub(super) fn builder(&self, store: RedisStore) -> Builder {
        self.db
            .cache()
            .store(store)
            .clock(self.clock.clone())
            .token_types(["app"])
    }

    /// Creates an instance without tracking and without a local level.
    pub(super) fn untracked(&self) -> Cache {
        let builder = self.builder(redis_at(&self.server.url()));
        builder.local_capacity(0).build().unwrap()
    }

    /// Creates an instance whose connection is tracked.
    pub(super) async fn instance(&self) -> Instance {
        let instance = self.connected(|store| store).await;
        instance.is_tracked().await;
        instance
    }

    /// Creates an instance whose connection may not be tracked.
    pub(super) async fn connected(&self, set: impl FnOnce(RedisStore) -> RedisStore) -> Instance {
        let instance = self.behind(FrameProxy::start(self.server.addr()), set);
        instance.check_store().await.unwrap();
        instance
    }

    /// Creates an instance that is not connected yet.
    pub(super) fn behind(
        &self,
        proxy: FrameProxy,
        set: impl FnOnce(RedisStore) -> RedisStore,
    ) -> Instance {
        self.behind_as("", proxy, set)
    }

    /// Creates an instance that is not connected yet, with a login.
    pub(super) fn behind_as(
        &self,
        login: &str,
        proxy: FrameProxy,
        set: impl FnOnce(RedisStore) -> RedisStore,
    ) -> Instance {
        let store = redis_at(&format!("redis://{login}{}", proxy.addr()));
        let store = store.client_tracking(true);
        let store = set(store.heartbeat_interval(Duration::from_millis(25)));
        Instance {
            cache: self.builder(store).build().unwrap(),
            clock: self.clock.clone(),
            proxy,
        }
    }

    /// Changes the row, and deletes the entry as another program would.
    pub(super) fn change(&self) {
        self.db.change(TOKEN, |_| {});
        self.delete(&entry(TOKEN));
    }

    pub(super) fn delete(&self, key: &str) {
        assert_eq!(self.server.command(&["DEL", key]).int(), 1);
    }

    /// Returns how many keys the server reports changes of.
    pub(super) fn tracked_keys(&self) -> u64 {
        self.server.info("stats", "tracking_total_keys").unwrap()
    }
}

pub(super) struct Instance {
    cache: Cache,
    clock: ManualClock,
    pub(super) proxy: FrameProxy,
}

impl Deref for Instance {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        &self.cache
    }
}

impl Instance {
    pub(super) async fn is_tracked(&self) {
        eventually("tracking is on", async || self.stats().client_tracking).await;
    }

    fn beats_sent(&self) -> usize {
        HEARTBEAT.map(|it| self.proxy.received(it)).iter().sum()
    }

    fn beats_answered(&self) -> usize {
        HEARTBEAT.map(|it| self.proxy.delivered(it)).iter().sum()
    }

    /// Moves the clock, and waits until a heartbeat that was sent after that is answered.
    pub(super) async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.beats().await;
    }

    /// Waits until a heartbeat that is sent from now on is answered.
    pub(super) async fn beats(&self) {
        // One may have been sent and be on its way to the proxy.
        let enough = self.beats_sent() + 2;
        eventually("heartbeats are answered", async || {
            self.beats_answered() >= enough
        })
        .await;
        self.check_store().await.unwrap();
    }

    /// Waits until all replies and pushes are taken that were sent before.
    pub(super) async fn catch_up(&self) {
        // What is sent next is later by the clock too.
        self.clock.advance(TICK);
        self.check_store().await.unwrap();
    }

    /// Waits until `n` further heartbeats have arrived at the proxy.
    pub(super) async fn sends_beats(&self, n: usize) {
        let enough = self.beats_sent() + n;
        eventually("heartbeats are sent", async || self.beats_sent() >= enough).await;
    }

    /// Returns how often the token's entry was read.
    pub(super) fn reads(&self) -> usize {
        self.proxy.received(&format!("GET {}", entry(TOKEN)))
    }

    /// Returns how often the tenant's generation was read.
    pub(super) fn tenant_reads(&self) -> usize {
        self.proxy.received(&format!("GET {GENERATION}"))
    }

    /// Waits until no call is in flight.
    pub(super) async fn settles(&self) {
        crate::common::until(|| self.in_flight() == 0).await;
    }

    /// Cuts the connection, and waits until the next one is tracked.
    pub(super) async fn reconnects(&self) {
        let tests = self.proxy.delivered("CLIENT TRACKING");
        self.proxy.cut();
        eventually("the next connection is tested", async || {
            self.proxy.delivered("CLIENT TRACKING") > tests
        })
        .await;
        self.is_tracked().await;
        self.catch_up().await;
    }
}
