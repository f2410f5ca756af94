//! The demo server: a small but complete service that authenticates with tower-api-token.
//!
//! It is a library so that tests can use its parts; `main.rs` only starts it. The parts to copy into a
//! service of your own are [`db`] and [`outbox`] (a change and its pending invalidation are committed
//! together), [`loader`] (the query behind the cache), `routes` (the layers and the admin API) and
//! [`startup`] (wiring, and draining on SIGTERM).

pub mod config;
pub mod db;
pub mod format;
pub mod last_use;
mod latency;
mod live;
pub mod loader;
pub mod metrics;
mod observer;
pub mod outbox;
mod random;
mod routes;
mod serve;
#[cfg(feature = "otel")]
pub mod spans;
pub mod startup;
