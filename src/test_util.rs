//! For tests: a clock that is moved by hand, and places where a flight can be held.
//!
//! Behind the feature `test-util`; nothing of it is part of the stable interface.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::cache::clock::Tick;
pub use crate::cache::engine::Point;
use crate::store::BoxFuture;

/// A clock that stands still until it is moved. Clones share the time.
#[derive(Debug, Clone)]
pub struct ManualClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nanos: AtomicU64,
    start: Mutex<SystemTime>,
    moved: Notify,
    sleepers: AtomicUsize,
}

impl ManualClock {
    /// A clock that shows now, and stays there.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                nanos: AtomicU64::new(1_000_000_000),
                start: Mutex::new(SystemTime::now()),
                moved: Notify::new(),
                sleepers: AtomicUsize::new(0),
            }),
        }
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).expect("less than five hundred years");
        self.shared.nanos.fetch_add(by, Ordering::SeqCst);
        self.shared.moved.notify_waiters();
    }

    /// The wall clock's time.
    pub fn wall(&self) -> SystemTime {
        let start = self.shared.start.lock();
        *start.unwrap_or_else(PoisonError::into_inner) + self.elapsed()
    }

    /// Sets the wall clock alone, as an operator does, or a machine whose battery is empty.
    pub fn set_wall(&self, at: SystemTime) {
        let start = self.shared.start.lock();
        *start.unwrap_or_else(PoisonError::into_inner) = at - self.elapsed();
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.tick().0 - 1_000_000_000)
    }

    pub(crate) fn tick(&self) -> Tick {
        Tick(self.shared.nanos.load(Ordering::SeqCst))
    }

    /// How many are asleep by this clock.
    pub fn sleepers(&self) -> usize {
        self.shared.sleepers.load(Ordering::SeqCst)
    }

    pub(crate) async fn sleep_until(&self, until: Tick) {
        self.shared.sleepers.fetch_add(1, Ordering::SeqCst);
        let _asleep = Asleep(&self.shared.sleepers);
        loop {
            let moved = self.shared.moved.notified();
            tokio::pin!(moved);
            // Enabled before the look, so that no move between the two is missed.
            moved.as_mut().enable();
            if self.tick() >= until {
                return;
            }
            moved.await;
        }
    }
}

struct Asleep<'a>(&'a AtomicUsize);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

type Hook = dyn Fn(Point) -> BoxFuture<'static, ()> + Send + Sync;

/// Called by every flight at every [`Point`]; the flight goes on when the future is ready.
#[derive(Clone)]
pub struct Hooks(Arc<Hook>);

impl Hooks {
    /// Hooks from a closure.
    pub fn new<F, Fut>(hook: F) -> Self
    where
        F: Fn(Point) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |point| Box::pin(hook(point))))
    }

    pub(crate) async fn reach(&self, point: Point) {
        (self.0)(point).await;
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}
