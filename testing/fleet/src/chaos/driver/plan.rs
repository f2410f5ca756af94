//! The parameters of a run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::chaos::settings::{Mode, Tracking};

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For how long changes and faults go on.
    pub lasts: Duration,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The number of worker processes.
    pub workers: usize,
    /// The kind of run.
    pub mode: Mode,
    /// Which workers have Redis report changes.
    pub tracking: Tracking,
    /// This program, which also runs as a worker.
    pub program: PathBuf,
    /// The same program of a former release, for a run of [`Mode::Releases`].
    pub former: Option<PathBuf>,
}

impl Plan {
    /// Returns the program of the worker in this place.
    pub(super) fn program_of(&self, place: usize) -> &Path {
        match &self.former {
            Some(former) if self.mode == Mode::Releases && place.is_multiple_of(2) => former,
            _ => &self.program,
        }
    }
}
