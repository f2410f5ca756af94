//! Connections to single servers: how one is opened, kept alive and given up, and what is sent over it.

pub(super) mod batch;
pub(super) mod breaker;
pub(super) mod handshake;
mod health;
pub(super) mod heartbeat;
pub(super) mod link;
pub(super) mod login;
pub(super) mod node;
pub(crate) mod pushes;
pub(super) mod read_batcher;
pub(super) mod reply;
#[cfg(feature = "redis-sentinel")]
pub(super) mod sentinel;
pub(super) mod server;
mod stealable;
mod supervisor;
pub(crate) mod tracking;
pub(super) mod url;
