//! The two databases: their pools, tables and times.

mod connect;
pub(crate) mod migrations;
pub(crate) mod pool;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "postgres")]
mod postgres_time;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod tables;
pub(crate) mod time;
