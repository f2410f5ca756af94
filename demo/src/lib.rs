//! The demo server: a small but complete service that authenticates with tower-api-token.
//!
//! It is a library so that tests can use its parts; `main.rs` only starts it. Its keys are those of
//! `tower_api_token_sqlx`. The parts to copy into a service of your own are `routes` (the layers, and the keys' admin
//! router behind an authentication) and [`startup`] (wiring, and draining on SIGTERM).

mod canary;
pub mod config;
pub mod latency;
mod live;
pub mod metrics;
mod observer;
mod routes;
pub mod seed;
mod serve;
#[cfg(feature = "otel")]
pub mod spans;
pub mod startup;
pub mod tables;
