//! Tests that the emitted metrics, `docs/metrics.md`, and the queries of the dashboard and the alert rules agree.

mod emitted;
mod operations;
mod promql;
mod recorded;
mod table;
