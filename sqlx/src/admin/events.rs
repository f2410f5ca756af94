//! What a service is told about changes.

/// A change that a request to the router has just committed. Its invalidation may not be confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdminChange {
    /// What happened, with the words of [`AuditEntry::action`](crate::AuditEntry::action).
    pub action: &'static str,
    /// The key that was changed, if it was one.
    pub key_id: Option<String>,
    /// The tenant that was changed, or that the key belongs to.
    pub tenant_id: String,
}
