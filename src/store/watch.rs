//! Which keys a store reports changes of, and until when it is known to have reported all of them
//! (docs/internals/tracking.md).
//!
//! Redis sends one message, a *push*, for the next change of a key that a connection reads with client tracking.
//! On one connection the push precedes the reply to every command that runs after the change. So the reply to
//! a heartbeat proves every entry that was read on its connection and has had no push.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::util::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::util::sync::{Notify, number_of};
use crate::util::wakeups::Wakeups;

/// The number of counters for entries: 256 KiB. Two keys that share one end each other's watch, which costs a
/// read.
const ENTRIES: usize = number_of(65_536);

/// The number of counters for tenants' generations. They are apart from those of entries, of which every token's
/// change moves one: the end of a tenant's watch concerns all of its tokens.
const GENERATIONS: usize = number_of(4_096);

/// The counter for the generation of all entries, which shares it with nothing: its end concerns every entry.
const ALL: usize = ENTRIES + GENERATIONS;

/// The pushes that arrived, and the sessions in which they do.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// The number of pushes for the keys of each slot. They never decrease: one push is enough to end a watch,
    /// and more do no harm.
    counters: Box<[AtomicU32]>,
    /// Keyed, so that nobody can choose keys that share a counter.
    hash: RandomState,
    /// The name of the generation of all entries.
    all: String,
    /// What the names of tenants' generations begin with.
    tenants: String,
    /// The number of sessions so far.
    sessions: AtomicU64,
    /// The session whose connection sends the reads now, or 0 if that one is not tracked.
    present: AtomicU64,
    /// The latest proof of any session, by the clock, or 0 if there was none.
    latest: AtomicU64,
    pushes: AtomicU64,
    reads: AtomicU64,
    watches: AtomicU64,
    /// Apart, so that a push for a token does not wake all streams of a tenant.
    wakeups: [Wakeups; 2],
}

/// What a [`Tracker`] counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct TrackingCounts {
    /// Whether the connection that sends the reads is tracked.
    pub(crate) is_on: bool,
    /// The watches that exist.
    pub(crate) watches: u64,
    pub(crate) pushes: u64,
    pub(crate) reads: u64,
}

/// The counter of a key, as it was before the key was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    slot: u32,
    count: u32,
}

/// A stretch of time in which a connection was tracked without a gap. Another one begins with another connection,
/// and on the same one after it was found not to be tracked.
#[derive(Debug)]
pub(crate) struct TrackingSession {
    tracker: Arc<Tracker>,
    id: u64,
    /// The clock before the latest heartbeat was sent that was answered.
    proved: AtomicU64,
    ended: AtomicBool,
}

/// The proof that the store reports the next change of a key that was read.
#[derive(Debug)]
pub(crate) struct Watch {
    session: Arc<TrackingSession>,
    mark: Mark,
}

impl Tracker {
    /// Creates a tracker. `all` is the name of the generation of all entries, and `tenants` what the names of tenants'
    /// generations begin with, and of no other key.
    pub(crate) fn new(all: String, tenants: String) -> Arc<Self> {
        let counters = (0..=ALL).map(|_| AtomicU32::new(0));
        Arc::new(Self {
            counters: counters.collect(),
            hash: RandomState::new(),
            all,
            tenants,
            sessions: AtomicU64::new(0),
            present: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            pushes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            wakeups: [Wakeups::new(), Wakeups::new()],
        })
    }

    /// Begins a session, with a test that was sent after the clock showed `proved`.
    pub(crate) fn begin(self: &Arc<Self>, proved: Tick) -> Arc<TrackingSession> {
        let session = Arc::new(TrackingSession {
            tracker: Arc::clone(self),
            id: self.sessions.fetch_add(1, Ordering::Relaxed) + 1,
            proved: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        session.prove(proved);
        session
    }

    /// Returns the counter of a key that is about to be read. Must be called before the connection is taken.
    pub(crate) fn mark(&self, name: &str) -> Mark {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let slot = self.slot(name.as_bytes());
        let count = self.counters[slot].load(Ordering::Relaxed);
        // There are fewer slots than 2^32.
        let slot = slot as u32;
        Mark { slot, count }
    }

    fn slot(&self, name: &[u8]) -> usize {
        // guard: TR4c
        if name == self.all.as_bytes() {
            return ALL;
        }
        let hash = self.hash.hash_one(name) as usize;
        if name.starts_with(self.tenants.as_bytes()) {
            ENTRIES + hash % GENERATIONS
        } else {
            hash % ENTRIES
        }
    }

    /// Takes a push for a key.
    pub(crate) fn changed(&self, name: &[u8]) {
        let slot = self.slot(name);
        self.counters[slot].fetch_add(1, Ordering::Relaxed);
        // Release, and last: whoever sees it sees the counter. guard: IL9 IL10
        self.pushes.fetch_add(1, Ordering::Release);
        self.waiting(slot).notify_waiters();
    }

    /// Returns what those wait for who wait for a push for the key.
    pub(crate) fn changes_of(&self, name: &str) -> &Notify {
        self.waiting(self.slot(name.as_bytes()))
    }

    fn waiting(&self, slot: usize) -> &Notify {
        // guard: TR4b
        self.wakeups[usize::from(slot >= ENTRIES)].at(slot)
    }

    /// Takes a push for all keys, as after `FLUSHALL`.
    pub(crate) fn all_changed(&self) {
        for counter in &self.counters {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.pushes.fetch_add(1, Ordering::Release);
        self.wakeups.iter().for_each(Wakeups::wake_all);
    }

    /// Returns how many pushes have arrived.
    pub(crate) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::Acquire)
    }

    /// Returns whether the connection that sends the reads is tracked. Only the reply to each read says so
    /// reliably.
    pub(crate) fn is_on(&self) -> bool {
        self.present.load(Ordering::Relaxed) != 0
    }

    /// Returns whether a session was proved within `bound` before `now`.
    pub(crate) fn is_proved(&self, now: Tick, bound: Duration) -> bool {
        let latest = self.latest.load(Ordering::Relaxed);
        latest != 0 && now.since(Tick(latest)) < bound
    }

    pub(crate) fn counts(&self) -> TrackingCounts {
        TrackingCounts {
            is_on: self.is_on(),
            watches: self.watches.load(Ordering::Relaxed),
            pushes: self.pushes.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
        }
    }
}

impl TrackingSession {
    /// Takes the answer to a heartbeat that was sent in this session, with tracking on, after the clock showed
    /// `sent`.
    pub(crate) fn prove(&self, sent: Tick) {
        // Release: whoever sees the proof sees every push that preceded the answer. guard: IL7
        self.proved.fetch_max(sent.0, Ordering::Release);
        self.tracker.latest.fetch_max(sent.0, Ordering::Relaxed);
    }

    /// Makes it the session of the reads from now on.
    pub(crate) fn enter(&self) {
        self.tracker.present.store(self.id, Ordering::Relaxed);
    }

    /// Ends the session for good. What it proved so far stays proved.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let (id, none, order) = (self.id, 0, Ordering::Relaxed);
        let _ = self
            .tracker
            .present
            .compare_exchange(id, none, order, order);
    }

    /// Returns whether no further heartbeat may be sent for it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// Creates the watch of a key that was read in `session`, with tracking on.
    pub(crate) fn new(session: Arc<TrackingSession>, mark: Mark) -> Self {
        session.tracker.watches.fetch_add(1, Ordering::Relaxed);
        Self { session, mark }
    }

    /// Returns when the key last had the value that was read: after the clock showed this. Returns `None` if it
    /// changed since.
    pub(crate) fn proved(&self) -> Option<Tick> {
        // In this order: in the other one, the push and the heartbeat's answer could both arrive in between. guard: IL8
        let proved = self.session.proved.load(Ordering::Acquire);
        self.is_current().then_some(Tick(proved))
    }

    /// Returns whether no push for the key has arrived.
    pub(crate) fn is_current(&self) -> bool {
        let Mark { slot, count } = self.mark;
        self.session.tracker.counters[slot as usize].load(Ordering::Relaxed) == count
    }

    /// Returns whether its connection still sends the reads, so that its heartbeats go on.
    pub(crate) fn goes_on(&self) -> bool {
        self.session.tracker.present.load(Ordering::Relaxed) == self.session.id
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watches = &self.session.tracker.watches;
        watches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, interleavings))]
mod interleavings;

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn tracker() -> Arc<Tracker> {
        Tracker::new("ns:tokens".to_owned(), "ns:tenant:".to_owned())
    }

    #[test]
    fn a_push_ends_the_watch_of_its_key_and_of_no_tenant() {
        let tracker = tracker();
        let session = tracker.begin(Tick(5));
        let watch = |name: &str| Watch::new(Arc::clone(&session), tracker.mark(name));
        let (one, tenant) = (watch("ns:token:{1}"), watch("ns:tenant:{1}"));
        for n in 0..200_000 {
            tracker.changed(format!("ns:token:{{{n}}}").as_bytes());
        }
        assert!(!one.is_current() && tenant.is_current());
        assert_eq!(tenant.proved(), Some(Tick(5)));
        tracker.changed(b"ns:tenant:{1}");
        assert!(!tenant.is_current());
    }

    #[test]
    fn a_push_without_a_key_ends_all_watches() {
        let tracker = tracker();
        let session = tracker.begin(Tick(5));
        let watches =
            ["a", "ns:tenant:{1}"].map(|name| Watch::new(Arc::clone(&session), tracker.mark(name)));
        assert_eq!(tracker.counts().watches, 2);
        tracker.all_changed();
        assert!(watches.iter().all(|watch| watch.proved().is_none()));
        drop(watches);
        assert_eq!(tracker.counts().watches, 0);
    }

    /// Returns which of those who wait for the keys each step wakes.
    fn woken<const N: usize>(
        tracker: &Tracker,
        names: [&str; N],
        steps: &[&dyn Fn()],
    ) -> Vec<[bool; N]> {
        let mut context = Context::from_waker(Waker::noop());
        let woken = steps.iter().map(|step| {
            let waiting = names.map(|name| Box::pin(tracker.changes_of(name).notified()));
            let mut enabled = waiting.map(|mut it| {
                it.as_mut().enable();
                it
            });
            step();
            std::array::from_fn(|n| enabled[n].as_mut().poll(&mut context).is_ready())
        });
        woken.collect()
    }

    #[test]
    fn a_push_for_a_token_wakes_no_stream_of_a_tenant() {
        let tracker = tracker();
        let tokens = || {
            for n in 0..200_000 {
                tracker.changed(format!("ns:token:{{{n}}}").as_bytes());
            }
        };
        let tenants = || {
            for n in 0..200_000 {
                tracker.changed(format!("ns:tenant:{{{n}}}").as_bytes());
            }
        };
        let steps: [&dyn Fn(); 3] = [&tokens, &tenants, &|| tracker.all_changed()];
        let woken = woken(&tracker, ["ns:token:{1}", "ns:tenant:{1}"], &steps);
        assert_eq!(woken, [[true, false], [false, true], [true, true]]);
    }

    #[test]
    fn nothing_but_its_own_push_ends_the_watch_of_the_generation_of_all() {
        let tracker = tracker();
        let session = tracker.begin(Tick(5));
        let watch = Watch::new(session, tracker.mark("ns:tokens"));
        for n in 0..200_000 {
            tracker.changed(format!("ns:token:{{{n}}}").as_bytes());
            tracker.changed(format!("ns:tenant:{{{n}}}").as_bytes());
        }
        assert!(watch.is_current());
        tracker.changed(b"ns:tokens");
        assert!(!watch.is_current());
    }

    #[test]
    fn a_session_that_ends_late_does_not_end_its_successor() {
        let tracker = tracker();
        let (first, second) = (tracker.begin(Tick(5)), tracker.begin(Tick(6)));
        first.enter();
        second.enter();
        first.end();
        assert!(tracker.is_on() && first.has_ended());
        let watch = Watch::new(Arc::clone(&first), tracker.mark("a"));
        assert!(!watch.goes_on() && watch.proved() == Some(Tick(5)));
        second.end();
        assert!(!tracker.is_on());
    }

    #[test]
    fn a_late_heartbeat_does_not_move_a_proof_back() {
        let tracker = tracker();
        let session = tracker.begin(Tick(5));
        session.prove(Tick(9));
        session.prove(Tick(7));
        let watch = Watch::new(session, tracker.mark("a"));
        assert_eq!(watch.proved(), Some(Tick(9)));
    }
}
