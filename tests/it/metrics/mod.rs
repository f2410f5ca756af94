//! What is emitted, what `docs/metrics.md` says of it, and what the dashboard and the alert rules ask
//! for: the three have to be the same.

mod emitted;
mod operations;
mod promql;
mod recorded;
mod table;
