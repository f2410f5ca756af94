//! What replaces `publish` without the feature `metrics`: nothing is measured.

use super::label::Origin;

#[derive(Clone, Copy)]
pub(crate) struct Timer;

impl Timer {
    pub(crate) fn start() -> Self {
        Self
    }
}

pub(crate) struct Metrics;

impl Metrics {
    pub(crate) fn new(_: &str) -> Self {
        Self
    }

    pub(crate) fn read_store(&self, _: Timer, _: bool) {}
    pub(crate) fn loaded(&self, _: Timer, _: bool) {}
    pub(crate) fn invalidated(&self, _: Timer, _: bool) {}
    pub(crate) fn revoked(&self, _: Timer, _: bool) {}
    pub(crate) fn missed(&self, _: Timer, _: Option<Origin>) {}
}
