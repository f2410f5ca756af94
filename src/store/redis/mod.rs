//! Redis as the store of a fleet: one server, the master that sentinels name, or a cluster.
//!
//! Every command has a timeout, and is sent at most once unless it is a read or a deletion: a command that
//! timed out may still be executed seconds later. That is why every write of an entry is a
//! compare-and-set on the server (protocol.md section 2).

mod backend;
mod check;
#[cfg(feature = "redis-cluster")]
mod cluster;
pub(crate) mod codec;
mod commands;
mod connection;
#[cfg(feature = "dify")]
pub(crate) mod dify;
mod durable;
mod endpoint;
mod generations;
mod last_uses;
mod scripts;
mod settings;
mod store;
#[cfg(feature = "redis-rustls")]
mod tls;
pub(crate) mod transport;

pub use store::RedisStore;
#[cfg(feature = "redis-rustls")]
pub use tls::RedisTls;
