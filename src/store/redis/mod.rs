//! Redis as the store of a fleet: one server, the master of some sentinels, or a cluster.
//!
//! Every command has a deadline of ours and is sent at most once, unless it is a read or a deletion:
//! a command that timed out here may still run there, seconds later. That is why every write of an
//! entry is a compare-and-set on the server (protocol.md section 2).

mod batch;
mod breaker;
mod check;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod commands;
mod connection;
mod durable;
mod endpoint;
mod fault;
mod gather;
mod handshake;
mod last_uses;
mod node;
mod seed;
#[cfg(feature = "redis-sentinel")]
mod sentinel;
#[cfg(feature = "redis-cluster")]
mod slots;
mod stealable;
mod supervisor;
#[cfg(feature = "redis-rustls")]
mod tls;
#[cfg(feature = "redis-cluster")]
mod topology;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::breaker::BreakerSettings;
use self::commands::RedisLevel;
use self::connection::Connection;
use self::endpoint::{Deadlines, Endpoint};
use self::handshake::Access;
use self::seed::SeedLevel;
use super::keys::Keys;
use super::sealed::{self, Parts};
use crate::ConfigError;
use crate::error::LONGEST_WAIT;

#[cfg(feature = "redis-rustls")]
pub use self::tls::RedisTls;

/// Redis, 6.2 or later, shared by any number of instances.
///
/// It connects when it is first asked, and again whenever it has to: a service starts while Redis is
/// away. The metadata in the records must be `Serialize` and `DeserializeOwned`.
///
/// ```
/// use tower_api_token::RedisStore;
///
/// let store = RedisStore::connect("redis://127.0.0.1:6379")?;
/// # let _ = store;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    endpoint: Endpoint,
    access: Access,
    deadlines: Deadlines,
    breaker: BreakerSettings,
}

/// What a server's connection goes by.
#[derive(Clone)]
struct Settings {
    deadlines: Deadlines,
    access: Arc<Access>,
    breaker: BreakerSettings,
    keys: Arc<Keys>,
}

impl RedisStore {
    /// A store at a URL. Nothing is sent yet.
    ///
    /// | URL | |
    /// |---|---|
    /// | `redis://[user:password@]host[:port][/database]` | one server |
    /// | `unix:///path[?db=…&user=…&pass=…]` | one server, by its socket |
    /// | `redis+sentinel://[user:password@]host[:port],…/master-name[/database]` | whatever master the sentinels name (feature `redis-sentinel`) |
    /// | `redis+cluster://[user:password@]host[:port],…` | a cluster, learnt from these nodes (feature `redis-cluster`), with a connection to each master |
    ///
    /// `rediss` instead of `redis` means TLS (feature `redis-rustls`), to the sentinels and to every
    /// node too. `valkey` and `valkeys` mean the same as `redis` and `rediss`.
    ///
    /// | parameter | |
    /// |---|---|
    /// | `?protocol=resp2`, `?protocol=resp3` | speaks this version alone; by default RESP3, and RESP2 where the server refuses or does not know `HELLO` |
    /// | `?sentinel_username=…&sentinel_password=…` | what the sentinels themselves ask for |
    ///
    /// # Errors
    /// The text is no such URL, has a parameter that is not known, or needs a feature that is off. The
    /// error does not repeat it: it may hold a password.
    pub fn connect(url: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: Endpoint::parse(url)?,
            access: Access::default(),
            deadlines: Deadlines {
                response: Duration::from_millis(250),
                connect: Duration::from_millis(500),
            },
            breaker: BreakerSettings {
                failures: 5,
                pause: Duration::from_millis(500),
            },
        })
    }

    /// As [`connect`](Self::connect), over TLS with certificates of one's own, all in PEM: the
    /// authority that signed the server's, instead of the machine's own list, and where the server
    /// asks for it a certificate of the client with its key.
    ///
    /// The binary has to install a crypto provider of rustls before the first request, for example
    /// `rustls::crypto::ring::default_provider().install_default()`.
    ///
    /// They are read once: [`tls`](Self::tls) takes files that are read at each connect.
    ///
    /// # Errors
    /// As `connect`; or the certificates cannot be read, or the URL is not one with TLS.
    #[cfg(feature = "redis-rustls")]
    pub fn connect_with_certificates(
        url: &str,
        root_certificates: Option<Vec<u8>>,
        client: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, ConfigError> {
        use redis::IntoConnectionInfo;

        let store = Self::connect(url)?;
        if !store.endpoint.is_encrypted() {
            return Err(ConfigError::new(RedisTls::NOT_ENCRYPTED));
        }
        let mut tls = RedisTls::new();
        if let Some(pem) = root_certificates {
            tls = tls.ca_certificate(pem);
        }
        if let Some((certificate, key)) = client {
            tls = tls.identity(certificate, key);
        }
        let somewhere = "rediss://host".into_connection_info();
        let checked = somewhere.map(|info| tls.client(info).map(drop));
        checked.map_or(Ok(()), |checked| checked.map_err(ConfigError::new))?;
        Ok(store.tls(tls))
    }

    /// Sets the certificates for TLS, which is used if the URL begins with `rediss` or `valkeys`.
    ///
    /// The binary has to install a crypto provider of rustls before the first request, for example
    /// `rustls::crypto::ring::default_provider().install_default()`.
    ///
    /// Certificates that cannot be used, or a URL without TLS, are found when the store connects:
    /// requests are then answered by the loader, and the log and
    /// [`check_store`](crate::ApiTokenCache::check_store) say why.
    #[cfg(feature = "redis-rustls")]
    #[must_use]
    pub fn tls(mut self, tls: RedisTls) -> Self {
        self.access.tls = Some(tls);
        self
    }

    /// Sets a callback that returns a user's name (`None`: the default user) and a password. It is used
    /// instead of those in the URL.
    ///
    /// It is asked at each connect, to one server, to the master that sentinels name and to each node of
    /// a cluster, so that passwords may live for minutes. The sentinels themselves are told what the URL
    /// has for them. Connections that are up stay up.
    ///
    /// Its time counts towards [`connect_deadline`](Self::connect_deadline): fetch what takes longer in a
    /// task of yours. A callback that panics is an attempt to connect that failed.
    ///
    /// ```
    /// use tower_api_token::RedisStore;
    ///
    /// # async fn current_token() -> String { String::new() }
    /// let store = RedisStore::connect("redis://127.0.0.1:6379")?
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

    /// How long a command may take, a pipeline included. Default: 250 ms, far above what a healthy
    /// Redis needs, and short enough that a request through the loader is still quick. From
    /// 1 ms to an hour.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.response = deadline;
        self
    }

    /// The circuit breaker: so many commands in a row without an answer open it (one that look-ups
    /// share counts for each of them), and for so long nothing is sent, but invalidations, which are
    /// always tried. Then one command probes. Each node of a cluster has one. Default: 5 and 500 ms:
    /// one blip does not open it, and an outage costs five requests their deadline. From 1, and to an hour.
    #[must_use]
    pub fn breaker(mut self, failures: u32, pause: Duration) -> Self {
        self.breaker = BreakerSettings { failures, pause };
        self
    }

    /// How long connecting may take, the first heartbeat included. Default: 500 ms. From 1 ms to an hour.
    #[must_use]
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.connect = deadline;
        self
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every field is named, so that a new secret cannot slip in.
        let Self {
            endpoint,
            access,
            deadlines,
            breaker,
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
            .field("deadlines", deadlines)
            .field("breaker", breaker)
            .finish()
    }
}

impl<M> sealed::IntoStore<M> for RedisStore
where
    M: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn check(&self) -> Result<(), ConfigError> {
        let least = Duration::from_millis(1);
        for (name, value, least) in [
            ("RedisStore deadline", self.deadlines.response, least),
            ("RedisStore connect_deadline", self.deadlines.connect, least),
            (
                "RedisStore breaker pause",
                self.breaker.pause,
                Duration::ZERO,
            ),
        ] {
            ConfigError::unless_within(name, value, least..=LONGEST_WAIT)?;
        }
        let failures = self.breaker.failures;
        ConfigError::unless_within("RedisStore breaker failures", failures, 1..=u32::MAX)
    }

    fn into_store(self, parts: Parts) -> sealed::Erased<M> {
        let settings = Settings {
            deadlines: self.deadlines,
            access: Arc::new(self.access),
            breaker: self.breaker,
            keys: Arc::clone(&parts.keys),
        };
        let connection = Connection::new(self.endpoint, settings);
        let seed = parts.keys.is_seed();
        let level = RedisLevel::<M>::new(connection, parts);
        if seed {
            return sealed::Erased(Arc::new(SeedLevel::new(level)));
        }
        sealed::Erased(Arc::new(level))
    }
}
