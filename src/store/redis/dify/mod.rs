//! The layout that is shared with Dify's own service (wire.md): its key names and entries, its load lock,
//! and its index of a tenant's entries. A reader of the rest of the store can leave it out.
//!
//! Our lease is stored under the entry's key. Python reads it as an entry that cannot be decoded, which is a
//! miss, and its `DEL` or `SETEX` removes it: Python's invalidations fence our loads without further means.
//! Python's lock cannot do that, because its invalidations do not remove it. It is taken in addition, so
//! that both sides share one load.

pub(crate) mod codec;
pub(super) mod deletion;
pub(super) mod hooks;
pub(crate) mod names;
