//! Clients that send requests at fixed times, and check the answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use demo::latency::Latencies;
use test_support::Dice;

use super::http::{Connection, request};
use super::keys::{Key, Keys};
use crate::server::unknown;

/// The number of connections, of which each instance gets half.
pub(super) const CLIENTS: u32 = 32;

/// What clients counted in a period of time.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) latencies: Latencies,
    /// Answers with status 503.
    pub(super) unavailable: AtomicU64,
    /// Connections that were refused, or closed during a request.
    pub(super) unanswered: AtomicU64,
    /// Ended or unknown keys that were accepted. Must be zero.
    pub(super) accepted: AtomicU64,
    /// Valid keys that were refused. Must be zero.
    pub(super) refused: AtomicU64,
}

/// When requests are due.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) begin: Instant,
    pub(super) until: Instant,
    /// Requests per second of all clients; `None`: each follows the one before.
    pub(super) rate: Option<f64>,
}

impl Pace {
    fn due(&self, client: u32, nth: u64) -> Instant {
        match self.rate {
            None => Instant::now(),
            Some(rate) => {
                let nth = nth * u64::from(CLIENTS) + u64::from(client);
                self.begin + Duration::from_secs_f64(nth as f64 / rate)
            }
        }
    }
}

/// The key of a request, and what its answer should be.
enum Asked {
    Live(Arc<Key>),
    Ended(Arc<Key>),
    Unknown(Vec<u8>),
}

impl Asked {
    /// One of a thousand is unknown, 20 of a thousand have ended.
    fn any(keys: &Keys, dice: &mut Dice) -> Self {
        match dice.below(1_000) {
            0 => Self::Unknown(of_nobody()),
            1..=20 => match keys.any_ended(dice, Instant::now()) {
                Some(key) => Self::Ended(key),
                None => Self::Live(keys.any(dice)),
            },
            _ => Self::Live(keys.any(dice)),
        }
    }

    fn request(&self) -> &[u8] {
        match self {
            Self::Live(key) | Self::Ended(key) => &key.request,
            Self::Unknown(request) => request,
        }
    }

    fn judge(&self, status: u16, tally: &Tally) {
        let wrong = match (self, status) {
            (_, 503) => &tally.unavailable,
            (Self::Ended(_) | Self::Unknown(_), 401) | (Self::Live(_), 200) => return,
            (Self::Live(key), _) if key.is_ending() => return,
            (Self::Live(_), _) => &tally.refused,
            (Self::Ended(_) | Self::Unknown(_), _) => &tally.accepted,
        };
        wrong.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns a request with a token that nobody has issued.
fn of_nobody() -> Vec<u8> {
    request("GET", "/v1/whoami", &unknown("app"), "")
}

/// Sends this number of requests with unknown tokens, which fill a part of the local level that has a size of its own.
pub(super) fn send_unknown(address: SocketAddr, requests: usize) {
    let mut connection = Connection::to(address);
    for _ in 0..requests {
        let _ = connection.send(&of_nobody());
    }
}

/// Sends the requests of one client, until `over` at the latest. A request counts in the period, of `period` each, in
/// which it is due.
pub(super) fn client(
    client: u32,
    address: SocketAddr,
    pace: Pace,
    over: &AtomicBool,
    keys: &Keys,
    tallies: &[Tally],
    period: Duration,
) {
    let (mut dice, mut connection) = (
        Dice::new(Dice::any_seed(), client.into()),
        Connection::to(address),
    );
    for nth in 0.. {
        let due = pace.due(client, nth);
        // Not only by `due`: a client that is far behind does not catch up, and its rate shows that.
        if due.max(Instant::now()) >= pace.until || over.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let asked = Asked::any(keys, &mut dice);
        let status = connection.send(asked.request()).map(|answer| answer.status);
        let place = (due - pace.begin).as_nanos() / period.as_nanos();
        let tally = &tallies[usize::try_from(place).unwrap_or(0).min(tallies.len() - 1)];
        match status {
            Ok(status) => {
                tally.latencies.record(due.elapsed());
                asked.judge(status, tally);
            }
            Err(_) => {
                tally.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
