//! Without the feature `metrics`.

use super::label::Origin;

#[derive(Clone, Copy)]
pub(crate) struct Stopwatch;

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self
    }
}

pub(crate) struct Metrics;

impl Metrics {
    pub(crate) fn new(_: &str) -> Self {
        Self
    }

    pub(crate) fn read_store(&self, _: Stopwatch, _: bool) {}
    pub(crate) fn loaded(&self, _: Stopwatch, _: bool) {}
    pub(crate) fn invalidated(&self, _: Stopwatch, _: bool) {}
    pub(crate) fn missed(&self, _: Stopwatch, _: Option<Origin>) {}
}
