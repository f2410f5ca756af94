//! The events of the live page: a sample of the counters each second, and every change when it is made.
//!
//! A sample contains no ids, like `/metrics`, and is public. A change contains the id of a token or a
//! tenant, and is sent to the operator only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_api_token::Origin;
use tower_api_token::metrics::{Outcome, Stats};

use crate::latency::{Counts, Latencies, Percentiles};

/// The number of past samples, one per second, that a new page receives.
const HISTORY: usize = 60;

/// The maximum number of public streams. Each holds a connection open, and anybody may open one.
const MAX_STREAMS: usize = 64;

/// The maximum number of the operator's streams, which public ones do not count against.
const MAX_OPERATOR_STREAMS: usize = 16;

/// How many changes are remembered until the other instance has seen them.
const PENDING: usize = 64;

/// How many messages a slow page may fall behind before it misses some.
const BACKLOG: usize = 256;

/// An event, as JSON.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Sample(Arc<str>),
    Change(Arc<str>),
}

/// The receiver of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Public,
    Operator,
}

/// Whether the database and the store answer, and whether the circuit breaker in front of Redis is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) database: bool,
    pub(crate) store: bool,
    pub(crate) breaker_open: bool,
}

/// The counters of this instance that the cache does not have, and the open streams.
#[derive(Debug)]
pub(crate) struct Live {
    latencies: Latencies,
    refused: AtomicU64,
    failed: AtomicU64,
    health: Mutex<Probed>,
    channel: Mutex<Channel>,
    /// The ids of tokens and tenants that were revoked or suspended, and when.
    ends: Mutex<VecDeque<(String, Instant)>>,
    /// Permits for further streams.
    public_slots: Arc<Semaphore>,
    operator_slots: Arc<Semaphore>,
}

/// The last probe, and whether any probe since the last sample found the breaker open.
#[derive(Debug, Default)]
struct Probed {
    health: Option<Health>,
    open_since_sample: bool,
}

#[derive(Debug)]
struct Channel {
    /// `None` once the server drains.
    sender: Option<broadcast::Sender<Message>>,
    history: VecDeque<Message>,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self {
            latencies: Latencies::default(),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            health: Mutex::default(),
            channel: Mutex::new(Channel {
                sender: Some(broadcast::Sender::new(BACKLOG)),
                history: VecDeque::with_capacity(HISTORY),
            }),
            ends: Mutex::default(),
            public_slots: Arc::new(Semaphore::new(MAX_STREAMS)),
            operator_slots: Arc::new(Semaphore::new(MAX_OPERATOR_STREAMS)),
        }
    }

    /// Counts a response to a client. Those without a lookup, such as to a malformed token, are not in the
    /// cache's counters.
    pub(crate) fn answered(&self, status: StatusCode, latency: Duration) {
        self.latencies.record(latency);
        if status.is_client_error() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else if status.is_server_error() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Publishes a change. `member` names the kind of `id`.
    pub(crate) fn changed(&self, change: &str, member: &str, id: &str) {
        if matches!(change, "revoked" | "suspended") {
            let mut ends = lock(&self.ends);
            if ends.len() == PENDING {
                ends.pop_front();
            }
            ends.push_back((id.to_owned(), Instant::now()));
        }
        let event = json!({ "at": now_millis(), "change": change, member: id });
        self.channel()
            .send(Message::Change(event.to_string().into()));
    }

    /// Publishes how long after a change by this instance another one rejected the token, which it had accepted
    /// since `since`.
    pub(crate) fn rejected_elsewhere(&self, since: Instant, id: &str, tenant_id: Option<&str>) {
        let ends = lock(&self.ends);
        let end = ends.iter().rfind(|(changed, at)| {
            *at >= since && (changed == id || Some(changed.as_str()) == tenant_id)
        });
        // Otherwise it expired, or another instance made the change.
        if let Some((_, at)) = end {
            let micros = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
            let event = json!({ "at": now_millis(), "change": "rejected elsewhere", "id": id, "after_us": micros });
            self.channel()
                .send(Message::Change(event.to_string().into()));
        }
    }

    /// Publishes a sample, with the canary's `revocations`. `before` is the histogram at the previous sample, and is
    /// updated.
    pub(crate) fn sample(&self, stats: &Stats, revocations: Option<Value>, before: &mut Counts) {
        let counts = self.latencies.counts();
        let latency = Percentiles::between(before, &counts);
        *before = counts;
        let mut sample = counters(stats);
        sample["at"] = now_millis().into();
        sample["refused"] = self.refused.load(Ordering::Relaxed).into();
        sample["failed"] = self.failed.load(Ordering::Relaxed).into();
        sample["latency_us"] = latency.map_or(
            Value::Null,
            |latency| json!({ "p50": latency.p50, "p95": latency.p95, "p99": latency.p99 }),
        );
        sample["entries"] =
            json!({ "records": stats.local_records, "negatives": stats.local_negatives });
        sample["tracking"] = json!({
            "on": stats.client_tracking,
            "watched": stats.watched,
            "pushes": stats.tracking_pushes,
        });
        sample["revocations"] = revocations.unwrap_or_default();
        sample["health"] = self.take_health().map_or(Value::Null, |health| {
            json!({
                "database": health.database,
                "store": health.store,
                "breaker_open": health.breaker_open,
            })
        });
        let message = Message::Sample(sample.to_string().into());
        let mut channel = self.channel();
        if channel.history.len() == HISTORY {
            channel.history.pop_front();
        }
        channel.history.push_back(message.clone());
        channel.send(message);
    }

    /// Returns the histogram since the start.
    pub(crate) fn counts(&self) -> Counts {
        self.latencies.counts()
    }

    /// Stores the result of a probe. An open breaker is kept until the next sample, because its pause is
    /// shorter than the time between two samples.
    pub(crate) fn set_health(&self, mut health: Health) {
        let mut probed = lock(&self.health);
        health.breaker_open |= probed.open_since_sample;
        probed.open_since_sample = health.breaker_open;
        probed.health = Some(health);
    }

    /// Returns whether a stream is open.
    pub(crate) fn is_watched(&self) -> bool {
        let channel = self.channel();
        let sender = channel.sender.as_ref();
        sender.is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Returns the last samples, followed by every new message. Returns `None` if too many streams of this
    /// audience are open, or if the server drains.
    pub(crate) fn subscribe(&self, audience: Audience) -> Option<Subscription> {
        let slots = match audience {
            Audience::Public => &self.public_slots,
            Audience::Operator => &self.operator_slots,
        };
        let permit = Arc::clone(slots).try_acquire_owned().ok()?;
        let channel = self.channel();
        let sender = channel.sender.as_ref()?;
        Some(Subscription {
            history: channel.history.clone(),
            receiver: sender.subscribe(),
            _permit: permit,
        })
    }

    /// Ends all streams. A connection with an open stream is never idle, and would delay the drain.
    pub(crate) fn close(&self) {
        self.channel().sender = None;
    }

    fn take_health(&self) -> Option<Health> {
        let mut probed = lock(&self.health);
        probed.open_since_sample = false;
        probed.health
    }

    fn channel(&self) -> MutexGuard<'_, Channel> {
        lock(&self.channel)
    }
}

impl Channel {
    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender {
            // An error means that no stream is open.
            let _ = sender.send(message);
        }
    }
}

/// The stream of one page.
#[derive(Debug)]
pub(crate) struct Subscription {
    history: VecDeque<Message>,
    receiver: broadcast::Receiver<Message>,
    /// Released when the page is closed.
    _permit: OwnedSemaphorePermit,
}

impl Subscription {
    /// Returns the next message. Returns `None` once the server drains.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        if let Some(message) = self.history.pop_front() {
            return Some(message);
        }
        loop {
            match self.receiver.recv().await {
                Ok(message) => return Some(message),
                // Counters are cumulative, so a lost sample costs only resolution.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Returns the cache's counters since its start. A page subtracts those of two samples.
fn counters(stats: &Stats) -> Value {
    let found = |origin| stats.lookups_of(Outcome::Valid, Some(origin));
    let answered: u64 = stats
        .lookups()
        .filter(|(_, origin, _)| origin.is_some())
        .map(|(.., count)| count)
        .sum();
    json!({
        "local": found(Origin::Local),
        "redis": found(Origin::Shared),
        "database": found(Origin::Loaded) + found(Origin::Stale),
        "lookups": answered,
        "loads": stats.loads,
        // Background refreshes are loads without a lookup.
        "loads_saved": answered.saturating_sub(stats.loads),
    })
}

/// Locks a mutex, even a poisoned one: a panic leaves no value half-written here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the wall clock's time. The page computes its offset from its own clock.
fn now_millis() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(live: &Live) {
        let mut before = live.latencies.counts();
        live.sample(&Stats::default(), None, &mut before);
    }

    #[tokio::test]
    async fn new_page_gets_the_last_minute_and_then_new_events() {
        let live = Live::new();
        for _ in 0..HISTORY + 5 {
            sampled(&live);
        }
        let mut page = live.subscribe(Audience::Public).unwrap();
        live.changed("revoked", "id", "tok-1");
        for _ in 0..HISTORY {
            assert!(matches!(page.next().await, Some(Message::Sample(_))));
        }
        assert!(matches!(page.next().await, Some(Message::Change(_))));
    }

    #[tokio::test]
    async fn breaker_that_was_open_between_samples_is_reported_once() {
        let live = Live::new();
        let mut page = live.subscribe(Audience::Public).unwrap();
        let mut reported = Vec::new();
        for probes in [[false, true, false], [false, false, false]] {
            for breaker_open in probes {
                let (database, store) = (true, !breaker_open);
                live.set_health(Health {
                    database,
                    store,
                    breaker_open,
                });
            }
            sampled(&live);
            let Some(Message::Sample(json)) = page.next().await else {
                panic!("no sample");
            };
            let sample: Value = serde_json::from_str(&json).unwrap();
            reported.push(sample["health"]["breaker_open"].clone());
        }
        assert_eq!(reported, [true, false]);
    }

    #[tokio::test]
    async fn close_ends_all_streams_and_allows_no_new_ones() {
        let live = Live::new();
        let mut page = live.subscribe(Audience::Public).unwrap();
        live.close();
        assert!(page.next().await.is_none());
        assert!(live.subscribe(Audience::Public).is_none());
        sampled(&live);
    }

    #[test]
    fn number_of_streams_is_limited_and_a_closed_page_frees_one() {
        for (audience, max) in [
            (Audience::Public, MAX_STREAMS),
            (Audience::Operator, MAX_OPERATOR_STREAMS),
        ] {
            let live = Live::new();
            let mut pages: Vec<_> = (0..max)
                .map(|_| live.subscribe(audience).unwrap())
                .collect();
            assert!(live.subscribe(audience).is_none());
            pages.pop();
            assert!(live.subscribe(audience).is_some());
        }
    }
}
