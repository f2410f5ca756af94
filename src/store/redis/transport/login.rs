//! What each server of a URL is told about this client.

use redis::{ConnectionInfo, ProtocolVersion};

#[derive(Clone)]
pub(crate) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    /// `None`: RESP3, and RESP2 if the server refuses that.
    pub(super) protocol: Option<ProtocolVersion>,
    /// Whether the servers that the URL leads to are connected to over TLS.
    #[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
    pub(crate) encrypted: bool,
}

impl Login {
    pub(crate) fn new(info: &ConnectionInfo, protocol: Option<ProtocolVersion>) -> Self {
        let settings = info.redis_settings();
        Self {
            user: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            database: settings.db(),
            protocol,
            #[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
            encrypted: false,
        }
    }
}
