//! What a transaction did, and for whom.

use crate::outbox::pending::Pending;

/// Who makes a change.
pub(crate) type Actor = Option<String>;

/// What a transaction did.
pub(crate) struct Committed<T> {
    pub(crate) value: T,
    pub(crate) pending: Vec<Pending>,
}
