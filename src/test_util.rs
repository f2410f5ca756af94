//! For tests: a clock that is moved by hand, and places where a flight can be held.
//!
//! Behind the feature `test-util`; nothing of it is part of the stable interface.
//!
//! A clock that is moved by hand makes an hour of expiry a matter of one call:
//!
//! ```
//! use std::time::Duration;
//! use tower_api_token::test_util::ManualClock;
//! use tower_api_token::{InvalidReason, Answer, ApiTokenCache, Lookup, TokenRecord};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = ManualClock::new();
//! let end = clock.wall() + Duration::from_secs(3600);
//! let loader = move |_: Lookup| async move {
//!     Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1", "app").expires_at(end)))
//! };
//! let cache = ApiTokenCache::builder(loader).clock(clock.clone()).build()?;
//!
//! let answer = cache.authenticate("app-0123456789abcdef", "app").await?;
//! assert!(matches!(answer, Answer::Found(_)));
//! clock.advance(Duration::from_secs(3600));
//! let answer = cache.authenticate("app-0123456789abcdef", "app").await?;
//! assert!(matches!(answer, Answer::Absent(InvalidReason::Expired)));
//! # Ok(())
//! # }
//! ```
//!
//! A hook holds a flight where the race is that one wants to see: here a token is revoked between its
//! load and its fill, and the fill is refused.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use tokio::sync::Notify;
//! use tower_api_token::test_util::{Hooks, Point};
//! use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let revoked = Arc::new(AtomicBool::new(false));
//! let row = Arc::clone(&revoked);
//! let loader = move |_: Lookup| {
//!     let good = !row.load(Ordering::SeqCst);
//!     async move { Ok::<_, std::io::Error>(good.then(|| TokenRecord::new("tok-1", "app"))) }
//! };
//! let (loaded, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
//! let gates = (Arc::clone(&loaded), Arc::clone(&go_on));
//! let first = AtomicBool::new(true);
//! let hooks = Hooks::new(move |point| {
//!     let held = matches!(point, Point::Loaded) && first.swap(false, Ordering::SeqCst);
//!     let (loaded, go_on) = gates.clone();
//!     async move {
//!         if held {
//!             loaded.notify_one();
//!             go_on.notified().await;
//!         }
//!     }
//! });
//! let cache = ApiTokenCache::builder(loader).hooks(hooks).build()?;
//!
//! let asker = cache.clone();
//! let slow = tokio::spawn(async move { asker.authenticate("app-0123456789abcdef", "app").await });
//! loaded.notified().await;
//! revoked.store(true, Ordering::SeqCst);
//! cache.invalidate("app-0123456789abcdef").await?;
//! go_on.notify_one();
//! // It began before the revocation, and may get either answer. Nobody else does:
//! slow.await??;
//! assert_eq!(cache.stats().fills_refused, 1);
//! let later = cache.authenticate("app-0123456789abcdef", "app").await?;
//! assert!(later.found().is_none());
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::cache::clock::Tick;
pub use crate::cache::engine::Point;
use crate::store::BoxFuture;

/// What the clock begins with: not `Tick::ZERO`, which means "before everything".
const START: Duration = Duration::from_secs(1);

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
                nanos: AtomicU64::new(nanos(START)),
                start: Mutex::new(SystemTime::now()),
                moved: Notify::new(),
                sleepers: AtomicUsize::new(0),
            }),
        }
    }

    /// Moves the clock on.
    ///
    /// # Panics
    /// By more than five hundred years.
    pub fn advance(&self, by: Duration) {
        self.shared.nanos.fetch_add(nanos(by), Ordering::SeqCst);
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
        Duration::from_nanos(self.tick().0) - START
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("less than five hundred years")
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
