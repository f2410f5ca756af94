//! Single flight, sealed: who may share a flight's answer (PROTOCOL.md section 3).
//!
//! A joiner who simply took the answer of the flight it found would break the promise without any
//! fault: the flight may have read the database before a revocation that the joiner started after
//! (N6). So a flight counts its sends, a joiner remembers the count, and an answer is handed only to
//! those who joined before the send that proves it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

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
    /// Nothing for anybody: a refresh in the background that met trouble. Waiters start anew.
    Abandoned,
}

type Published<T, E> = Option<Landing<T, E>>;

struct Flight<T, E> {
    sends: AtomicU32,
    landing: watch::Sender<Published<T, E>>,
}

type Shard<K, T, E> = Mutex<HashMap<K, Arc<Flight<T, E>>>>;

/// All flights of one kind in this process, at most one for each key.
pub(crate) struct Flights<K, T, E> {
    shards: [Shard<K, T, E>; SHARDS],
    hasher: RandomState,
}

/// A place in a flight.
pub(crate) struct Ticket<T, E> {
    landing: watch::Receiver<Published<T, E>>,
    joined_at: SendNumber,
}

/// The one who flies it. Dropped without landing (a panic), it releases everybody.
pub(crate) struct Leader<K: Hash + Eq, T, E> {
    flights: Arc<Flights<K, T, E>>,
    flight: Arc<Flight<T, E>>,
    key: K,
}

/// What boarding gave.
pub(crate) enum Boarding<K: Hash + Eq, T, E> {
    /// A new flight, to be flown by a task of its own.
    Leads(Leader<K, T, E>, Ticket<T, E>),
    Joins(Ticket<T, E>),
}

impl<K, T, E> Default for Flights<K, T, E> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Hash + Eq + Clone, T, E> Flights<K, T, E> {
    /// Joins the flight of `key`, or starts it.
    pub(crate) fn board(self: &Arc<Self>, key: &K) -> Boarding<K, T, E> {
        let mut shard = self.shard(key);
        if let Some(flight) = shard.get(key) {
            return Boarding::Joins(Ticket {
                landing: flight.landing.subscribe(),
                joined_at: SendNumber(flight.sends.load(Ordering::SeqCst)),
            });
        }
        let (landing, receiver) = watch::channel(None);
        let flight = Arc::new(Flight {
            sends: AtomicU32::new(0),
            landing,
        });
        shard.insert(key.clone(), Arc::clone(&flight));
        let leader = Leader {
            flights: Arc::clone(self),
            flight,
            key: key.clone(),
        };
        let ticket = Ticket {
            landing: receiver,
            joined_at: SendNumber(0),
        };
        Boarding::Leads(leader, ticket)
    }

    /// Starts the flight of `key` unless there is one: for a refresh that nobody waits for.
    pub(crate) fn lead(self: &Arc<Self>, key: &K) -> Option<Leader<K, T, E>> {
        match self.board(key) {
            Boarding::Leads(leader, _) => Some(leader),
            Boarding::Joins(_) => None,
        }
    }
}

impl<K: Hash + Eq, T, E> Flights<K, T, E> {
    /// How many are under way.
    #[cfg(feature = "test-util")]
    pub(crate) fn len(&self) -> usize {
        let len =
            |shard: &Shard<K, T, E>| shard.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(len).sum()
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, Arc<Flight<T, E>>>> {
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[usize::try_from(hash >> 57).unwrap_or(0) % SHARDS];
        // No user code runs under the lock; what a panic left behind is whole.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq, T, E> Leader<K, T, E> {
    /// To be called immediately before each send that may become a proof.
    pub(crate) fn send(&self) -> SendNumber {
        SendNumber(self.flight.sends.fetch_add(1, Ordering::SeqCst) + 1)
    }

    pub(crate) fn land(self, landing: Landing<T, E>) {
        self.close();
        self.flight.landing.send_replace(Some(landing));
    }

    /// Nobody joins any more: whoever comes from now on starts a new flight.
    fn close(&self) {
        let mut shard = self.flights.shard(&self.key);
        if shard
            .get(&self.key)
            .is_some_and(|present| Arc::ptr_eq(present, &self.flight))
        {
            shard.remove(&self.key);
        }
    }
}

impl<K: Hash + Eq, T, E> Drop for Leader<K, T, E> {
    fn drop(&mut self) {
        // A panic or an aborted runtime: the ticket holders see the channel close.
        self.close();
    }
}

impl<T: Clone, E: Clone> Ticket<T, E> {
    /// Waits for the landing. `None`: the answer is not for us, board anew. `Err(None)`: the flight
    /// broke off.
    pub(crate) async fn wait(mut self) -> Option<Result<T, Option<E>>> {
        let Ok(landing) = self.landing.wait_for(Option::is_some).await else {
            return Some(Err(None));
        };
        match &*landing {
            Some(Landing::Answered { answer, proof }) if self.joined_at < *proof => {
                Some(Ok(answer.clone()))
            }
            Some(Landing::Failed(error)) => Some(Err(Some(error.clone()))),
            Some(Landing::Answered { .. } | Landing::Abandoned) | None => None,
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

    #[tokio::test]
    async fn an_answer_is_shared_with_those_who_joined_before_its_proof_was_sent() {
        let flights = Arc::new(Answers::default());
        let (leader, first) = lead(&flights);
        leader.send();
        let before = join(&flights);
        let proof = leader.send();
        let after = join(&flights);
        leader.land(Landing::Answered { answer: 7, proof });
        assert_eq!(first.wait().await, Some(Ok(7)));
        assert_eq!(before.wait().await, Some(Ok(7)));
        assert_eq!(after.wait().await, None);
    }

    #[tokio::test]
    async fn a_failure_is_shared_with_everybody_and_an_abandoned_flight_with_nobody() {
        let flights = Arc::new(Answers::default());
        let (leader, first) = lead(&flights);
        leader.send();
        let late = join(&flights);
        leader.land(Landing::Failed("no"));
        assert_eq!(first.wait().await, Some(Err(Some("no"))));
        assert_eq!(late.wait().await, Some(Err(Some("no"))));

        let (leader, first) = lead(&flights);
        leader.land(Landing::Abandoned);
        assert_eq!(first.wait().await, None);
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_releases_everybody_and_the_key() {
        let flights = Arc::new(Answers::default());
        let (leader, first) = lead(&flights);
        let second = join(&flights);
        drop(leader);
        assert_eq!(first.wait().await, Some(Err(None)));
        assert_eq!(second.wait().await, Some(Err(None)));
        let (_leader, _) = lead(&flights);
        assert!(
            flights.lead(&"k").is_none(),
            "a refresh does not double a flight"
        );
    }
}
