//! Stores, and how keys and values are written in them.

// Without Redis nothing is written, and nothing fails. Without the Dify layout, no operation needs a session.
#![cfg_attr(not(feature = "dify"), allow(dead_code))]

pub(crate) mod backend;
#[cfg(all(test, feature = "dify"))]
mod conformance;
#[cfg(all(test, feature = "dify"))]
mod conformance_groups;
pub(crate) mod entry;
pub(crate) mod error;
pub(crate) mod into_store;
pub(crate) mod keys;
pub(crate) mod layout;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod watch;

pub use error::{StoreError, StoreErrorKind};
pub use into_store::IntoStore;
pub use layout::KeyLayout;

#[cfg(feature = "redis-rustls")]
pub use self::redis::RedisTls;
