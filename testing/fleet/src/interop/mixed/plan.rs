//! The parameters of a run.

use std::time::Duration;

use crate::interop::python::Version;

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The duration.
    pub lasts: Duration,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The number of our engines.
    pub engines: usize,
    /// The Python nodes.
    pub nodes: Vec<Version>,
    /// The sides that invalidate.
    pub executors: Executors,
}

/// The sides that invalidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executors {
    /// Whether our side does.
    pub rust: bool,
    /// The Python versions that do.
    pub python: Vec<Version>,
}
