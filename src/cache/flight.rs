//! Single flight, sealed: who may share a flight's answer (protocol.md section 3).
//!
//! A joiner who simply took the answer of the flight it found would break the promise without any
//! fault: the flight may have read the database before a revocation that the joiner started after
//! (N6). So a flight counts its sends, a joiner remembers the count, and an answer is handed only to
//! those who joined before the send that proves it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::pilot::{Pilot, Work};
use crate::util::lock;

const SHARDS: usize = 16;

/// A send's number within its flight. The counter moves immediately *before* the send, so whoever
/// remembers a smaller number joined before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SendNumber(u32);

/// How a flight ended.
#[derive(Debug, Clone)]
pub(crate) enum Landing<T, E> {
    /// An answer, for those who joined before the proof was sent.
    Answered { answer: T, proof: SendNumber },
    /// It proves nothing and claims nothing: for everybody.
    Failed(E),
    /// Nothing for anybody: a refresh in the background that met trouble.
    Abandoned,
    /// It broke off (a panic, the end of a runtime): for everybody.
    Broken,
}

/// A landing, and the flight of those whom it did not serve.
struct Published<T, E> {
    landing: Landing<T, E>,
    onward: Option<Arc<Flight<T, E>>>,
}

struct Flight<T, E> {
    sends: AtomicU32,
    began: Instant,
    /// When the last send was, in nanoseconds since it began.
    sent: AtomicU64,
    /// One more than the highest count that a ticket holder joined at; 0: nobody waits.
    boarded: AtomicU32,
    pilot: Pilot,
    landing: OnceLock<Published<T, E>>,
    landed: Notify,
    patience: Duration,
}

impl<T, E> Drop for Flight<T, E> {
    /// Flights follow each other for as long as somebody comes too late for the last. Whoever is not
    /// polled meanwhile holds them all: dropped from within each other they would need a stack for it.
    fn drop(&mut self) {
        let mut next = following(&mut self.landing);
        while let Some(mut flight) = next.and_then(Arc::into_inner) {
            next = following(&mut flight.landing);
        }
    }
}

fn following<T, E>(landing: &mut OnceLock<Published<T, E>>) -> Option<Arc<Flight<T, E>>> {
    landing.get_mut()?.onward.take()
}

impl<T, E> Flight<T, E> {
    fn new(pilot: Pilot, boarded: u32, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            sends: AtomicU32::new(0),
            began: Instant::now(),
            sent: AtomicU64::new(0),
            boarded: AtomicU32::new(boarded),
            pilot,
            landing: OnceLock::new(),
            landed: Notify::new(),
            patience,
        })
    }

    /// When it is taken for one that stands still, unless it sends before.
    fn due(&self) -> Instant {
        self.began + Duration::from_nanos(self.sent.load(Ordering::Relaxed)) + self.patience
    }

    /// Whether nobody drives the runtime that flies it, as between two calls of `block_on`.
    fn stands_still(&self) -> bool {
        Instant::now() >= self.due()
    }

    /// To be called under the shard's lock, so that no landing comes between the two.
    fn join(self: &Arc<Self>) -> Ticket<T, E> {
        let joined_at = self.sends.load(Ordering::SeqCst);
        self.boarded.fetch_max(joined_at + 1, Ordering::SeqCst);
        Ticket {
            flight: Arc::clone(self),
            joined_at: SendNumber(joined_at),
        }
    }

    fn publish(&self, landing: Landing<T, E>, onward: Option<Arc<Self>>) {
        // A flight lands once.
        let _ = self.landing.set(Published { landing, onward });
        self.landed.notify_waiters();
    }

    /// How it ended, unless it stands still.
    async fn landing(&self) -> Option<&Published<T, E>> {
        loop {
            // Before the look: a landing between the two is not missed.
            let landed = self.landed.notified();
            if let Some(published) = self.landing.get() {
                return Some(published);
            }
            let waited = timeout_at(self.due(), landed).await;
            if waited.is_err() && self.stands_still() {
                return None;
            }
        }
    }
}

type Shard<K, T, E> = Mutex<HashMap<K, Arc<Flight<T, E>>>>;

/// All flights of one kind in this process: at most one for each key, apart from those that stand still.
pub(crate) struct Flights<K, T, E> {
    shards: [Shard<K, T, E>; SHARDS],
    hasher: RandomState,
    /// A flight that has sent nothing for so long stands still.
    patience: Duration,
}

/// A place in a flight.
pub(crate) struct Ticket<T, E> {
    flight: Arc<Flight<T, E>>,
    joined_at: SendNumber,
}

/// The one who flies it. Dropped without landing (a panic), it releases everybody.
pub(crate) struct Leader<K: Hash + Eq, T, E> {
    flights: Arc<Flights<K, T, E>>,
    flight: Arc<Flight<T, E>>,
    key: K,
    landed: bool,
}

/// What boarding gave.
pub(crate) enum Boarding<K: Hash + Eq, T, E> {
    /// A new flight, to be flown by [`Ticket::fly`].
    Leads(Leader<K, T, E>, Ticket<T, E>),
    Joins(Ticket<T, E>),
}

/// What a landing is to a ticket holder.
pub(crate) enum Arrival<T, E> {
    Served(Result<T, Option<E>>),
    /// The answer is not for them, and the next flight's is: they are in it from before its first send.
    Onward(Ticket<T, E>),
    /// The flight stands still. Who boards again begins another in its place.
    StandsStill,
}

impl<K, T, E> Flights<K, T, E> {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            patience,
        }
    }
}

impl<K: Hash + Eq + Clone, T, E> Flights<K, T, E> {
    /// Joins the flight of `key`, or starts it. To be called within a runtime: who joins does not
    /// depend on whether its caller goes on polling. One that stands still gives way: whatever becomes of
    /// it later, its answer is for those alone who joined before its proof was sent.
    pub(crate) fn board(self: &Arc<Self>, key: &K) -> Boarding<K, T, E> {
        let mut shard = self.shard(key);
        if let Some(flight) = shard.get(key).filter(|flight| !flight.stands_still()) {
            // Outside of a runtime it panics, before it takes a flight from whoever flies it.
            let _ = Handle::current();
            let ticket = flight.join();
            drop(shard);
            ticket.flight.pilot.leave_to_a_task();
            return Boarding::Joins(ticket);
        }
        let flight = Flight::new(Pilot::caller(), 0, self.patience);
        let ticket = flight.join();
        shard.insert(key.clone(), Arc::clone(&flight));
        Boarding::Leads(self.leader(flight, key), ticket)
    }

    /// Starts the flight of `key` unless there is one: for a refresh that nobody waits for, to be
    /// flown by a task.
    pub(crate) fn lead(self: &Arc<Self>, key: &K) -> Option<Leader<K, T, E>> {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|flight| !flight.stands_still()) {
            return None;
        }
        let flight = Flight::new(Pilot::task(), 0, self.patience);
        shard.insert(key.clone(), Arc::clone(&flight));
        Some(self.leader(flight, key))
    }

    fn leader(self: &Arc<Self>, flight: Arc<Flight<T, E>>, key: &K) -> Leader<K, T, E> {
        Leader {
            flights: Arc::clone(self),
            flight,
            key: key.clone(),
            landed: false,
        }
    }
}

impl<K: Hash + Eq, T, E> Flights<K, T, E> {
    /// How many are under way.
    #[cfg(feature = "test-util")]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, Arc<Flight<T, E>>>> {
        let hash = self.hasher.hash_one(key);
        lock(&self.shards[usize::try_from(hash >> 57).unwrap_or(0) % SHARDS])
    }
}

impl<K: Hash + Eq, T, E> Leader<K, T, E> {
    /// To be called immediately before each send that may become a proof.
    pub(crate) fn send(&self) -> SendNumber {
        let flight = &self.flight;
        let since = u64::try_from(flight.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        flight.sent.store(since, Ordering::Relaxed);
        SendNumber(flight.sends.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// From here on it waits for more than the store, and may hold what others wait for.
    pub(crate) async fn become_a_task(&self) {
        self.flight.pilot.become_a_task().await;
    }
}

impl<K: Hash + Eq + Clone, T, E> Leader<K, T, E> {
    /// Ends the flight. Where somebody is left whom the answer is not for, all of them together are
    /// in one new flight, which the caller flies: were each to board anew, the first would be off
    /// before the others had come.
    pub(crate) fn land(mut self, landing: Landing<T, E>) -> Option<Self> {
        self.landed = true;
        let onward = self.close(|boarded| match &landing {
            Landing::Answered { proof, .. } => boarded > proof.0,
            Landing::Abandoned => boarded > 0,
            Landing::Failed(_) | Landing::Broken => false,
        });
        let next = onward
            .as_ref()
            .map(|flight| self.flights.leader(Arc::clone(flight), &self.key));
        self.flight.publish(landing, onward);
        next
    }
}

impl<K: Hash + Eq, T, E> Leader<K, T, E> {
    /// Nobody joins any more: whoever comes from now on is in the next flight, the one that is made
    /// here if `leaves_some` says so of the highest place taken, or one of their own.
    fn close(&self, leaves_some: impl FnOnce(u32) -> bool) -> Option<Arc<Flight<T, E>>> {
        let mut shard = self.flights.shard(&self.key);
        let leaves_some = leaves_some(self.flight.boarded.load(Ordering::SeqCst));
        // Whoever flies this one flies the next.
        let next = leaves_some.then(|| Flight::new(Pilot::task(), 1, self.flight.patience));
        // Where it stood still, another may have taken its place: then nobody finds the next one.
        if let Some(present) = shard.get_mut(&self.key)
            && Arc::ptr_eq(present, &self.flight)
        {
            match &next {
                Some(next) => *present = Arc::clone(next),
                None => drop(shard.remove(&self.key)),
            }
        }
        next
    }
}

impl<K: Hash + Eq, T, E> Drop for Leader<K, T, E> {
    fn drop(&mut self) {
        if !self.landed {
            self.close(|_| false);
            self.flight.publish(Landing::Broken, None);
        }
    }
}

impl<T, E> Ticket<T, E> {
    /// Flies the flight that was begun with this ticket, until it lands or a task has taken it over.
    pub(crate) async fn fly(&self, work: Work) {
        self.flight.pilot.fly(work).await;
    }
}

impl<T: Clone, E: Clone> Ticket<T, E> {
    /// Waits for the landing, while the flight sends something now and then. `Err(None)`: it broke off.
    pub(crate) async fn wait(self) -> Arrival<T, E> {
        let Some(published) = self.flight.landing().await else {
            return Arrival::StandsStill;
        };
        let Published { landing, onward } = published;
        match (landing, onward) {
            (Landing::Answered { answer, proof }, _) if self.joined_at < *proof => {
                Arrival::Served(Ok(answer.clone()))
            }
            (Landing::Failed(error), _) => Arrival::Served(Err(Some(error.clone()))),
            (_, Some(next)) => Arrival::Onward(Ticket {
                flight: Arc::clone(next),
                joined_at: SendNumber(0),
            }),
            (_, None) => Arrival::Served(Err(None)),
        }
    }
}

impl<K, T, E> fmt::Debug for Flights<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    type Answers = Flights<&'static str, u32, &'static str>;

    fn lead(
        flights: &Arc<Answers>,
    ) -> (
        Leader<&'static str, u32, &'static str>,
        Ticket<u32, &'static str>,
    ) {
        match flights.board(&"k") {
            Boarding::Leads(leader, ticket) => (leader, ticket),
            Boarding::Joins(_) => panic!("there is a flight already"),
        }
    }

    fn join(flights: &Arc<Answers>) -> Ticket<u32, &'static str> {
        match flights.board(&"k") {
            Boarding::Leads(..) => panic!("there is no flight"),
            Boarding::Joins(ticket) => ticket,
        }
    }

    async fn served(
        ticket: Ticket<u32, &'static str>,
    ) -> Option<Result<u32, Option<&'static str>>> {
        match ticket.wait().await {
            Arrival::Served(result) => Some(result),
            Arrival::Onward(_) | Arrival::StandsStill => None,
        }
    }

    async fn onward(ticket: Ticket<u32, &'static str>) -> Ticket<u32, &'static str> {
        match ticket.wait().await {
            Arrival::Onward(ticket) => ticket,
            Arrival::Served(result) => panic!("{result:?}"),
            Arrival::StandsStill => panic!("it stands still"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_shared_with_those_who_joined_before_its_proof_was_sent() {
        let flights = Arc::new(Answers::new(PATIENCE));
        let (leader, first) = lead(&flights);
        leader.send();
        let before = join(&flights);
        let proof = leader.send();
        let after = join(&flights);
        assert!(
            leader
                .land(Landing::Answered { answer: 7, proof })
                .is_some()
        );
        assert_eq!(served(first).await, Some(Ok(7)));
        assert_eq!(served(before).await, Some(Ok(7)));
        assert_eq!(served(after).await, None);
    }

    #[tokio::test]
    async fn all_who_came_too_late_are_in_one_next_flight_from_before_its_first_send() {
        let flights = Arc::new(Answers::new(PATIENCE));
        let (leader, first) = lead(&flights);
        let proof = leader.send();
        let late = [join(&flights), join(&flights), join(&flights)];
        let next = leader.land(Landing::Answered { answer: 7, proof }).unwrap();
        assert_eq!(served(first).await, Some(Ok(7)));
        // The next flight is under way before any of them has woken up.
        let proof = next.send();
        let newcomer = join(&flights);
        let last = next.land(Landing::Answered { answer: 8, proof }).unwrap();
        for ticket in late {
            assert_eq!(served(onward(ticket).await).await, Some(Ok(8)));
        }
        let proof = last.send();
        assert!(
            last.land(Landing::Answered { answer: 9, proof }).is_none(),
            "nobody is left"
        );
        assert_eq!(served(onward(newcomer).await).await, Some(Ok(9)));
        let _new = lead(&flights);
    }

    #[tokio::test]
    async fn a_failure_is_shared_with_everybody_and_an_abandoned_flight_with_nobody() {
        let flights = Arc::new(Answers::new(PATIENCE));
        let (leader, first) = lead(&flights);
        leader.send();
        let late = join(&flights);
        assert!(leader.land(Landing::Failed("no")).is_none());
        assert_eq!(served(first).await, Some(Err(Some("no"))));
        assert_eq!(served(late).await, Some(Err(Some("no"))));

        let refresh = flights.lead(&"k").unwrap();
        assert!(
            refresh.land(Landing::Abandoned).is_none(),
            "nobody waits for it"
        );
        let refresh = flights.lead(&"k").unwrap();
        let joined = join(&flights);
        let next = refresh.land(Landing::Abandoned).unwrap();
        let proof = next.send();
        next.land(Landing::Answered { answer: 1, proof });
        assert_eq!(served(onward(joined).await).await, Some(Ok(1)));
    }

    #[tokio::test]
    async fn whoever_is_not_polled_while_flights_follow_each_other_lets_go_of_them_all() {
        let flights = Arc::new(Answers::new(PATIENCE));
        let (mut leader, not_polled) = lead(&flights);
        for answer in 0..100_000 {
            let proof = leader.send();
            let _late = join(&flights);
            leader = leader.land(Landing::Answered { answer, proof }).unwrap();
        }
        drop(leader);
        drop(not_polled);
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_releases_everybody_and_the_key() {
        let flights = Arc::new(Answers::new(PATIENCE));
        let (leader, first) = lead(&flights);
        let second = join(&flights);
        drop(leader);
        assert_eq!(served(first).await, Some(Err(None)));
        assert_eq!(served(second).await, Some(Err(None)));
        let (_leader, _) = lead(&flights);
        assert!(
            flights.lead(&"k").is_none(),
            "a refresh does not double a flight"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_that_stands_still_gives_way_and_its_answer_is_for_whom_it_was() {
        let flights = Arc::new(Answers::new(PATIENCE));
        let (still, first) = lead(&flights);
        tokio::time::advance(PATIENCE / 2).await;
        // A send shows that somebody flies it.
        let proof = still.send();
        tokio::time::advance(PATIENCE / 2).await;
        let (late, waits) = (join(&flights), join(&flights));
        assert!(matches!(waits.wait().await, Arrival::StandsStill));

        let (leader, ticket) = lead(&flights);
        let _joins = join(&flights);
        let next = still.land(Landing::Answered { answer: 7, proof });
        assert_eq!(served(first).await, Some(Ok(7)));
        // Who joined too late is in a flight of its own, which nobody else finds.
        let next = next.expect("somebody is left");
        let _joins_too = join(&flights);
        let proof = next.send();
        assert!(next.land(Landing::Answered { answer: 8, proof }).is_none());
        assert_eq!(served(onward(late).await).await, Some(Ok(8)));

        let proof = leader.send();
        assert!(
            leader
                .land(Landing::Answered { answer: 9, proof })
                .is_none()
        );
        assert_eq!(served(ticket).await, Some(Ok(9)));
        assert!(flights.lead(&"k").is_some(), "no flight is left");
    }
}
