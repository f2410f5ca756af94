//! One server, or the master that sentinels name.

use std::sync::Arc;

use super::handshake::{ConnectOptions, Target};
use super::link::Link;
#[cfg(feature = "redis-sentinel")]
use super::sentinel::Sentinels;
use crate::store::error::StoreError;

/// What a connection leads to.
#[derive(Clone)]
pub(crate) enum Server {
    Single(Target),
    #[cfg(feature = "redis-sentinel")]
    Sentinel(Sentinels),
}

impl Server {
    /// Connects within the timeout of the options.
    pub(crate) async fn open(&self, options: &ConnectOptions) -> Result<Link, StoreError> {
        let opened = match self {
            Self::Single(target) => target.clone().open_in_a_task(options).await,
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinel(sentinels) => sentinels.open(options).await,
        };
        match opened {
            // It is not a command's: the breaker would count it once for each caller that receives it.
            // guard: O10
            Err(error) if error.is_timeout() => {
                Err(StoreError::not_connected(Some(Arc::new(error))))
            }
            opened => opened,
        }
    }

    /// Returns whether it is connected to over TLS.
    #[cfg(feature = "redis-rustls")]
    pub(crate) fn is_encrypted(&self) -> bool {
        match self {
            Self::Single(target) => target.is_encrypted(),
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinel(sentinels) => sentinels.is_encrypted(),
        }
    }

    /// Returns the address, without a password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Single(target) => target.shown(),
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinel(sentinels) => sentinels.shown(),
        }
    }
}
