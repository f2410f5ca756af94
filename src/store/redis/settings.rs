//! What the connections of a store are configured with.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "redis-rustls")]
use super::tls::RedisTls;
use super::transport::tracking::Tracking;
use crate::store::keys::Keys;
use crate::util::BoxFuture;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) timeouts: Timeouts,
    pub(super) access: Arc<Access>,
    pub(super) breaker: BreakerSettings,
    pub(super) keys: Arc<Keys>,
    pub(super) heartbeat_interval: Duration,
    pub(super) tracking: Option<Tracking>,
}

/// How long connecting may take, and a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerSettings {
    /// The number of failures in a row that open it.
    pub(super) failures: u32,
    /// How long it stays open before a probe is let through.
    pub(super) pause: Duration,
}

/// What is read anew at each connect, in addition to the URL.
#[derive(Clone, Default)]
pub(super) struct Access {
    pub(super) credentials: Option<CredentialsProvider>,
    #[cfg(feature = "redis-rustls")]
    pub(super) tls: Option<RedisTls>,
}

/// The name of a user, unless it is the default one, and the password.
pub(super) type Credentials = (Option<String>, String);

pub(super) type CredentialsProvider =
    Arc<dyn Fn() -> BoxFuture<'static, Credentials> + Send + Sync>;
