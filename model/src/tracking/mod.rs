//! Models of client tracking (docs/internals/tracking.md): a key and its links, a tenant's cell, and a slot that moves.

mod cell;
mod cluster;
mod config;
mod token;

pub(crate) use self::cell::CellTracking;
pub(crate) use self::cluster::SlotMove;
pub use self::config::{Cluster, TenantCell, Tracking};
pub(crate) use self::token::TokenTracking;
