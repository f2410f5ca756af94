//! Whether a connection's heartbeats are answered.

use std::time::{Duration, Instant};

/// The number of heartbeats in a row that are refused after which the connection is replaced.
const REFUSALS: u32 = 2;

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Executed,
    Refused,
    Unanswered,
}

/// Whether a connection's heartbeats are answered.
#[derive(Default)]
pub(super) struct Health {
    pub(super) under_way: usize,
    /// The number of heartbeats in a row that the server refused.
    refused: u32,
    /// When the first heartbeat was sent after which no answer has arrived.
    silent_since: Option<Instant>,
}

impl Health {
    /// Notes that a heartbeat is sent.
    pub(super) fn sends(&mut self) {
        self.under_way += 1;
        self.silent_since.get_or_insert_with(Instant::now);
    }

    /// Takes an answer. Returns whether the connection is to be kept.
    pub(super) fn takes(&mut self, answer: Beat) -> bool {
        self.under_way -= 1;
        match answer {
            Beat::Executed => (self.refused, self.silent_since) = (0, None),
            Beat::Refused => (self.refused, self.silent_since) = (self.refused + 1, None),
            Beat::Unanswered => {}
        }
        self.refused < REFUSALS
    }

    /// Returns whether no answer has arrived for as long as `limit`.
    pub(super) fn is_silent(&self, limit: Duration) -> bool {
        // guard: O7 O8
        self.silent_since
            .is_some_and(|since| since.elapsed() >= limit)
    }
}
