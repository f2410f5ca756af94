//! What the live page is told: a sample of the counters each second, and every change when it is
//! made.
//!
//! A sample names no token and no tenant, like `/metrics`, and anybody may have it. A change names
//! both, and is for the operator.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_api_token::Origin;
use tower_api_token::metrics::{Outcome, Stats};

use crate::latency::{Counts, Latencies, Percentiles};

/// What a page that was just opened is shown of the past: samples, one a second.
const HISTORY: usize = 60;

/// Open streams of everybody. Each holds a connection for as long as its page is open, and strangers may
/// open them.
const MOST_STREAMS: usize = 64;

/// Open streams of the operator, whom no number of strangers keeps out.
const MOST_OPERATORS: usize = 16;

/// What a slow page may fall behind before it misses something.
const BACKLOG: usize = 256;

/// One event, as JSON.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Sample(Arc<str>),
    Change(Arc<str>),
}

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Anybody,
    Operator,
}

/// Whether what we depend on answers; the breaker is the one in front of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) database: bool,
    pub(crate) store: bool,
    pub(crate) breaker_open: bool,
}

/// Counters of this instance that the cache does not have, and whoever listens.
#[derive(Debug)]
pub(crate) struct Live {
    latencies: Latencies,
    refused: AtomicU64,
    failed: AtomicU64,
    health: Mutex<Probed>,
    channel: Mutex<Channel>,
    /// Places for streams that are not open.
    anybodys: Arc<Semaphore>,
    operators: Arc<Semaphore>,
}

/// The last probe, and whether one since the last sample found the breaker open.
#[derive(Debug, Default)]
struct Probed {
    health: Option<Health>,
    untold_open: bool,
}

#[derive(Debug)]
struct Channel {
    /// Nothing once the server drains.
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
            anybodys: Arc::new(Semaphore::new(MOST_STREAMS)),
            operators: Arc::new(Semaphore::new(MOST_OPERATORS)),
        }
    }

    /// Counts an answer to a client. Those that the cache was not even asked about, for a malformed
    /// token say, are counted nowhere else.
    pub(crate) fn answered(&self, status: StatusCode, latency: Duration) {
        self.latencies.record(latency);
        if status.is_client_error() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else if status.is_server_error() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells of a change: `member` says what `id` is an id of.
    pub(crate) fn changed(&self, change: &str, member: &str, id: &str) {
        let event = json!({ "at": now_millis(), "change": change, member: id });
        self.channel()
            .send(Message::Change(event.to_string().into()));
    }

    /// Tells how things are; `before` is the histogram of the last time.
    pub(crate) fn sample(&self, stats: &Stats, before: &mut Counts) {
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

    /// The histogram so far.
    pub(crate) fn counts(&self) -> Counts {
        self.latencies.counts()
    }

    /// A breaker that was open at any probe stays so until it is told: its pause is shorter than the
    /// time between two samples.
    pub(crate) fn set_health(&self, mut health: Health) {
        let mut told = lock(&self.health);
        health.breaker_open |= told.untold_open;
        told.untold_open = health.breaker_open;
        told.health = Some(health);
    }

    /// Whether anybody listens.
    pub(crate) fn is_watched(&self) -> bool {
        let channel = self.channel();
        let sender = channel.sender.as_ref();
        sender.is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// The last samples, and from there on every message. Nothing if too many of this kind listen, or none
    /// may any more.
    pub(crate) fn subscribe(&self, listener: Listener) -> Option<Subscription> {
        let places = match listener {
            Listener::Anybody => &self.anybodys,
            Listener::Operator => &self.operators,
        };
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        let channel = self.channel();
        let sender = channel.sender.as_ref()?;
        Some(Subscription {
            history: channel.history.clone(),
            receiver: sender.subscribe(),
            _place: place,
        })
    }

    /// Ends all streams. A connection with an open one is never idle, and would hold up the drain.
    pub(crate) fn close(&self) {
        self.channel().sender = None;
    }

    fn take_health(&self) -> Option<Health> {
        let mut told = lock(&self.health);
        told.untold_open = false;
        told.health
    }

    fn channel(&self) -> MutexGuard<'_, Channel> {
        lock(&self.channel)
    }
}

impl Channel {
    fn send(&self, message: Message) {
        if let Some(sender) = &self.sender {
            // An error says that nobody listens.
            let _ = sender.send(message);
        }
    }
}

/// One page's view.
#[derive(Debug)]
pub(crate) struct Subscription {
    history: VecDeque<Message>,
    receiver: broadcast::Receiver<Message>,
    /// Given back when the page is closed.
    _place: OwnedSemaphorePermit,
}

impl Subscription {
    /// The next message; nothing when the server drains.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        if let Some(message) = self.history.pop_front() {
            return Some(message);
        }
        loop {
            match self.receiver.recv().await {
                Ok(message) => return Some(message),
                // Samples are sums, so that a lost one costs no more than detail.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The cache's counters since its start. A page takes two and subtracts.
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
        // Refreshes in the background are loads without a look-up.
        "loads_saved": answered.saturating_sub(stats.loads),
    })
}

/// Nothing here is left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The page draws by this clock and its own, and compares neither with another machine's.
fn now_millis() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(live: &Live) {
        let mut before = live.latencies.counts();
        live.sample(&Stats::default(), &mut before);
    }

    #[tokio::test]
    async fn a_new_page_is_shown_the_last_minute_and_then_what_comes() {
        let live = Live::new();
        for _ in 0..HISTORY + 5 {
            sampled(&live);
        }
        let mut page = live.subscribe(Listener::Anybody).unwrap();
        live.changed("revoked", "id", "tok-1");
        for _ in 0..HISTORY {
            assert!(matches!(page.next().await, Some(Message::Sample(_))));
        }
        assert!(matches!(page.next().await, Some(Message::Change(_))));
    }

    #[tokio::test]
    async fn a_breaker_that_was_open_between_two_samples_is_told_once() {
        let live = Live::new();
        let mut page = live.subscribe(Listener::Anybody).unwrap();
        let mut told = Vec::new();
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
            told.push(sample["health"]["breaker_open"].clone());
        }
        assert_eq!(told, [true, false]);
    }

    #[tokio::test]
    async fn closing_ends_every_stream_and_opens_none() {
        let live = Live::new();
        let mut page = live.subscribe(Listener::Anybody).unwrap();
        live.close();
        assert!(page.next().await.is_none());
        assert!(live.subscribe(Listener::Anybody).is_none());
        sampled(&live);
    }

    #[test]
    fn streams_are_bounded_and_a_closed_page_gives_its_place_back() {
        for (listener, most) in [
            (Listener::Anybody, MOST_STREAMS),
            (Listener::Operator, MOST_OPERATORS),
        ] {
            let live = Live::new();
            let mut pages: Vec<_> = (0..most)
                .map(|_| live.subscribe(listener).unwrap())
                .collect();
            assert!(live.subscribe(listener).is_none());
            pages.pop();
            assert!(live.subscribe(listener).is_some());
        }
    }
}
