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
use crate::error::{ConfigError, LONGEST_WAIT};
use crate::store::into_store::sealed::{self, Parts};
use crate::store::layout::KeyLayout;

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
}

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
        })
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
        let failures = self.breaker.failures;
        ConfigError::unless_within("circuit_breaker failures", failures, 1..=u32::MAX)
    }

    fn into_store(self, parts: Parts) -> sealed::Erased<M> {
        let settings = Settings {
            timeouts: self.timeouts,
            access: Arc::new(self.access),
            breaker: self.breaker,
            keys: Arc::clone(&parts.keys),
        };
        let connection = Connection::new(self.endpoint, settings);
        sealed::Erased(Arc::new(RedisBackend::<M>::new(connection, parts)))
    }
}
