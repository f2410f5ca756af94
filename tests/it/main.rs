//! The integration tests, one module for each subject, in one binary.
//!
//! The other files in `tests/` need a process of their own, or, as `docs.rs`, do not use the crate.

mod common;

mod all_tokens;
#[cfg(feature = "axum")]
mod axum_extractor;
mod behind_nginx;
mod canary;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod cold_start;
#[cfg(all(
    feature = "redis-cluster",
    feature = "redis-sentinel",
    feature = "redis-rustls"
))]
mod connecting;
mod contract;
mod decisions;
#[cfg(all(
    feature = "redis-cluster",
    feature = "redis-sentinel",
    feature = "redis-rustls"
))]
mod deployments;
mod dify;
mod engine;
mod floods;
mod foreign_contents;
mod http_conformance;
mod last_use;
mod leases;
mod local_level;
mod managed;
mod metadata;
#[cfg(feature = "metrics")]
mod metrics;
mod one_address;
mod outages;
mod pepper;
#[cfg(feature = "axum")]
mod renames;
mod replays;
mod round_trips;
mod scopes;
#[cfg(feature = "axum")]
mod secrets;
mod shared_reads;
#[cfg(feature = "tracing")]
mod spans;
mod stale;
mod token_format;
mod tower_contract;
mod tracking;
mod unconfirmed;
