//! The scopes that someone, somewhere, fills, and their staleness bounds (protocol.md section 2).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::Tick;
use crate::store::keys::Scope;
use crate::store::{Registry, RegistryEntry, bound_millis};
use crate::trace::limited;
use crate::util::lock;

/// The longest staleness bound that an instance can be configured for.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// When a registration is renewed, by the next look-up that Redis is asked for.
const RENEWAL: Duration = Duration::from_secs(60);

/// How long a registration is relied on. Longer, so that what is read beside the look-up that renews it,
/// a tenant's generation, is kept too.
const RELIANCE: Duration = Duration::from_secs(90);

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
pub(crate) struct Scopes {
    /// The complete set, where the user declared it.
    declared: Option<BTreeSet<Scope>>,
    /// This instance's staleness bound, zero without a local level.
    bound: Duration,
    /// The longest bound that was ever seen, in milliseconds.
    longest: AtomicU64,
    /// When the look-up began to register that does so now, by the clock; 0: none does.
    registering: AtomicU64,
    known: Mutex<Known>,
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

#[derive(Debug, Default)]
struct Known {
    /// Filled, or about to be, by this instance.
    own: BTreeSet<Scope>,
    /// All that were ever seen; none is forgotten.
    seen: BTreeSet<Scope>,
    /// The own scopes as they were acknowledged, under which session and when.
    registered: Option<(BTreeSet<Scope>, u64, Tick)>,
}

impl Scopes {
    /// `configured` is the bound that all instances should have, whether or not this one has a local
    /// level: another's entry in the registry may be lost.
    pub(crate) fn new(
        declared: Option<BTreeSet<Scope>>,
        bound: Duration,
        configured: Duration,
    ) -> Self {
        Self {
            declared,
            bound,
            longest: AtomicU64::new(bound_millis(configured)),
            registering: AtomicU64::new(0),
            known: Mutex::default(),
        }
    }

    /// Whether a look-up in this scope is one that invalidations would reach.
    pub(crate) fn allows(&self, scope: &Scope) -> bool {
        self.declared
            .as_ref()
            .is_none_or(|declared| declared.contains(scope))
    }

    pub(crate) fn are_declared(&self) -> bool {
        self.declared.is_some()
    }

    /// This instance is about to fill `scope`; what the registry has to hold before the load.
    pub(crate) fn enter(&self, scope: &Scope) -> RegistryEntry {
        self.lock().own.insert(scope.clone());
        self.entry(scope)
    }

    /// Returns whether the registry holds this instance's bound, and `scope` if one is given, for
    /// all that this process knows: it was entered in this session, and a short time ago.
    pub(crate) fn are_registered(&self, scope: Option<&Scope>, session: u64, now: Tick) -> bool {
        self.were_registered(scope, session, now, RELIANCE)
    }

    /// Returns whether `scope` is to be entered, or entered again.
    pub(crate) fn are_due(&self, scope: &Scope, session: u64, now: Tick) -> bool {
        !self.were_registered(Some(scope), session, now, RENEWAL)
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
        if began != 0 && now.since(Tick(began)) <= patience {
            return None;
        }
        let since = now.0.max(1);
        of.compare_exchange(began, since, order, order).ok()?;
        Some(Registering { of, since })
    }

    fn were_registered(
        &self,
        scope: Option<&Scope>,
        session: u64,
        now: Tick,
        within: Duration,
    ) -> bool {
        let known = self.lock();
        known
            .registered
            .as_ref()
            .is_some_and(|(scopes, under, at)| {
                *under == session
                    && now.since(*at) < within
                    && scope.is_none_or(|scope| scopes.contains(scope))
            })
    }

    /// The registry was just seen to hold the entry of `scope`.
    pub(crate) fn confirmed(&self, scope: &Scope, session: u64, now: Tick) {
        let mut known = self.lock();
        match &mut known.registered {
            Some((registered, under, at)) if *under == session => {
                registered.insert(scope.clone());
                // What is vouched for is all of them; one seen now does not renew the others.
                if registered.len() == 1 {
                    *at = now;
                }
            }
            _ => known.registered = Some((BTreeSet::from([scope.clone()]), session, now)),
        }
    }

    /// The own scopes, to be entered again after an invalidation found them missing.
    pub(crate) fn own(&self) -> Registry {
        self.entries(&self.lock().own)
    }

    fn entries(&self, scopes: &BTreeSet<Scope>) -> Registry {
        Registry(scopes.iter().map(|scope| self.entry(scope)).collect())
    }

    fn entry(&self, scope: &Scope) -> RegistryEntry {
        (scope.as_written().to_owned(), self.bound)
    }

    /// Takes the acknowledgement of `sent`.
    pub(crate) fn registered(&self, sent: &Registry, session: u64, now: Tick) {
        let scopes = sent
            .0
            .iter()
            .filter_map(|(name, _)| Scope::written(name))
            .collect();
        self.lock().registered = Some((scopes, session, now));
    }

    /// The own scopes that the registry holds, as far as known.
    pub(crate) fn acknowledged(&self) -> BTreeSet<Scope> {
        let known = self.lock();
        let registered = known.registered.as_ref();
        registered.map_or_else(BTreeSet::new, |(scopes, ..)| scopes.clone())
    }

    /// The registry was lost: what was acknowledged before is relied on no more.
    pub(crate) fn forget_registration(&self) {
        self.lock().registered = None;
    }

    /// Learns from the registry.
    pub(crate) fn learn(&self, registry: &Registry) {
        for (name, bound) in &registry.0 {
            let Some(scope) = Scope::written(name) else {
                continue;
            };
            self.lock().seen.insert(scope);
            // No instance can be configured for more: a member that says so is not one of ours.
            let bound = &(*bound).min(LONGEST);
            self.longest
                .fetch_max(bound_millis(*bound), Ordering::Relaxed);
            if differ(*bound, self.bound) {
                limited!(
                    error,
                    "an instance has another staleness bound; and_wait sleeps for the longest",
                    scope = name.as_str(),
                    theirs = format!("{bound:?}"),
                    ours = format!("{:?}", self.bound)
                );
            }
        }
    }

    /// The scopes that an invalidation of a token in all scopes has to delete, as far as known.
    pub(crate) fn to_delete(&self) -> BTreeSet<Scope> {
        match &self.declared {
            Some(declared) => declared.clone(),
            None => {
                let known = self.lock();
                known.own.union(&known.seen).cloned().collect()
            }
        }
    }

    /// The longest staleness bound of any instance: what `and_wait` has to outlast.
    pub(crate) fn longest_bound(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

/// Whether the registry holds all of these scopes, with whatever bound.
pub(crate) fn holds(registry: &Registry, scopes: &BTreeSet<Scope>) -> bool {
    let present = registry
        .0
        .iter()
        .filter_map(|(name, _)| Scope::written(name));
    scopes.is_subset(&present.collect())
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
        let scopes = Scopes::new(None, second, second);
        let member = |bound| Registry([("app".to_owned(), bound)].into_iter().collect());
        scopes.learn(&member(3 * second));
        assert_eq!(scopes.longest_bound(), 3 * second);
        scopes.learn(&member(24 * LONGEST));
        assert_eq!(scopes.longest_bound(), LONGEST);
    }

    #[cfg(feature = "tracing")]
    #[test]
    fn nobody_waits_for_a_log_line_about_bounds() {
        use std::sync::Arc;
        use std::sync::atomic::AtomicBool;
        use tracing::span::{Attributes, Id, Record};

        struct Log(Arc<Scopes>, Arc<AtomicBool>);

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
                assert!(self.0.known.try_lock().is_ok());
                self.1.store(true, Ordering::Relaxed);
            }
            fn enter(&self, _: &Id) {}
            fn exit(&self, _: &Id) {}
        }

        let second = Duration::from_secs(1);
        let scopes = Arc::new(Scopes::new(None, second, second));
        let logged = Arc::new(AtomicBool::new(false));
        let registry = Registry([("app".to_owned(), 2 * second)].into_iter().collect());
        let log = Log(Arc::clone(&scopes), Arc::clone(&logged));
        tracing::subscriber::with_default(log, || {
            // One line a second is written.
            while !logged.load(Ordering::Relaxed) {
                scopes.learn(&registry);
            }
        });
    }

    fn scope(name: &str) -> Scope {
        Scope::new(Some(name)).unwrap()
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000_000)
    }

    #[test]
    fn a_registration_is_renewed_after_a_minute_and_relied_on_for_less_than_another_half() {
        let second = Duration::from_secs(1);
        let scopes = Scopes::new(None, second, second);
        scopes.confirmed(&scope("app"), 1, at(100));
        assert!(!scopes.are_due(&scope("app"), 1, at(159)));
        assert!(scopes.are_due(&scope("app"), 1, at(160)));
        assert!(scopes.are_registered(Some(&scope("app")), 1, at(189)));
        assert!(!scopes.are_registered(Some(&scope("app")), 1, at(190)));
    }

    #[test]
    fn one_registers_at_a_time_and_nobody_waits_for_one_that_stands_still() {
        let second = Duration::from_secs(1);
        let scopes = Scopes::new(None, second, second);
        let first = scopes.begin_to_register(at(5), second).unwrap();
        assert!(scopes.begin_to_register(at(6), second).is_none());
        let other = scopes.begin_to_register(at(7), second).unwrap();
        drop(first);
        assert!(scopes.begin_to_register(at(8), second).is_none());
        drop(other);
        assert!(scopes.begin_to_register(at(8), second).is_some());
    }

    #[test]
    fn a_scope_that_is_confirmed_later_renews_none_of_the_others() {
        let second = Duration::from_secs(1);
        let scopes = Scopes::new(None, second, second);
        scopes.confirmed(&scope("app"), 1, at(100));
        scopes.confirmed(&scope("dataset"), 1, at(150));
        assert!(!scopes.are_due(&scope("app"), 1, at(159)));
        assert!(!scopes.are_due(&scope("dataset"), 1, at(159)));
        assert!(scopes.are_due(&scope("app"), 1, at(160)));
    }

    #[test]
    fn the_only_scope_is_renewed_when_it_is_confirmed_again() {
        let second = Duration::from_secs(1);
        let scopes = Scopes::new(None, second, second);
        scopes.confirmed(&scope("app"), 1, at(100));
        scopes.confirmed(&scope("app"), 1, at(150));
        assert!(!scopes.are_due(&scope("app"), 1, at(209)));
    }

    #[test]
    fn what_was_registered_in_another_session_is_not_relied_on() {
        let second = Duration::from_secs(1);
        let scopes = Scopes::new(None, second, second);
        scopes.confirmed(&scope("app"), 1, at(100));
        scopes.confirmed(&scope("dataset"), 2, at(101));
        assert!(scopes.are_registered(Some(&scope("dataset")), 2, at(102)));
        assert!(!scopes.are_registered(Some(&scope("app")), 2, at(102)));
        assert!(!scopes.are_registered(Some(&scope("dataset")), 1, at(102)));
    }

    #[test]
    fn bounds_differ_only_where_both_have_a_local_level() {
        let [none, one, two] = [0, 1, 2].map(Duration::from_millis);
        assert!(differ(one, two));
        assert!(!differ(one, one) && !differ(none, one) && !differ(one, none));
        assert!(!differ(one, one - Duration::from_nanos(1)));
    }
}
