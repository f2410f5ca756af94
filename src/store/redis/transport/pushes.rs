//! The pushes of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{PushInfo, PushKind, Value};

use crate::store::watch::Tracker;

/// Takes the pushes of one connection.
pub(crate) struct Pushes {
    tracker: Arc<Tracker>,
    /// The key that tests of this connection write.
    probe: String,
    probed: AtomicBool,
}

impl Pushes {
    pub(super) fn new(tracker: Arc<Tracker>, probe: String) -> Self {
        Self {
            tracker,
            probe,
            probed: AtomicBool::new(false),
        }
    }

    pub(super) fn probe(&self) -> &str {
        &self.probe
    }

    pub(super) fn begin_test(&self) {
        self.probed.store(false, Ordering::Relaxed);
    }

    /// Returns whether a push for the probe arrived since the test began.
    pub(super) fn saw_probe(&self) -> bool {
        self.probed.load(Ordering::Relaxed)
    }

    /// Takes a push. It is called by the connection's driver, before that reads the next frame: a reply that
    /// follows the push finds it counted.
    pub(super) fn take(&self, push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        // guard: TR4
        match &push.data[..] {
            [Value::Array(names)] => names.iter().for_each(|name| self.changed(name)),
            // `Nil`: all keys. Any other form is taken for it.
            _ => self.tracker.all_changed(),
        }
    }

    fn changed(&self, name: &Value) {
        match name {
            Value::BulkString(name) => {
                self.tracker.changed(name);
                if name == self.probe.as_bytes() {
                    self.probed.store(true, Ordering::Relaxed);
                }
            }
            _ => self.tracker.all_changed(),
        }
    }
}
