//! An instance of the service.

use std::time::Duration;

/// An instance of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Its number. A restarted worker is another instance.
    pub id: u64,
    /// Its staleness bound; zero without a local level.
    pub bound: Duration,
}
