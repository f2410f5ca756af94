//! API keys in SQLite or PostgreSQL, for [tower-api-token](tower_api_token).
//!
//! [`ApiKeys`] makes, lists, rotates and revokes keys. It has the loader and the sink of last uses of a cache, and invalidates
//! what the cache holds when a key changes.
//!
//! ```no_run
//! use axum::Router;
//! use tower_api_token::{ApiTokenLayer, RedisStore};
//! use tower_api_token_sqlx::ApiKeys;
//!
//! # async fn service(app: Router, database_url: &str, url: &str) -> Result<Router, Box<dyn std::error::Error>> {
//! let keys = ApiKeys::connect(database_url).await?;
//! let cache = keys.cache().store(RedisStore::new(url)?).build()?;
//! let app = app.layer(ApiTokenLayer::new(cache));
//! # Ok(app)
//! # }
//! ```
//!
//! # What is promised
//!
//! 1. A [`Change`] is committed in one transaction with its row in the audit table, and with a row in the outbox for each
//!    invalidation that it needs. So a process that is killed at any point has done all of it or nothing.
//! 2. `Ok` means that the invalidation is confirmed. [`ChangeError::Unconfirmed`] means that the change is committed and
//!    that caches may still answer from before it.
//! 3. What is not confirmed is repeated in the background by every instance that has a cache, until it is, within a second of
//!    a crash and as soon as the store answers again after an outage.
//! 4. The text of a key is stored nowhere. The table has its SHA-256.
//! 5. The loader is one statement that finds the key by one index, and its tenant's status with it.
//!
//! [`guide`] has more: how to rotate, what to tell an operator, how to migrate.
//!
//! # Tables
//!
//! | table | has |
//! |---|---|
//! | `api_token_keys` | keys by their digest, also those that are revoked or have expired, until they are [purged](ApiKeys::purge) |
//! | `api_token_tenants` | when tenants were suspended. One without a row is active, so tenants need not be created |
//! | `api_token_outbox` | invalidations that are not confirmed; empty most of the time |
//! | `api_token_stores` | the namespaces of caches in a shared store, so that one in a process's memory confirms nothing for them |
//! | `api_token_audit` | who changed what |
//! | `api_token_migrations` | which migrations ran |
//!
//! # Features
//!
//! | feature | enables |
//! |---|---|
//! | `sqlite` | SQLite, which is compiled in |
//! | `postgres` | PostgreSQL |
//! | `admin` | [an axum router of the administration](ApiKeys::admin_router) |
//! | `cli` | the command line `api-token`, a binary; see the [guide](guide#command-line) |
//! | `cli-tls` | TLS to Redis for it |
//! | `test-util` | a clock that tests advance |
//!
//! At least one database is needed, and none is the default. TLS to PostgreSQL is enabled by one of sqlx's own features, for example
//! `tls-rustls`.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("choose a database: the feature `postgres`, `sqlite`, or both");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// How to make, keep and revoke keys.
///
#[doc = include_str!("../docs/keys.md")]
#[cfg(doc)]
pub mod guide {}

#[cfg(feature = "admin")]
mod admin;
mod arguments;
mod audit;
mod builder;
mod clock;
mod core;
mod database;
mod error;
mod key;
mod keys;
mod last_use;
mod loader;
mod new_key;
mod operations;
mod outbox;
#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod plans;
mod random;

#[cfg(feature = "admin")]
pub use admin::{Actor, AdminChange, AdminSettings, admin_openapi};
pub use audit::{AuditEntry, AuditQuery};
pub use builder::ApiKeysBuilder;
pub use database::pool::Database;
pub use error::{ChangeError, Error, Unconfirmed, UnconfirmedCause};
pub use key::{IssuedKey, Key, KeyStatus};
pub use keys::ApiKeys;
pub use last_use::KeyLastUses;
pub use loader::KeyLoader;
pub use new_key::NewKey;
pub use operations::list::{Cursor, KeyQuery, Page};
pub use operations::rotate::{Rotated, Rotation};
pub use outbox::change::{Change, Confirmed};
pub use outbox::pending::{Pending, Subject};
