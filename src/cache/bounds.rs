//! The staleness bounds of all instances, and the registry of them (protocol.md section 2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::Tick;
use crate::store::entry::bound_millis;
use crate::trace::limited;
use crate::util::lock;

/// The longest staleness bound that an instance can be configured with.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// The age at which a registration is renewed, by the next lookup that asks Redis.
const RENEWAL: Duration = Duration::from_secs(60);

/// The time between two attempts of hits to renew a registration.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);

/// How long a registration is relied on. Longer than [`RENEWAL`], so that a tenant's generation that is read
/// beside the lookup that renews it is cached too.
const RELIANCE: Duration = Duration::from_secs(90); // guard: R2b

/// Whether operators could know this instance's bound when a command was sent, so that its result may be
/// cached in the local level (protocol.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The store is this process's own memory: no other process needs to know the bound.
    Own,
    /// The registry held the bound, in this session.
    In(u64),
    /// The registry is not known to have held the bound.
    No,
}

#[derive(Debug)]
pub(crate) struct Bounds {
    /// This instance's staleness bound, zero without a local level.
    own: Duration,
    /// The longest bound that was ever read, in milliseconds.
    longest: AtomicU64,
    /// When the lookup that is registering the bound began to, by the clock, or 0 if none is.
    registering: AtomicU64,
    /// When a hit renews the registration, by the clock, or 0 before the first one.
    renew_at: AtomicU64,
    /// The session in which the registry acknowledged our bound, and when.
    registered: Mutex<Option<(u64, Tick)>>,
}

/// The right to register the bound, until it is dropped.
pub(crate) struct Registering<'a> {
    of: &'a AtomicU64,
    since: u64,
}

impl Drop for Registering<'_> {
    fn drop(&mut self) {
        let (free, order) = (0, Ordering::SeqCst);
        // Another lookup may have taken over.
        let _ = self.of.compare_exchange(self.since, free, order, order);
    }
}

impl Bounds {
    /// Creates the bounds. `configured` is the bound that all instances should have, whether or not this one
    /// has a local level: another instance's entry in the registry may be lost.
    pub(crate) fn new(own: Duration, configured: Duration) -> Self {
        Self {
            own,
            longest: AtomicU64::new(bound_millis(configured)), // guard: R3
            registering: AtomicU64::new(0),
            renew_at: AtomicU64::new(0),
            registered: Mutex::default(),
        }
    }

    /// Returns the bound that the registry must hold before this instance caches anything locally.
    pub(crate) fn own(&self) -> Duration {
        self.own
    }

    /// Returns whether the registry is known to hold this instance's bound: it was entered in this session, and
    /// recently.
    pub(crate) fn is_registered(&self, session: u64, now: Tick) -> bool {
        self.was_registered(session, now, RELIANCE)
    }

    /// Returns whether this instance's bound must be entered, or entered again.
    pub(crate) fn is_due(&self, session: u64, now: Tick) -> bool {
        !self.was_registered(session, now, RENEWAL)
    }

    fn was_registered(&self, session: u64, now: Tick, within: Duration) -> bool {
        let registered = *self.lock();
        registered.is_some_and(|(under, at)| under == session && now.since(at) < within)
    }

    /// Lets one lookup register at a time, and another one if that takes longer than `timeout`, because the
    /// first may no longer be polled.
    pub(crate) fn begin_to_register(
        &self,
        now: Tick,
        timeout: Duration,
    ) -> Option<Registering<'_>> {
        let (of, order) = (&self.registering, Ordering::SeqCst);
        let began = of.load(order);
        // guard: R2e
        if began != 0 && now.since(Tick(began)) <= timeout {
            return None;
        }
        let since = now.0.max(1);
        of.compare_exchange(began, since, order, order).ok()?;
        Some(Registering { of, since })
    }

    /// Records that the registry acknowledged our bound, which was sent at `now`.
    pub(crate) fn registered(&self, session: u64, now: Tick) {
        *self.lock() = Some((session, now));
        self.renew_at.store(now.after(RENEWAL).0, Ordering::Relaxed);
    }

    /// Returns whether a hit is to renew the registration, because no lookup did.
    pub(crate) fn wants_renewal(&self, now: Tick) -> bool {
        let at = self.renew_at.load(Ordering::Relaxed);
        at != 0 && now.0 >= at
    }

    /// Lets one hit renew the registration, and another one if that did not help.
    pub(crate) fn begin_renewal(&self, now: Tick) -> bool {
        let (at, order) = (self.renew_at.load(Ordering::Relaxed), Ordering::Relaxed);
        let next = now.after(RENEWAL_PAUSE).0;
        self.wants_renewal(now)
            && self
                .renew_at
                .compare_exchange(at, next, order, order)
                .is_ok()
    }

    /// Returns whether the registry acknowledged our bound, and was not found to have lost it since.
    pub(crate) fn are_acknowledged(&self) -> bool {
        self.lock().is_some()
    }

    /// Forgets that our bound was acknowledged, because the registry was lost.
    pub(crate) fn forget_registration(&self) {
        *self.lock() = None;
    }

    /// Learns the bounds in the registry, and returns whether our own is among them.
    pub(crate) fn learn(&self, registry: &[Duration]) -> bool {
        for bound in registry {
            // No instance can be configured with a longer one, so such a member is not an instance's.
            let bound = (*bound).min(LONGEST);
            let millis = bound_millis(bound);
            self.longest.fetch_max(millis, Ordering::Relaxed);
            if differ(bound, self.own) {
                limited!(
                    error,
                    "an instance has another staleness bound; wait_for_all_instances sleeps for the longest",
                    theirs = format!("{bound:?}"),
                    ours = format!("{:?}", self.own)
                );
            }
        }
        let own = bound_millis(self.own);
        registry.iter().any(|bound| bound_millis(*bound) == own)
    }

    /// Returns the longest known staleness bound of any instance, which a wait for all instances must outlast.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u64, Tick)>> {
        lock(&self.registered)
    }
}

/// Returns whether both bounds are of a local level and differ in the registry's unit.
fn differ(one: Duration, other: Duration) -> bool {
    !one.is_zero() && !other.is_zero() && bound_millis(one) != bound_millis(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_in_the_registry_that_is_out_of_range_is_capped() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::new(second, second);
        bounds.learn(&[3 * second]);
        assert_eq!(bounds.longest(), 3 * second);
        bounds.learn(&[24 * LONGEST]);
        assert_eq!(bounds.longest(), LONGEST);
    }

    #[cfg(feature = "tracing")]
    #[test]
    fn a_log_line_about_bounds_is_written_without_the_lock() {
        use std::sync::Arc;
        use std::sync::atomic::AtomicBool;
        use tracing::span::{Attributes, Id, Record};

        struct Log(Arc<Bounds>, Arc<AtomicBool>);

        impl tracing::Subscriber for Log {
            fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
                true
            }
            fn new_span(&self, _: &Attributes<'_>) -> Id {
                Id::from_u64(1)
            }
            fn record(&self, _: &Id, _: &Record<'_>) {}
            fn record_follows_from(&self, _: &Id, _: &Id) {}
            fn event(&self, _: &tracing::Event<'_>) {
                assert!(self.0.registered.try_lock().is_ok());
                self.1.store(true, Ordering::Relaxed);
            }
            fn enter(&self, _: &Id) {}
            fn exit(&self, _: &Id) {}
        }

        let second = Duration::from_secs(1);
        let bounds = Arc::new(Bounds::new(second, second));
        let logged = Arc::new(AtomicBool::new(false));
        // One line per second is written. If another test is the first to write it, tracing keeps for good that nobody
        // listens, until there is a new subscriber.
        while !logged.load(Ordering::Relaxed) {
            let log = Log(Arc::clone(&bounds), Arc::clone(&logged));
            tracing::subscriber::with_default(log, || bounds.learn(&[2 * second]));
        }
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000_000)
    }

    #[test]
    fn a_registration_is_renewed_after_60_seconds_and_expires_after_90() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::new(second, second);
        bounds.registered(1, at(100));
        assert!(!bounds.is_due(1, at(159)));
        assert!(bounds.is_due(1, at(160)));
        assert!(bounds.is_registered(1, at(189)));
        assert!(!bounds.is_registered(1, at(190)));
    }

    #[test]
    fn one_lookup_registers_at_a_time_and_a_stalled_one_is_replaced() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::new(second, second);
        let first = bounds.begin_to_register(at(5), second).unwrap();
        assert!(bounds.begin_to_register(at(6), second).is_none());
        let other = bounds.begin_to_register(at(7), second).unwrap();
        drop(first);
        assert!(bounds.begin_to_register(at(8), second).is_none());
        drop(other);
        assert!(bounds.begin_to_register(at(8), second).is_some());
    }

    #[test]
    fn a_registration_of_another_session_is_not_relied_on() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::new(second, second);
        bounds.registered(1, at(100));
        assert!(!bounds.is_registered(2, at(101)));
        bounds.registered(2, at(101));
        assert!(bounds.is_registered(2, at(102)));
        assert!(!bounds.is_registered(1, at(102)));
    }

    #[test]
    fn a_registry_holds_a_bound_by_the_millisecond() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::new(second, second);
        assert!(bounds.learn(&[2 * second, second]));
        assert!(!bounds.learn(&[2 * second]) && !bounds.learn(&[]));
    }

    #[test]
    fn bounds_differ_only_if_both_have_a_local_level() {
        let [none, one, two] = [0, 1, 2].map(Duration::from_millis);
        assert!(differ(one, two));
        assert!(!differ(one, one) && !differ(none, one) && !differ(one, none));
        assert!(!differ(one, one - Duration::from_nanos(1)));
    }
}
