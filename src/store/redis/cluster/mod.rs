//! A cluster: which node a command goes to, and what to do when that has changed.
//!
//! redis-rs' own cluster client is not used: while it connects to one node, or asks where the slots are,
//! it sends nothing to any node, and a node that hangs keeps it doing both. Here each master has its own
//! connection, supervisor and breaker, so that a node in trouble only affects requests for its own keys,
//! and the slots are asked for in the background.

pub(super) mod client;
pub(super) mod seeds;
mod slots;
mod topology;
