//! The pushes of a connection.

use std::sync::{Arc, Mutex};

use redis::{PushInfo, PushKind, Value};

use crate::store::watch::Tracker;
use crate::util::lock;

/// Takes the pushes of one connection.
#[derive(Debug)]
pub(crate) struct Pushes {
    tracker: Arc<Tracker>,
    probe: Mutex<Probe>,
}

/// The key that the latest test of the connection writes.
#[derive(Debug, Default)]
struct Probe {
    name: String,
    is_reported: bool,
}

impl Pushes {
    pub(crate) fn new(tracker: Arc<Tracker>) -> Self {
        Self {
            tracker,
            probe: Mutex::default(),
        }
    }

    /// Begins a test, which writes the key `name` and no former one did: a late push of that one would pass for its
    /// own.
    pub(crate) fn begin_test(&self, name: &str) {
        *lock(&self.probe) = Probe {
            name: name.to_owned(),
            is_reported: false,
        };
    }

    /// Returns whether a push for the test's key has arrived.
    pub(crate) fn saw_probe(&self) -> bool {
        lock(&self.probe).is_reported
    }

    /// Takes a push. It is called by the connection's driver, before that reads the next frame: a reply that
    /// follows the push finds it counted.
    pub(crate) fn take(&self, push: &PushInfo) {
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
                let mut probe = lock(&self.probe);
                probe.is_reported |= name == probe.name.as_bytes();
            }
            _ => self.tracker.all_changed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_counts_for_the_test_that_wrote_its_key() {
        let pushes = Pushes::new(Tracker::new(
            "ns:tokens".to_owned(),
            "ns:tenant:".to_owned(),
        ));
        let take = |name: &str| {
            let names = vec![Value::BulkString(name.as_bytes().to_vec())];
            pushes.take(&PushInfo {
                kind: PushKind::Invalidate,
                data: vec![Value::Array(names)],
            });
        };
        pushes.begin_test("one");
        take("none");
        assert!(!pushes.saw_probe());
        take("one");
        take("none");
        assert!(pushes.saw_probe());
        pushes.begin_test("two");
        take("one");
        assert!(!pushes.saw_probe());
        take("two");
        assert!(pushes.saw_probe());
    }
}
