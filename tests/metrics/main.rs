//! What is emitted, what `docs/metrics.md` says of it, and what the dashboard and the alert rules ask
//! for: the three have to be the same.

#![cfg(all(
    feature = "metrics",
    feature = "redis",
    feature = "local",
    feature = "test-util"
))]

#[path = "../common/mod.rs"]
mod common;
mod emitted;
mod operations;
mod promql;
mod recorded;
mod table;
