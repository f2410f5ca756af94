//! The clock that entitlements are measured by.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A reading of the monotonic clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u64);

impl Tick {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// How long ago `earlier` was; nothing where it lies in the future.
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

/// What the engine reads the time from.
#[derive(Clone, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    #[cfg(feature = "test-util")]
    Manual(crate::test_util::ManualClock),
}

impl Clock {
    /// Read anew at each call: a clock cached for a runtime's tick would call a stale entry fresh.
    pub(crate) fn now(&self) -> Tick {
        match self {
            Self::System => monotonic(),
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.tick(),
        }
    }

    pub(crate) fn wall(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.wall(),
        }
    }

    /// Sleeps by this clock until `until`.
    pub(crate) async fn sleep_until(&self, until: Tick) {
        match self {
            Self::System => {
                // The timer may run on a clock that stands still during a suspend, hence the loop.
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

/// `CLOCK_BOOTTIME`: it goes on while the machine is suspended, and an entry must not outlive its
/// bound by the length of a nap. By the C library, which finds the kernel's page for it also under
/// valgrind (rustix does not: its issue 1559).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_clock_never_says_that_it_is_before_everything() {
        let earlier = Clock::System.now();
        assert!(earlier > Tick::ZERO && earlier <= Clock::System.now());
    }
}
