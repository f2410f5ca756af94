//! A connection's driver, which takes pushes and heartbeats' replies in the server's order, beside a read or a hit.

use loom::thread::spawn;

use super::*;
use crate::util::sync::{Mutex, block_on, explore};

/// One key of a server.
#[derive(Default)]
struct Key {
    version: u32,
    is_tracked: bool,
}

struct World {
    tracker: Arc<Tracker>,
    session: Arc<TrackingSession>,
    key: Mutex<Key>,
}

/// When the second heartbeat was sent, which runs after the key was changed.
const SECOND: Tick = Tick(9);

impl World {
    fn new() -> Arc<Self> {
        let tracker = Tracker::new("all".to_owned(), "t".to_owned());
        let session = tracker.begin(Tick(5));
        session.enter();
        Arc::new(Self {
            tracker,
            session,
            key: Mutex::new(Key::default()),
        })
    }

    /// Reads the key with tracking.
    fn read(&self) -> (u32, Watch) {
        let mark = self.tracker.mark("k");
        let version = {
            let mut key = self.key.lock().unwrap();
            key.is_tracked = true;
            key.version
        };
        (version, Watch::new(Arc::clone(&self.session), mark))
    }

    /// Changes the key, and returns whether that sends a push.
    fn change(&self) -> bool {
        let mut key = self.key.lock().unwrap();
        key.version += 1;
        std::mem::take(&mut key.is_tracked)
    }

    fn drive(&self) {
        if self.change() {
            self.tracker.changed(b"k");
        }
        self.session.prove(SECOND);
    }
}

#[test]
fn no_heartbeat_proves_what_was_changed_before_it() {
    explore(|| {
        let world = World::new();
        let other = Arc::clone(&world);
        let drives = spawn(move || other.drive());
        let (version, watch) = world.read();
        let proved = watch.proved();
        assert!(version == 1 || proved != Some(SECOND), "{proved:?}");
        drives.join().unwrap();
        // The key was changed before it was read, or there was a push.
        assert_eq!(watch.proved(), (version == 1).then_some(SECOND));
    });
}

#[test]
fn a_push_that_is_counted_has_ended_its_watches() {
    explore(|| {
        let world = World::new();
        let (_, watch) = world.read();
        let other = Arc::clone(&world);
        let drives = spawn(move || other.tracker.changed(b"k"));
        let pushes = world.tracker.pushes();
        assert!(pushes == 0 || !watch.is_current());
        drives.join().unwrap();
    });
}

#[test]
fn a_push_without_a_key_that_is_counted_has_ended_all_watches() {
    explore(|| {
        let world = World::new();
        let (_, watch) = world.read();
        let other = Arc::clone(&world);
        let drives = spawn(move || other.tracker.all_changed());
        let pushes = world.tracker.pushes();
        assert!(pushes == 0 || !watch.is_current());
        drives.join().unwrap();
    });
}

/// As an open stream waits. If it missed the push, it would wait for ever, which loom finds.
#[test]
fn who_waits_for_a_push_is_woken_after_it_is_counted() {
    explore(|| {
        let world = World::new();
        let (_, watch) = world.read();
        // When loom finds that all wait, the watch could no longer be dropped, which takes a step.
        let watch = std::mem::ManuallyDrop::new(watch);
        let other = Arc::clone(&world);
        let drives = spawn(move || other.tracker.changed(b"k"));
        loop {
            let woken = world.tracker.changes_of("k").notified();
            if !watch.is_current() {
                break;
            }
            block_on(woken);
        }
        drives.join().unwrap();
    });
}
