//! One Redis server as the store of a fleet.
//!
//! Every command has a deadline of ours and is sent at most once, unless it is a read or a deletion:
//! a command that timed out here may still run there, seconds later. That is why every write of an
//! entry is a compare-and-set on the server (PROTOCOL.md section 2).

mod breaker;
mod commands;
mod connection;
mod seed;
mod supervisor;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::breaker::BreakerSettings;
use self::commands::RedisLevel;
use self::connection::Connection;
use self::seed::SeedLevel;
use super::sealed::{self, Parts};
use crate::ConfigError;

/// One Redis server, 6.2 or later, shared by any number of instances.
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
    client: ::redis::Client,
    deadline: Duration,
    connect_deadline: Duration,
    breaker: BreakerSettings,
}

impl RedisStore {
    /// A store at `redis://[user:password@]host[:port][/database]`. Nothing is sent yet.
    ///
    /// # Errors
    /// The text is no such URL. The error does not repeat it: it may hold a password.
    pub fn connect(url: &str) -> Result<Self, ConfigError> {
        if !url.starts_with("redis://") {
            return Err(ConfigError::new("a Redis URL begins with redis://"));
        }
        let info = url
            .into_connection_info()
            .map_err(|_| ConfigError::new("the Redis URL cannot be read"))?;
        if !matches!(info.addr(), ConnectionAddr::Tcp(..)) {
            return Err(ConfigError::new("the Redis URL names no host and port"));
        }
        // RESP3 tells of a closed connection at once, and not at the next command.
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let info = info
            .set_tcp_settings(tcp_settings())
            .set_redis_settings(settings);
        let client = ::redis::Client::open(info)
            .map_err(|_| ConfigError::new("the Redis URL cannot be used"))?;
        Ok(Self {
            client,
            deadline: Duration::from_millis(250),
            connect_deadline: Duration::from_millis(500),
            breaker: BreakerSettings {
                failures: 5,
                pause: Duration::from_millis(500),
            },
        })
    }

    /// How long a command may take, a pipeline included. Default: 250 ms, far above what a healthy
    /// Redis needs, and short enough that a request through the loader is still quick.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.max(Duration::from_millis(1));
        self
    }

    /// The circuit breaker: so many commands in a row without an answer open it, and for so long
    /// nothing is sent, but invalidations, which are always tried. Then one command probes. Default:
    /// 5 and 500 ms: one blip does not open it, and an outage costs five requests their deadline.
    #[must_use]
    pub fn breaker(mut self, failures: u32, pause: Duration) -> Self {
        self.breaker = BreakerSettings {
            failures: failures.max(1),
            pause,
        };
        self
    }

    /// How long connecting may take, the first heartbeat included. Default: 500 ms.
    #[must_use]
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline.max(Duration::from_millis(1));
        self
    }
}

/// Small commands are sent at once, and a peer that is gone without a word is found by the kernel
/// within seconds instead of a quarter of an hour.
fn tcp_settings() -> TcpSettings {
    const PATIENCE: Duration = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(PATIENCE)
        .with_interval(PATIENCE);
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(PATIENCE);
    settings
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every field is named, so that a new secret cannot slip in.
        let Self {
            client,
            deadline,
            connect_deadline,
            breaker,
        } = self;
        f.debug_struct("RedisStore")
            .field("address", &client.get_connection_info().addr().to_string())
            .field("deadline", deadline)
            .field("connect_deadline", connect_deadline)
            .field("breaker", breaker)
            .finish()
    }
}

impl<M> sealed::IntoStore<M> for RedisStore
where
    M: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn into_store(self, parts: Parts) -> sealed::Erased<M> {
        let connection = Connection::new(
            self.client,
            self.deadline,
            self.connect_deadline,
            self.breaker,
            parts.keys.heartbeat(),
        );
        let seed = parts.keys.is_seed();
        let level = RedisLevel::<M>::new(connection, parts.keys, parts.stale_if_error);
        if seed {
            return sealed::Erased(Arc::new(SeedLevel::new(level)));
        }
        sealed::Erased(Arc::new(level))
    }
}
