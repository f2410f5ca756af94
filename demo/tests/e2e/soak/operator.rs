//! The operator, who revokes and rotates keys all the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use demo::latency::Latencies;
use serde_json::Value;
use test_support::Dice;

use super::http::{Connection, request};
use super::keys::{Key, Keys};
use crate::server::ADMIN;

/// Within this time after a confirmed revocation, every instance rejects the key: `max_staleness` of docs/semantics.md.
pub(super) const BOUND: Duration = Duration::from_secs(1);

/// How long a rotated key stays valid.
const OVERLAP: Duration = Duration::from_secs(1);

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(50);

/// Before a request is repeated that was not answered, or with 503.
const RETRY: Duration = Duration::from_millis(100);

/// What the operator did.
#[derive(Default)]
pub(super) struct Done {
    /// From before a revocation at one instance until the other one rejected the key.
    pub(super) revocations: Latencies,
    /// The slowest of them, in microseconds.
    pub(super) slowest: AtomicU64,
    pub(super) rotations: AtomicU64,
    /// Requests that were repeated.
    pub(super) repeated: AtomicU64,
    /// Revoked keys that were accepted after the bound. Must be zero.
    pub(super) late: AtomicU64,
}

impl Done {
    fn revoked(&self, took: Duration) {
        self.revocations.record(took);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(micros, Ordering::Relaxed);
    }
}

/// One connection to each instance.
pub(super) struct Operator<'a> {
    connections: [Connection; 2],
    /// The instance of the next change.
    at: usize,
    dice: Dice,
    keys: &'a Keys,
    done: &'a Done,
}

impl<'a> Operator<'a> {
    pub(super) fn new(addresses: [SocketAddr; 2], keys: &'a Keys, done: &'a Done) -> Self {
        Self {
            connections: addresses.map(Connection::to),
            at: 0,
            dice: Dice::new(Dice::any_seed(), 0),
            keys,
            done,
        }
    }

    /// Issues the first keys.
    pub(super) fn issue_many(&mut self, number: usize) {
        for _ in 0..number {
            self.issue();
        }
    }

    /// Changes keys until `over`.
    pub(super) fn work(&mut self, over: &AtomicBool) {
        for nth in 0_u64.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            self.at = 1 - self.at;
            let key = self.keys.take(&mut self.dice);
            if nth.is_multiple_of(4) {
                self.rotate(key);
            } else {
                self.revoke(key);
                self.issue();
            }
            thread::sleep(PAUSE);
        }
    }

    fn issue(&mut self) {
        loop {
            let body = r#"{"tenant_id":"acme","token_type":"app"}"#;
            let (status, answer) = self.admin("POST", "/admin/tokens", body);
            if status == 201 {
                return self.keys.add(key_in(&answer));
            }
            self.retry(status, &answer);
        }
    }

    /// Revokes a key that the other instance holds in its memory, and waits until that one rejects it.
    fn revoke(&mut self, key: Arc<Key>) {
        for _ in 0..2 {
            let _ = self.other().send(&key.request);
        }
        let begun = Instant::now();
        self.delete(&key);
        let from = Instant::now() + BOUND;
        loop {
            let sent = Instant::now();
            match self.other().send(&key.request).map(|answer| answer.status) {
                Ok(401) => break self.done.revoked(begun.elapsed()),
                Ok(200) if sent >= from => {
                    self.done.late.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Ok(200) => thread::sleep(Duration::from_millis(1)),
                // An outage of the other instance, or of its database.
                _ if sent >= from + BOUND => break,
                _ => thread::sleep(RETRY),
            }
        }
        self.keys.ended(from, key);
    }

    fn delete(&mut self, key: &Key) {
        let path = format!("/admin/tokens/{}", key.id);
        loop {
            let (status, answer) = self.admin("DELETE", &path, "");
            if status == 200 {
                return;
            }
            self.retry(status, &answer);
        }
    }

    fn rotate(&mut self, key: Arc<Key>) {
        let path = format!("/admin/tokens/{}/rotate", key.id);
        let body = format!(r#"{{"overlap_seconds":{}}}"#, OVERLAP.as_secs());
        let (status, answer) = self.admin("POST", &path, &body);
        if answer["token"].is_string() {
            self.keys.add(key_in(&answer));
        } else {
            // Whether there is a successor is unknown.
            self.issue();
        }
        if status == 201 {
            self.done.rotations.fetch_add(1, Ordering::Relaxed);
        } else {
            self.delete(&key);
        }
        self.keys.ended(Instant::now() + OVERLAP + BOUND, key);
    }

    fn other(&mut self) -> &mut Connection {
        &mut self.connections[1 - self.at]
    }

    /// Sends a request to the instance of this change. Returns status 0 if there is no answer.
    fn admin(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let connection = &mut self.connections[self.at];
        match connection.send(&request(method, path, ADMIN, body)) {
            Ok(answer) => {
                let body = serde_json::from_slice(answer.body).unwrap_or_default();
                (answer.status, body)
            }
            Err(_) => (0, Value::Null),
        }
    }

    /// Lets the other instance try it, unless a request is refused for another reason than an outage.
    fn retry(&mut self, status: u16, answer: &Value) {
        assert!(matches!(status, 0 | 503), "{status}: {answer}");
        self.done.repeated.fetch_add(1, Ordering::Relaxed);
        self.at = 1 - self.at;
        thread::sleep(RETRY);
    }
}

fn key_in(answer: &Value) -> Arc<Key> {
    let text = |name: &str| answer[name].as_str().expect("the API returns it");
    Key::new(text("id"), text("token"))
}
