//! The demo server: a small real service that authenticates by tower-api-token.
//!
//! It is a library too, so that tests can read its parts; `main.rs` only starts it. What a
//! service of one's own would copy: [`db`] and [`outbox`] (a change and the invalidation that it owes are
//! committed together), [`loader`] (what the cache asks the database), `routes` (layers and the
//! admin's answers) and [`startup`] (putting them together, draining on SIGTERM).

pub mod config;
pub mod db;
pub mod format;
pub mod last_use;
mod latency;
mod live;
pub mod loader;
pub mod metrics;
pub mod outbox;
mod random;
mod routes;
mod serve;
#[cfg(feature = "otel")]
pub mod spans;
pub mod startup;
