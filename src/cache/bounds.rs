//! The staleness bounds of all instances, and the registry of them (protocol.md section 2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::Tick;
use crate::store::entry::bound_millis;
use crate::trace::limited;
use crate::util::lock;

/// The longest staleness bound that an instance can be configured for.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// When a registration is renewed, by the next lookup that Redis is asked for.
const RENEWAL: Duration = Duration::from_secs(60);

/// How long a registration is relied on. Longer, so that what is read beside the lookup that renews it,
/// a tenant's generation, is kept too.
const RELIANCE: Duration = Duration::from_secs(90); // guard: R2b

/// Whether operators could know of this instance's bound when a command was sent, so that what the
/// command proves may be kept (protocol.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The store is this process's own memory: there is nobody else to know of it.
    Own,
    /// The registry held it, in this session.
    In(u64),
    No,
}

#[derive(Debug)]
pub(crate) struct Bounds {
    /// This instance's staleness bound, zero without a local level.
    own: Duration,
    /// The longest bound that was ever seen, in milliseconds.
    longest: AtomicU64,
    /// When the lookup that registers now began to, by the clock; 0: none does.
    registering: AtomicU64,
    /// The session in which the registry acknowledged the own bound, and when.
    registered: Mutex<Option<(u64, Tick)>>,
}

/// Registers for everybody, until it is dropped.
pub(crate) struct Registering<'a> {
    of: &'a AtomicU64,
    since: u64,
}

impl Drop for Registering<'_> {
    fn drop(&mut self) {
        let (free, order) = (0, Ordering::SeqCst);
        // Another may have taken over.
        let _ = self.of.compare_exchange(self.since, free, order, order);
    }
}

impl Bounds {
    /// `configured` is the bound that all instances should have, whether or not this one has a local
    /// level: another's entry in the registry may be lost.
    pub(crate) fn new(own: Duration, configured: Duration) -> Self {
        Self {
            own,
            longest: AtomicU64::new(bound_millis(configured)), // guard: R3
            registering: AtomicU64::new(0),
            registered: Mutex::default(),
        }
    }

    /// What the registry has to hold before this instance keeps anything.
    pub(crate) fn own(&self) -> Duration {
        self.own
    }

    /// Returns whether the registry holds this instance's bound, for all that this process knows: it was
    /// entered in this session, and a short time ago.
    pub(crate) fn is_registered(&self, session: u64, now: Tick) -> bool {
        self.was_registered(session, now, RELIANCE)
    }

    /// Returns whether this instance's bound is to be entered, or entered again.
    pub(crate) fn is_due(&self, session: u64, now: Tick) -> bool {
        !self.was_registered(session, now, RENEWAL)
    }

    fn was_registered(&self, session: u64, now: Tick, within: Duration) -> bool {
        let registered = *self.lock();
        registered.is_some_and(|(under, at)| under == session && now.since(at) < within)
    }

    /// Lets one register at a time; another one too if that takes longer than `patience`: it may be
    /// polled no more.
    pub(crate) fn begin_to_register(
        &self,
        now: Tick,
        patience: Duration,
    ) -> Option<Registering<'_>> {
        let (of, order) = (&self.registering, Ordering::SeqCst);
        let began = of.load(order);
        // guard: R2e
        if began != 0 && now.since(Tick(began)) <= patience {
            return None;
        }
        let since = now.0.max(1);
        of.compare_exchange(began, since, order, order).ok()?;
        Some(Registering { of, since })
    }

    /// The registry acknowledged the own bound, which was sent at `now`.
    pub(crate) fn registered(&self, session: u64, now: Tick) {
        *self.lock() = Some((session, now));
    }

    /// Returns whether the registry acknowledged the own bound, and was not found to have lost it since.
    pub(crate) fn are_acknowledged(&self) -> bool {
        self.lock().is_some()
    }

    /// The registry was lost: what was acknowledged before is no longer relied on.
    pub(crate) fn forget_registration(&self) {
        *self.lock() = None;
    }

    /// Learns from the registry, and returns whether it holds the own bound.
    pub(crate) fn learn(&self, registry: &[Duration]) -> bool {
        for bound in registry {
            // No instance can be configured for more: a member that says so is not one of ours.
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

    /// The longest staleness bound of any instance, as far as known: what a wait for all instances has
    /// to outlast.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u64, Tick)>> {
        lock(&self.registered)
    }
}

/// Whether both are of a local level, and as the registry writes them not the same.
fn differ(one: Duration, other: Duration) -> bool {
    !one.is_zero() && !other.is_zero() && bound_millis(one) != bound_millis(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_in_the_registry_that_nobody_can_have_does_not_hold_up_an_invalidation_for_longer() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::new(second, second);
        bounds.learn(&[3 * second]);
        assert_eq!(bounds.longest(), 3 * second);
        bounds.learn(&[24 * LONGEST]);
        assert_eq!(bounds.longest(), LONGEST);
    }

    #[cfg(feature = "tracing")]
    #[test]
    fn nobody_waits_for_a_log_line_about_bounds() {
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
        let log = Log(Arc::clone(&bounds), Arc::clone(&logged));
        tracing::subscriber::with_default(log, || {
            // One line a second is written.
            while !logged.load(Ordering::Relaxed) {
                bounds.learn(&[2 * second]);
            }
        });
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000_000)
    }

    #[test]
    fn a_registration_is_renewed_after_a_minute_and_relied_on_for_less_than_another_half() {
        let second = Duration::from_secs(1);
        let bounds = Bounds::new(second, second);
        bounds.registered(1, at(100));
        assert!(!bounds.is_due(1, at(159)));
        assert!(bounds.is_due(1, at(160)));
        assert!(bounds.is_registered(1, at(189)));
        assert!(!bounds.is_registered(1, at(190)));
    }

    #[test]
    fn one_registers_at_a_time_and_nobody_waits_for_one_that_stands_still() {
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
    fn what_was_registered_in_another_session_is_not_relied_on() {
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
    fn bounds_differ_only_where_both_have_a_local_level() {
        let [none, one, two] = [0, 1, 2].map(Duration::from_millis);
        assert!(differ(one, two));
        assert!(!differ(one, one) && !differ(none, one) && !differ(one, none));
        assert!(!differ(one, one - Duration::from_nanos(1)));
    }
}
