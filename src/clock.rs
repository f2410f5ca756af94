//! The clock by which the age of cache entries is measured, and the order of events within a process.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

#[cfg(feature = "test-util")]
pub use manual::ManualClock;

/// A reading of the monotonic clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u64);

impl Tick {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// Returns the time since `earlier`, or zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn after(self, wait: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// A source of the time: the system's, or one that a test controls.
#[derive(Clone, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    #[cfg(feature = "test-util")]
    Manual(ManualClock),
}

impl Clock {
    /// Reads the monotonic clock. The reading is never cached: a clock that moves once per tick of the
    /// runtime would call a stale entry fresh.
    pub(crate) fn now(&self) -> Tick {
        match self {
            Self::System => monotonic(),
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.tick(),
        }
    }

    /// Reads the wall clock.
    pub(crate) fn wall(&self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.now(),
        }
    }

    /// Sleeps until this clock shows `until`.
    pub(crate) async fn sleep_until(&self, until: Tick) {
        match self {
            Self::System => {
                // The timer's clock may stop while the machine is suspended, hence the loop.
                loop {
                    let left = until.since(self.now());
                    if left.is_zero() {
                        return;
                    }
                    tokio::time::sleep(left).await;
                }
            }
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.sleep_until(until).await,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Reads `CLOCK_BOOTTIME`, which also counts while the machine is suspended: an entry must not outlive
/// its bound by the length of a suspend. It is read through the C library, which finds the kernel's vDSO
/// also under valgrind (rustix does not: its issue 1559).
#[cfg(target_os = "linux")]
fn monotonic() -> Tick {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    let now = Duration::from(now.expect("a clock that every Linux has"));
    Tick(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(not(target_os = "linux"))]
fn monotonic() -> Tick {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    // Never zero: `Tick::ZERO` means "before everything".
    Tick(
        u64::try_from(elapsed.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_add(1),
    )
}

/// A place in the order of sends and replies within this process, for events that are closer together
/// than the clock's resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogicalTime(u64);

/// A clock that gives each event a later time than the one before.
#[derive(Debug, Default)]
pub(crate) struct LogicalClock(AtomicU64);

impl LogicalClock {
    pub(crate) fn next(&self) -> LogicalTime {
        LogicalTime(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

#[cfg(feature = "test-util")]
mod manual {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use tokio::sync::Notify;

    use super::{Tick, monotonic};
    use crate::util::lock;

    /// The first reading. `Tick::ZERO` means "before everything".
    const START: Duration = Duration::from_secs(1);

    /// The rate of the system's clock, in millionths of itself.
    const EXACT: u32 = 1_000_000;

    /// A clock that only moves when it is told to. Clones share the time.
    #[derive(Debug, Clone)]
    pub struct ManualClock {
        shared: Arc<Shared>,
    }

    #[derive(Debug)]
    struct Shared {
        nanos: AtomicU64,
        start: Mutex<DateTime<Utc>>,
        moved: Notify,
        sleepers: AtomicUsize,
        /// If it moves by itself: from when on, and its rate in millionths.
        runs: Option<(Tick, u32)>,
    }

    impl ManualClock {
        /// Creates a clock that shows the present time.
        pub fn new() -> Self {
            Self::started(None)
        }

        /// Creates a clock that also moves by itself, with a rate in millionths of the system clock's.
        #[doc(hidden)]
        pub fn running(rate: u32) -> Self {
            Self::started(Some((monotonic(), rate.max(1))))
        }

        fn started(runs: Option<(Tick, u32)>) -> Self {
            Self {
                shared: Arc::new(Shared {
                    nanos: AtomicU64::new(nanos(START)),
                    start: Mutex::new(Utc::now()),
                    moved: Notify::new(),
                    sleepers: AtomicUsize::new(0),
                    runs,
                }),
            }
        }

        /// Advances the clock, and wakes the tasks whose sleep is over.
        ///
        /// # Panics
        /// Panics if `by` is longer than five hundred years.
        pub fn advance(&self, by: Duration) {
            self.shared.nanos.fetch_add(nanos(by), Ordering::SeqCst);
            self.shared.moved.notify_waiters();
        }

        /// Returns the time of the wall clock.
        pub fn now(&self) -> DateTime<Utc> {
            *lock(&self.shared.start) + self.elapsed()
        }

        /// Sets the wall clock, and leaves the monotonic clock as it is.
        pub fn set(&self, at: DateTime<Utc>) {
            *lock(&self.shared.start) = at - self.elapsed();
        }

        fn elapsed(&self) -> Duration {
            Duration::from_nanos(self.tick().0) - START
        }

        pub(crate) fn tick(&self) -> Tick {
            let set = Tick(self.shared.nanos.load(Ordering::SeqCst));
            match self.shared.runs {
                None => set,
                Some((from, rate)) => set.after(scaled(monotonic().since(from), rate, EXACT)),
            }
        }

        /// Returns how many tasks sleep by this clock.
        pub fn sleepers(&self) -> usize {
            self.shared.sleepers.load(Ordering::SeqCst)
        }

        /// Sleeps until the clock has been advanced by `duration`.
        ///
        /// # Cancel safety
        /// This method is cancel safe.
        pub async fn sleep(&self, duration: Duration) {
            self.sleep_until(self.tick().after(duration)).await;
        }

        pub(crate) async fn sleep_until(&self, until: Tick) {
            self.shared.sleepers.fetch_add(1, Ordering::SeqCst);
            let _asleep = Asleep(&self.shared.sleepers);
            loop {
                let moved = self.shared.moved.notified();
                tokio::pin!(moved);
                // Enabled before the time is read, so that no move between the two is missed.
                moved.as_mut().enable();
                let left = until.since(self.tick());
                if left.is_zero() {
                    return;
                }
                match self.shared.runs {
                    None => moved.await,
                    Some((_, rate)) => {
                        let left = scaled(left, EXACT, rate) + Duration::from_nanos(1);
                        // It moved, or the time is over: either way it is read again.
                        let _ = tokio::time::timeout(left, moved).await;
                    }
                }
            }
        }
    }

    fn nanos(duration: Duration) -> u64 {
        u64::try_from(duration.as_nanos()).expect("less than five hundred years")
    }

    /// Returns `duration * by / of`.
    fn scaled(duration: Duration, by: u32, of: u32) -> Duration {
        let scaled = duration.as_nanos() * u128::from(by) / u128::from(of);
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_never_at_zero() {
        let earlier = Clock::System.now();
        assert!(earlier > Tick::ZERO && earlier <= Clock::System.now());
    }

    #[cfg(feature = "test-util")]
    #[tokio::test]
    async fn a_running_clock_has_its_own_rate_and_ends_sleeps() {
        let fast = ManualClock::running(2_000_000);
        let slow = ManualClock::running(500_000);
        // Read from the outside in, so that a pause between two readings makes none of this wrong.
        let (real, ticks) = (monotonic(), [fast.tick(), slow.tick()]);
        fast.sleep(Duration::from_millis(40)).await;
        let slow = slow.tick().since(ticks[1]);
        let fast = fast.tick().since(ticks[0]);
        let real = monotonic().since(real);
        assert!(fast >= Duration::from_millis(40) && fast <= 2 * real);
        assert!(4 * slow <= fast);
    }
}
