//! The public builder of the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backend::RedisBackend;
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::settings::{Access, BreakerSettings, Settings, Timeouts};
#[cfg(feature = "redis-rustls")]
use super::tls::RedisTls;
use super::transport::tracking::Tracking;
use crate::error::{ConfigError, LONGEST_WAIT};
use crate::store::into_store::sealed::{self, Parts};
use crate::store::layout::KeyLayout;
use crate::store::watch::Tracker;

/// A store in Redis 6.2 or later, or Valkey, which any number of instances share.
///
/// It connects when it is first used and reconnects by itself, so that a service can start while Redis is
/// down. The metadata of the records must implement `Serialize` and `DeserializeOwned`.
///
/// ```
/// use tower_api_token::RedisStore;
///
/// let store = RedisStore::new("redis://127.0.0.1:6379")?;
/// # let _ = store;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    endpoint: Endpoint,
    access: Access,
    timeouts: Timeouts,
    breaker: BreakerSettings,
    layout: KeyLayout,
    /// `None`: as the server says that it is.
    client_tracking: Option<bool>,
    heartbeat_interval: Option<Duration>,
}

/// The longest default time between two heartbeats: a server that hangs is found within a second.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// The shortest time between two heartbeats.
const LEAST_HEARTBEAT: Duration = Duration::from_millis(25);

/// The shortest staleness bound with which client tracking is used: heartbeats have to be several times faster.
const LEAST_BOUND: Duration = Duration::from_millis(100);

impl RedisStore {
    /// Creates a store for the Redis at `url`.
    ///
    /// This does not connect. The store connects when it is first used.
    ///
    /// | URL | |
    /// |---|---|
    /// | `redis://[user:password@]host[:port][/database]` | one server |
    /// | `unix:///path[?db=…&user=…&pass=…]` | one server, over its socket |
    /// | `redis+sentinel://[user:password@]host[:port],…/master-name[/database]` | the master that the sentinels name (feature `redis-sentinel`) |
    /// | `redis+cluster://[user:password@]host[:port],…` | the cluster of these nodes (feature `redis-cluster`), with a connection to each master |
    ///
    /// `rediss` instead of `redis` means TLS (feature `redis-rustls`), also to the sentinels and to every
    /// node. `valkey` and `valkeys` mean the same as `redis` and `rediss`.
    ///
    /// | parameter | |
    /// |---|---|
    /// | `?protocol=resp2`, `?protocol=resp3` | uses this version only; by default RESP3, and RESP2 if the server refuses or does not know `HELLO` |
    /// | `?sentinel_username=…&sentinel_password=…` | the login for the sentinels |
    ///
    /// # Errors
    /// Returns an error if `url` is malformed, has an unknown parameter, or needs a disabled crate feature.
    /// The error does not contain `url`, which may hold a password.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: Endpoint::parse(url)?,
            access: Access::default(),
            timeouts: Timeouts {
                response: Duration::from_millis(250),
                connect: Duration::from_millis(500),
            },
            breaker: BreakerSettings {
                failures: 5,
                pause: Duration::from_millis(500),
            },
            layout: KeyLayout::default(),
            client_tracking: None,
            heartbeat_interval: None,
        })
    }

    /// Sets whether Redis reports changes of the tokens that are cached in this process (client tracking).
    ///
    /// Then a hot token sends no commands, and another instance's invalidation is seen here within milliseconds.
    /// [`max_staleness`](crate::ApiTokenCacheBuilder::max_staleness) stays the bound, whatever breaks. The
    /// connection proves by its heartbeats that no report was lost.
    ///
    /// By default it is used if the server says that it is Redis 7.0 or later, or Valkey, passes a test at each
    /// connect, and the bound is at least 100 ms. `true` uses it on any server that passes the test, such as one
    /// behind a proxy, `false` on none. It needs RESP3, and the rights to `CLIENT TRACKING` and `CLIENT CACHING`. On
    /// a cluster it is not used. Where it is not used, cached tokens are read again at half of the bound.
    ///
    /// The server keeps 154 bytes for each hot token, and more for each further instance, up to its setting
    /// `tracking-table-max-keys`.
    #[must_use]
    pub fn client_tracking(mut self, on: bool) -> Self {
        self.client_tracking = Some(on);
        self
    }

    /// Sets the time between two heartbeats, each of which is a `DEL` of a key that does not exist, with client
    /// tracking after a `CLIENT CACHING`.
    ///
    /// A server that does not answer for this time and twice the [`response_timeout`](Self::response_timeout) is
    /// connected to anew. With [client tracking](Self::client_tracking), a token is answered locally if the last
    /// answered heartbeat was sent less than [`max_staleness`](crate::ApiTokenCacheBuilder::max_staleness) ago.
    ///
    /// Defaults to 250 ms, or to a quarter of `max_staleness` if that is shorter, and at least 25 ms: one lost
    /// heartbeat does not matter. That is 345,600 heartbeats a day, each of one command, or of two with client
    /// tracking. Services that charge for each command may charge for them. From 25 ms to a minute.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = Some(interval);
        self
    }

    /// Returns how the connections are tracked, if they are.
    fn tracking(&self, parts: &Parts) -> Option<Tracking> {
        let least = LEAST_BOUND.max(2 * self.heartbeat_interval.unwrap_or_default());
        // A cluster is not tracked: see docs/internals/tracking.md. guard: TR1b
        let is_on = self.client_tracking != Some(false)
            && parts.bound >= least
            && !self.endpoint.is_cluster();
        is_on.then(|| Tracking {
            tracker: Tracker::new(parts.keys.all(), parts.keys.tenants_begin_with()),
            clock: parts.clock.clone(),
            bound: parts.bound,
            keys: Arc::clone(&parts.keys),
            reported: Arc::default(),
            on_any_server: self.client_tracking == Some(true),
        })
    }

    /// Returns the time between two heartbeats, of a connection that is tracked for this bound or of one that is not.
    fn time_between_heartbeats(&self, tracked_bound: Option<Duration>) -> Duration {
        let quarter = tracked_bound.map_or(HEARTBEAT, |bound| bound / 4);
        let default = quarter.clamp(LEAST_HEARTBEAT, HEARTBEAT);
        self.heartbeat_interval.unwrap_or(default)
    }

    /// Sets how keys and values are written.
    ///
    /// Defaults to [`KeyLayout::digest`], without a pepper.
    #[must_use]
    pub fn key_layout(mut self, layout: KeyLayout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets the certificates for TLS, which is used if the URL begins with `rediss` or `valkeys`.
    ///
    /// The binary has to install a crypto provider of rustls before the first request, for example
    /// `rustls::crypto::ring::default_provider().install_default()`.
    ///
    /// A URL without TLS, and certificates that are given as text and cannot be used, are an error of the
    /// cache's `build()`. Files that cannot be used are an error when the store connects: requests are then
    /// answered by the loader, and the log and [`check_store`](crate::ApiTokenCache::check_store) show the
    /// reason.
    #[cfg(feature = "redis-rustls")]
    #[must_use]
    pub fn tls(mut self, tls: RedisTls) -> Self {
        self.access.tls = Some(tls);
        self
    }

    /// Sets a callback that returns the name of a user (`None` for the default user) and a password, which
    /// replace those in the URL.
    ///
    /// It is called for each connection to a server, to the master that sentinels name and to each node of
    /// a cluster, so that passwords may expire after minutes. The sentinels get the login in the URL. Open
    /// connections stay open.
    ///
    /// Its time counts towards the [`connect_timeout`](Self::connect_timeout): fetch credentials that take
    /// longer in a task of your own. If the callback panics, the attempt to connect fails.
    ///
    /// ```
    /// use tower_api_token::RedisStore;
    ///
    /// # async fn current_token() -> String { String::new() }
    /// let store = RedisStore::new("redis://127.0.0.1:6379")?
    ///     .credentials_provider(async || (Some("api".to_owned()), current_token().await));
    /// # let _ = store;
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    #[must_use]
    pub fn credentials_provider<F, Fut>(mut self, provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = (Option<String>, String)> + Send + 'static,
    {
        self.access.credentials = Some(Arc::new(move || Box::pin(provider())));
        self
    }

    /// Sets how long a command may take, and a pipeline of commands.
    ///
    /// Defaults to 250 ms, which is far longer than a healthy Redis needs, and short enough for the loader
    /// to answer the request after it. From 1 ms to an hour.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.response = timeout;
        self
    }

    /// Sets how many timeouts in a row open the circuit breaker, and for how long.
    ///
    /// While it is open, only invalidations are sent. Then one command probes the server. A command that
    /// lookups share counts once for each of them. Each node of a cluster has its own breaker.
    ///
    /// Defaults to 5 failures and 500 ms: a single timeout does not open it, and an outage delays five
    /// requests. At least 1 failure, and at most an hour.
    #[must_use]
    pub fn circuit_breaker(mut self, failures: u32, pause: Duration) -> Self {
        self.breaker = BreakerSettings { failures, pause };
        self
    }

    /// Sets how long connecting may take, including the first heartbeat.
    ///
    /// Defaults to 500 ms, which leaves room for TLS and a login. From 1 ms to an hour.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.connect = timeout;
        self
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every field is named, so that a new field with a secret does not compile.
        let Self {
            endpoint,
            access,
            timeouts,
            breaker,
            layout,
            client_tracking,
            heartbeat_interval,
        } = self;
        let Access {
            credentials,
            #[cfg(feature = "redis-rustls")]
            tls,
        } = access;
        let mut shown = f.debug_struct("RedisStore");
        shown.field("address", &endpoint.shown());
        #[cfg(feature = "redis-rustls")]
        shown.field("tls", tls);
        shown
            .field("credentials_provider", &credentials.is_some())
            .field("timeouts", timeouts)
            .field("breaker", breaker)
            .field("key_layout", layout)
            .field("client_tracking", client_tracking)
            .field("heartbeat_interval", heartbeat_interval)
            .finish()
    }
}

impl<M> sealed::IntoStore<M> for RedisStore
where
    M: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn layout(&self) -> KeyLayout {
        self.layout.clone()
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.layout.check()?;
        #[cfg(feature = "redis-rustls")]
        if let Some(tls) = &self.access.tls {
            if !self.endpoint.is_encrypted() {
                return Err(ConfigError::of(
                    "tls",
                    "the URL does not ask for TLS, as rediss:// does",
                ));
            }
            tls.check()?;
        }
        let least = Duration::from_millis(1);
        for (name, value, least) in [
            ("response_timeout", self.timeouts.response, least),
            ("connect_timeout", self.timeouts.connect, least),
            ("circuit_breaker pause", self.breaker.pause, Duration::ZERO),
        ] {
            ConfigError::unless_within(name, value, least..=LONGEST_WAIT)?;
        }
        if let Some(interval) = self.heartbeat_interval {
            let range = LEAST_HEARTBEAT..=Duration::from_secs(60);
            ConfigError::unless_within("heartbeat_interval", interval, range)?;
        }
        let failures = self.breaker.failures;
        ConfigError::unless_within("circuit_breaker failures", failures, 1..=u32::MAX)
    }

    fn into_store(self, parts: Parts) -> sealed::Erased<M> {
        let tracking = self.tracking(&parts);
        let tracked_bound = tracking.as_ref().map(|tracking| tracking.bound);
        let heartbeat_interval = self.time_between_heartbeats(tracked_bound);
        let settings = Settings {
            timeouts: self.timeouts,
            access: Arc::new(self.access),
            breaker: self.breaker,
            keys: Arc::clone(&parts.keys),
            heartbeat_interval,
            tracking,
        };
        let connection = Connection::new(self.endpoint, settings);
        sealed::Erased(Arc::new(RedisBackend::<M>::new(connection, parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_of_tracked_connections_are_four_in_a_bound() {
        let millis = Duration::from_millis;
        let store = RedisStore::new("redis://host").unwrap();
        let between = |bound| store.time_between_heartbeats(bound);
        assert_eq!(between(Some(millis(400))), millis(100));
        assert_eq!(between(Some(millis(10))), LEAST_HEARTBEAT);
        assert_eq!(between(Some(millis(4_000))), HEARTBEAT);
        assert_eq!(between(None), HEARTBEAT);
        let store = store.heartbeat_interval(millis(700));
        assert_eq!(store.time_between_heartbeats(None), millis(700));
    }
}
