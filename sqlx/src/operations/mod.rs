//! The operations on keys, each of which is one transaction, and reading.

pub(crate) mod discard;
pub(crate) mod issue;
pub(crate) mod list;
pub(crate) mod purge;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod tenants;
