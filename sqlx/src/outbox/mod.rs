//! From the commit of a change to its confirmation.

pub(crate) mod bound;
pub(crate) mod change;
pub(crate) mod commit;
pub(crate) mod pending;
pub(crate) mod shared;
mod stores;
pub(crate) mod worker;
