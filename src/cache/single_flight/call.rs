//! Calls that concurrent callers share, and who may share a call's answer (protocol.md section 3).
//!
//! A caller that took the answer of whatever call it found would break the promise without any fault: the
//! call may have read the database before a revocation that the caller started after (N6). So a call counts
//! its sends, a waiter remembers the count, and an answer is for those alone who joined before the send that
//! proves it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::work::Work;
use crate::util::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::util::sync::{
    Mutex, MutexGuard, Notify, OnceLock, number_of, spawn_stealable, timeout_at,
};
use crate::util::unpoisoned;

const SHARDS: usize = number_of(16);

/// The number of counters of lookups: 16 KiB. Two keys that share one are taken for each other, which costs a call.
const STRIPES: usize = number_of(4_096);

/// The number of a send within its call. The counter is incremented immediately *before* the send, so that
/// a waiter with a smaller number joined before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SendNumber(u32);

impl SendNumber {
    /// The number of a send from before the call, which proves nothing to those who joined it.
    pub(crate) const BEFORE: Self = Self(0);
}

/// How a call ended.
#[derive(Debug, Clone)]
pub(crate) enum Completion<T, E> {
    /// An answer, for those who joined before the send `proof`.
    Answered { answer: T, proof: SendNumber },
    /// An error, delivered to every waiter: it proves nothing.
    Failed(E),
    /// Nothing for anybody: a refresh in the background failed.
    Abandoned,
    /// The call was interrupted by a panic or the end of a runtime, an error for every waiter.
    Broken,
}

/// Why a call gave its caller no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallError<E> {
    Failed(E),
    /// The call was interrupted.
    Broken,
    /// Two calls stalled one after the other.
    Stalled,
}

/// A completion, and the call of those whom it did not serve.
struct Done<T, E> {
    completion: Completion<T, E>,
    next: Option<Arc<Call<T, E>>>,
}

struct Call<T, E> {
    sends: AtomicU32,
    began: Instant,
    /// When the last send was, in nanoseconds since the call began.
    sent: AtomicU64,
    /// One more than the highest count that a waiter joined at; 0: nobody waits.
    joined: AtomicU32,
    done: OnceLock<Done<T, E>>,
    completed: Notify,
    stall_after: Duration,
}

impl<T, E> Drop for Call<T, E> {
    /// Calls follow each other for as long as somebody comes too late for the last. A waiter that is not
    /// polled meanwhile holds them all; dropped from within each other they would overflow the stack.
    fn drop(&mut self) {
        let mut next = take_next(&mut self.done);
        while let Some(mut call) = next.and_then(Arc::into_inner) {
            next = take_next(&mut call.done);
        }
    }
}

fn take_next<T, E>(done: &mut OnceLock<Done<T, E>>) -> Option<Arc<Call<T, E>>> {
    done.get_mut()?.next.take()
}

impl<T, E> Call<T, E> {
    fn new(joined: u32, stall_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            sends: AtomicU32::new(0),
            began: Instant::now(),
            sent: AtomicU64::new(0),
            joined: AtomicU32::new(joined),
            done: OnceLock::new(),
            completed: Notify::new(),
            stall_after,
        })
    }

    /// When the call counts as stalled, unless it sends something before.
    fn due(&self) -> Instant {
        self.began + Duration::from_nanos(self.sent.load(Ordering::Relaxed)) + self.stall_after
    }

    /// Whether nobody drives the runtime that the call is polled by, as between two calls of `block_on`.
    fn is_stalled(&self) -> bool {
        Instant::now() >= self.due()
    }

    /// Joins. Must be called under the shard's lock, so that the call does not complete in between.
    fn join(self: &Arc<Self>) -> Waiter<T, E> {
        let joined_at = self.sends.load(Ordering::SeqCst);
        self.joined.fetch_max(joined_at + 1, Ordering::SeqCst);
        Waiter {
            call: Arc::clone(self),
            joined_at: SendNumber(joined_at),
        }
    }

    fn finish(&self, completion: Completion<T, E>, next: Option<Arc<Self>>) {
        // A call completes once. guard: IL14
        let _ = self.done.set(Done { completion, next });
        self.completed.notify_waiters();
    }

    /// Waits for the completion. `None`: the call stalled.
    async fn done(&self) -> Option<&Done<T, E>> {
        loop {
            // Before the look, so that a completion between the two is not missed. guard: IL13
            let completed = self.completed.notified();
            if let Some(done) = self.done.get() {
                return Some(done);
            }
            let waited = timeout_at(self.due(), completed).await;
            if waited.is_err() && self.is_stalled() {
                return None;
            }
        }
    }
}

type Shard<K, T, E> = Mutex<HashMap<K, Arc<Call<T, E>>>>;

/// All calls of one kind in this process: at most one per key, apart from stalled ones.
pub(crate) struct SingleFlight<K, T, E> {
    shards: [Shard<K, T, E>; SHARDS],
    hasher: RandomState,
    /// The numbers of calls, and of lookups without one, for the keys of each stripe.
    present: Box<[AtomicU32]>,
    /// How long a call may go without a send before it counts as stalled.
    stall_after: Duration,
}

/// A place in a call.
pub(crate) struct Waiter<T, E> {
    call: Arc<Call<T, E>>,
    joined_at: SendNumber,
}

/// The right to complete a call. Dropped before (by a panic), it releases every waiter.
pub(crate) struct Leader<K: Hash + Eq, T, E> {
    calls: Arc<SingleFlight<K, T, E>>,
    call: Arc<Call<T, E>>,
    key: K,
    stripe: usize,
    completed: bool,
}

/// A lookup of a key that no other lookup is under way for.
pub(crate) struct Alone<'a>(&'a AtomicU32);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The result of joining.
pub(crate) enum Joined<K: Hash + Eq, T, E> {
    /// A new call, whose work is to begin.
    New(Leader<K, T, E>, Waiter<T, E>),
    Existing(Waiter<T, E>),
}

/// What a completion is for a waiter.
enum Waited<T, E> {
    Served(Result<T, CallError<E>>),
    /// The answer is not for this waiter. The next call's is: the waiter is in it from before its first send.
    Next(Waiter<T, E>),
    Stalled,
}

impl<K, T, E> SingleFlight<K, T, E> {
    pub(crate) fn new(stall_after: Duration) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            present: (0..STRIPES).map(|_| AtomicU32::new(0)).collect(),
            stall_after,
        }
    }
}

impl<K: Hash + Eq + Clone, T: Clone, E: Clone> SingleFlight<K, T, E> {
    /// Joins the call of `key`, or starts one whose work is `begin`'s, and waits for an answer that was
    /// proved after this was called. `joined` is called if the call is another caller's.
    ///
    /// The work is a task of its own: a call that is shared does not depend on whether its caller is still polled.
    ///
    /// Each part of a call has a timeout, but its runtime may not be driven: a stalled call is replaced,
    /// once.
    pub(crate) async fn run(
        self: &Arc<Self>,
        key: &K,
        begin: impl Fn(Leader<K, T, E>) -> Work,
        joined: impl Fn(),
    ) -> Result<T, CallError<E>> {
        // guard: O9
        for _ in 0..2 {
            let mut waiter = match self.join(key) {
                Joined::Existing(waiter) => {
                    joined();
                    waiter
                }
                Joined::New(leader, waiter) => {
                    // guard: J1, J9
                    spawn_stealable(begin(leader));
                    waiter
                }
            };
            loop {
                match waiter.wait().await {
                    Waited::Served(answer) => return answer,
                    Waited::Next(next) => waiter = next,
                    Waited::Stalled => break,
                }
            }
        }
        Err(CallError::Stalled)
    }
}

impl<K: Hash + Eq + Clone, T, E> SingleFlight<K, T, E> {
    /// Joins the call of `key`, or starts one.
    ///
    /// A stalled call is replaced. Whatever becomes of it later, its answer is for those alone who joined
    /// before its proof was sent.
    fn join(self: &Arc<Self>, key: &K) -> Joined<K, T, E> {
        let mut shard = self.shard(key);
        // guard: O11 IL11
        if let Some(call) = shard.get(key).filter(|call| !call.is_stalled()) {
            return Joined::Existing(call.join());
        }
        let call = Call::new(0, self.stall_after);
        let waiter = call.join();
        shard.insert(key.clone(), Arc::clone(&call));
        Joined::New(self.leader(call, key), waiter)
    }

    /// Starts a call of `key` unless there is one: for a refresh that nobody waits for.
    pub(crate) fn lead(self: &Arc<Self>, key: &K) -> Option<Leader<K, T, E>> {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|call| !call.is_stalled()) {
            return None;
        }
        let call = Call::new(0, self.stall_after);
        shard.insert(key.clone(), Arc::clone(&call));
        Some(self.leader(call, key))
    }

    fn leader(self: &Arc<Self>, call: Arc<Call<T, E>>, key: &K) -> Leader<K, T, E> {
        let stripe = self.stripe(key);
        self.present[stripe].fetch_add(1, Ordering::Relaxed);
        Leader {
            calls: Arc::clone(self),
            call,
            key: key.clone(),
            stripe,
            completed: false,
        }
    }
}

impl<K: Hash + Eq, T, E> SingleFlight<K, T, E> {
    /// Returns the number of calls, and of lookups without one, that are under way.
    #[cfg(feature = "test-util")]
    pub(crate) fn len(&self) -> usize {
        let present = self.present.iter();
        present.map(|it| it.load(Ordering::Relaxed) as usize).sum()
    }

    /// Begins a lookup without a call, unless another lookup of the key is under way.
    pub(crate) fn begin_alone(&self, key: &K) -> Option<Alone<'_>> {
        let present = &self.present[self.stripe(key)];
        // guard: J13
        let begun = present.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
        begun.is_ok().then(|| Alone(present))
    }

    fn stripe(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize % STRIPES
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, Arc<Call<T, E>>>> {
        let hash = self.hasher.hash_one(key);
        // No user code runs under the lock.
        let shard = &self.shards[usize::try_from(hash >> 57).unwrap_or(0) % SHARDS];
        unpoisoned(shard.lock())
    }
}

impl<K: Hash + Eq, T, E> Leader<K, T, E> {
    /// Counts a send. Must be called immediately before each send that may become a proof.
    pub(crate) fn send(&self) -> SendNumber {
        let call = &self.call;
        let since = u64::try_from(call.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        call.sent.store(since, Ordering::Relaxed);
        SendNumber(call.sends.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl<K: Hash + Eq + Clone, T, E> Leader<K, T, E> {
    /// Completes the call. All those whom the answer is not for are in one new call, which the caller
    /// drives: if each joined anew, the first would be off before the others had come.
    pub(crate) fn complete(mut self, completion: Completion<T, E>) -> Option<Self> {
        self.completed = true;
        let next = self.close(|joined| match &completion {
            Completion::Answered { proof, .. } => joined > proof.0, // guard: N6b
            Completion::Abandoned => joined > 0,
            Completion::Failed(_) | Completion::Broken => false,
        });
        let leader = next
            .as_ref()
            .map(|call| self.calls.leader(Arc::clone(call), &self.key));
        self.call.finish(completion, next);
        leader
    }
}

impl<K: Hash + Eq, T, E> Leader<K, T, E> {
    /// Closes the call: later callers join the next one. It is created here if `leaves_some` returns `true` for
    /// the highest count that a waiter joined at.
    fn close(&self, leaves_some: impl FnOnce(u32) -> bool) -> Option<Arc<Call<T, E>>> {
        // guard: IL12
        let mut shard = self.calls.shard(&self.key);
        let leaves_some = leaves_some(self.call.joined.load(Ordering::SeqCst));
        // The task of this call goes on with the next one.
        let next = leaves_some.then(|| Call::new(1, self.call.stall_after));
        // If this one stalled, another may have taken its place: then nobody finds the next one. guard: IL15
        if let Some(present) = shard.get_mut(&self.key)
            && Arc::ptr_eq(present, &self.call)
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
        if !self.completed {
            self.close(|_| false);
            self.call.finish(Completion::Broken, None);
        }
        self.calls.present[self.stripe].fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Clone, E: Clone> Waiter<T, E> {
    /// Waits for the completion, while the call sends something now and then.
    async fn wait(self) -> Waited<T, E> {
        let Some(Done { completion, next }) = self.call.done().await else {
            return Waited::Stalled;
        };
        match (completion, next) {
            // guard: N6
            (Completion::Answered { answer, proof }, _) if self.joined_at < *proof => {
                Waited::Served(Ok(answer.clone()))
            }
            (Completion::Failed(error), _) => Waited::Served(Err(CallError::Failed(error.clone()))),
            (_, Some(next)) => Waited::Next(Waiter {
                call: Arc::clone(next),
                joined_at: SendNumber(0),
            }),
            (_, None) => Waited::Served(Err(CallError::Broken)),
        }
    }
}

impl<K, T, E> fmt::Debug for SingleFlight<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").finish_non_exhaustive()
    }
}

#[cfg(all(test, interleavings))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    const STALL_AFTER: Duration = Duration::from_secs(60);

    type Answers = SingleFlight<&'static str, u32, &'static str>;

    fn lead(
        calls: &Arc<Answers>,
    ) -> (
        Leader<&'static str, u32, &'static str>,
        Waiter<u32, &'static str>,
    ) {
        match calls.join(&"k") {
            Joined::New(leader, waiter) => (leader, waiter),
            Joined::Existing(_) => panic!("there is a call already"),
        }
    }

    fn join(calls: &Arc<Answers>) -> Waiter<u32, &'static str> {
        match calls.join(&"k") {
            Joined::New(..) => panic!("there is no call"),
            Joined::Existing(waiter) => waiter,
        }
    }

    async fn served(
        waiter: Waiter<u32, &'static str>,
    ) -> Option<Result<u32, CallError<&'static str>>> {
        match waiter.wait().await {
            Waited::Served(result) => Some(result),
            Waited::Next(_) | Waited::Stalled => None,
        }
    }

    async fn next_of(waiter: Waiter<u32, &'static str>) -> Waiter<u32, &'static str> {
        match waiter.wait().await {
            Waited::Next(waiter) => waiter,
            Waited::Served(result) => panic!("{result:?}"),
            Waited::Stalled => panic!("it is stalled"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_shared_with_those_who_joined_before_its_proof_was_sent() {
        let calls = Arc::new(Answers::new(STALL_AFTER));
        let (leader, first) = lead(&calls);
        leader.send();
        let before = join(&calls);
        let proof = leader.send();
        let after = join(&calls);
        assert!(
            leader
                .complete(Completion::Answered { answer: 7, proof })
                .is_some()
        );
        assert_eq!(served(first).await, Some(Ok(7)));
        assert_eq!(served(before).await, Some(Ok(7)));
        assert_eq!(served(after).await, None);
    }

    #[tokio::test]
    async fn all_who_joined_too_late_are_in_one_next_call_before_its_first_send() {
        let calls = Arc::new(Answers::new(STALL_AFTER));
        let (leader, first) = lead(&calls);
        let proof = leader.send();
        let late = [join(&calls), join(&calls), join(&calls)];
        let next = leader
            .complete(Completion::Answered { answer: 7, proof })
            .unwrap();
        assert_eq!(served(first).await, Some(Ok(7)));
        // The next call is under way before any of them has woken up.
        let proof = next.send();
        let newcomer = join(&calls);
        let last = next
            .complete(Completion::Answered { answer: 8, proof })
            .unwrap();
        for waiter in late {
            assert_eq!(served(next_of(waiter).await).await, Some(Ok(8)));
        }
        let proof = last.send();
        assert!(
            last.complete(Completion::Answered { answer: 9, proof })
                .is_none(),
            "nobody is left"
        );
        assert_eq!(served(next_of(newcomer).await).await, Some(Ok(9)));
        let _new = lead(&calls);
    }

    #[tokio::test]
    async fn a_failure_is_shared_with_everybody_and_an_abandoned_call_with_nobody() {
        let calls = Arc::new(Answers::new(STALL_AFTER));
        let (leader, first) = lead(&calls);
        leader.send();
        let late = join(&calls);
        assert!(leader.complete(Completion::Failed("no")).is_none());
        assert_eq!(served(first).await, Some(Err(CallError::Failed("no"))));
        assert_eq!(served(late).await, Some(Err(CallError::Failed("no"))));

        let refresh = calls.lead(&"k").unwrap();
        assert!(
            refresh.complete(Completion::Abandoned).is_none(),
            "nobody waits for it"
        );
        let refresh = calls.lead(&"k").unwrap();
        let joined = join(&calls);
        let next = refresh.complete(Completion::Abandoned).unwrap();
        let proof = next.send();
        next.complete(Completion::Answered { answer: 1, proof });
        assert_eq!(served(next_of(joined).await).await, Some(Ok(1)));
    }

    #[tokio::test]
    async fn a_waiter_that_is_not_polled_can_drop_any_number_of_calls() {
        let calls = Arc::new(Answers::new(STALL_AFTER));
        let (mut leader, not_polled) = lead(&calls);
        for answer in 0..100_000 {
            let proof = leader.send();
            let _late = join(&calls);
            leader = leader
                .complete(Completion::Answered { answer, proof })
                .unwrap();
        }
        drop(leader);
        drop(not_polled);
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_releases_everybody_and_the_key() {
        let calls = Arc::new(Answers::new(STALL_AFTER));
        let (leader, first) = lead(&calls);
        let second = join(&calls);
        drop(leader);
        assert_eq!(served(first).await, Some(Err(CallError::Broken)));
        assert_eq!(served(second).await, Some(Err(CallError::Broken)));
        let (_leader, _) = lead(&calls);
        assert!(
            calls.lead(&"k").is_none(),
            "a refresh does not double a call"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_call_is_replaced_and_its_answer_is_for_those_who_joined_in_time() {
        let calls = Arc::new(Answers::new(STALL_AFTER));
        let (still, first) = lead(&calls);
        tokio::time::advance(STALL_AFTER / 2).await;
        // A send shows that somebody drives it.
        let proof = still.send();
        tokio::time::advance(STALL_AFTER / 2).await;
        let (late, waits) = (join(&calls), join(&calls));
        assert!(matches!(waits.wait().await, Waited::Stalled));

        let (leader, waiter) = lead(&calls);
        let _joins = join(&calls);
        let next = still.complete(Completion::Answered { answer: 7, proof });
        assert_eq!(served(first).await, Some(Ok(7)));
        // The waiter that joined too late is in a separate call, which no other caller finds.
        let next = next.expect("somebody is left");
        let _joins_too = join(&calls);
        let proof = next.send();
        assert!(
            next.complete(Completion::Answered { answer: 8, proof })
                .is_none()
        );
        assert_eq!(served(next_of(late).await).await, Some(Ok(8)));

        let proof = leader.send();
        assert!(
            leader
                .complete(Completion::Answered { answer: 9, proof })
                .is_none()
        );
        assert_eq!(served(waiter).await, Some(Ok(9)));
        assert!(calls.lead(&"k").is_some(), "no call is left");
    }
}
