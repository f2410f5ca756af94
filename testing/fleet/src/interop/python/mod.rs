//! A Python node that a test controls.
//!
//! All methods block the calling thread, and have a timeout, so a node that does not answer makes the test fail.
//! [`Python::start`] starts a command without waiting for its end, so that a test can act in between.

mod message;
mod process;

use std::fmt;

use serde_json::{Value, json};
use test_support::RedisServer;

pub use message::{Asked, Message, Query, Said, Wrote};
use process::Process;

/// A published version of the Python service's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The first version: JSON by `json.dumps`, no index of tenants, no lock. Invalidating a tenant deletes
    /// everything.
    First,
    /// The second version: the first one's JSON, an index of tenants, no lock. Without an index, invalidating a
    /// tenant scans all entries and compares tenants.
    Second,
    /// The current version: pydantic's JSON, an index of tenants, a load lock.
    Current,
}

impl Version {
    /// All versions.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Current];

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Current => "current",
        }
    }
}

/// A node's view of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The record, with times as `isoformat()` prints them. The service uses nothing else.
    pub record: Option<Value>,
    /// `record`, `missing`, `null` or `undecodable`. The service does not distinguish the last three.
    pub why: String,
}

/// A running node, which ends when this value is dropped, or when the test's process ends.
pub struct Python {
    process: Process,
    version: Version,
}

impl Python {
    /// Starts a node on this Redis.
    ///
    /// # Panics
    /// Panics if it does not start. Every method panics if the node sends an unexpected message.
    pub fn new(version: Version, redis: &RedisServer) -> Self {
        Self::with_prefix(version, redis, "")
    }

    /// Starts a node that has `REDIS_KEY_PREFIX` set.
    pub fn with_prefix(version: Version, redis: &RedisServer, prefix: &str) -> Self {
        let redis = redis.url();
        let words = ["--version", version.name(), "--redis", &redis, "--prefix"];
        let mut words = words.to_vec();
        words.push(prefix);
        let mut process = Process::start(&words);
        assert!(matches!(process.hear(), Message::Ready));
        Self { process, version }
    }

    /// Returns its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Starts a command, and does not wait for its end.
    pub fn start(&mut self, command: &Value) {
        self.process.say(command);
    }

    /// Waits for the next message.
    pub fn hear(&mut self) -> Message {
        self.process.hear()
    }

    /// Returns the next message, if it has been received.
    pub fn has_said(&mut self) -> Option<Message> {
        self.process.has_said()
    }

    /// Returns the result of the last command, or the name of a Python exception.
    pub fn end(&mut self) -> Result<Value, String> {
        match self.hear() {
            Message::Done(value) => Ok(value),
            Message::Error(error) => Err(error),
            other => panic!("an end was expected, not {other:?}"),
        }
    }

    /// Waits for the next load.
    pub fn query(&mut self) -> Query {
        match self.hear() {
            Message::Query(query) => query,
            other => panic!("a query was expected, not {other:?}"),
        }
    }

    /// Answers a load with a row in the form of the node's record, or null.
    pub fn answer(&mut self, row: &Value) {
        self.start(&json!({ "answer": { "row": row } }));
    }

    /// Runs a command that needs no load.
    pub fn try_run(&mut self, command: &Value) -> Result<Value, String> {
        self.start(command);
        self.end()
    }

    fn run(&mut self, command: &Value) -> Value {
        match self.try_run(command) {
            Ok(value) => value,
            Err(error) => panic!("{command} failed: {error}"),
        }
    }

    /// Reads the cache.
    pub fn get(&mut self, token: &str, scope: Option<&str>) -> Seen {
        let mut seen = self.run(&json!({ "do": "get", "token": token, "scope": scope }));
        let record = seen["record"].take();
        Seen {
            record: (!record.is_null()).then_some(record),
            why: seen["why"].as_str().expect("a word").to_owned(),
        }
    }

    /// Writes an entry, which must have all seven members.
    pub fn set(&mut self, scope: Option<&str>, record: &Value) {
        self.run(&json!({ "do": "set", "scope": scope, "record": record }));
    }

    /// Writes an entry with another precision of times: `seconds`, `milliseconds`, `microseconds`.
    pub fn set_with_timespec(&mut self, scope: Option<&str>, record: &Value, timespec: &str) {
        let command =
            json!({ "do": "set", "scope": scope, "record": record, "timespec": timespec });
        self.run(&command);
    }

    /// Caches a token as unknown.
    pub fn set_null(&mut self, token: &str, scope: Option<&str>) {
        self.run(&json!({ "do": "set_null", "token": token, "scope": scope }));
    }

    /// Begins a request. [`query`](Self::query) or [`end`](Self::end) follows.
    pub fn start_fetch(&mut self, token: &str, scope: Option<&str>) {
        self.start(&json!({ "do": "fetch", "token": token, "scope": scope }));
    }

    /// Sends a request that must be answered from the cache.
    pub fn fetch_cached(&mut self, token: &str, scope: Option<&str>) -> Value {
        self.start_fetch(token, scope);
        self.end().expect("the cache answers")
    }

    /// Sends a request that must query the database, which has this row.
    pub fn fetch_loaded(&mut self, token: &str, scope: Option<&str>, row: &Value) -> Value {
        self.start_fetch(token, scope);
        let asked = self.query();
        assert_eq!((&*asked.token, asked.scope.as_deref()), (token, scope));
        self.answer(row);
        self.end().expect("the database answers")
    }

    /// Deletes the entry of one type.
    pub fn delete(&mut self, token: &str, scope: &str) {
        self.run(&json!({ "do": "delete", "token": token, "scope": scope }));
    }

    /// Deletes the entries of all types, by a scan.
    pub fn delete_all_scopes(&mut self, token: &str) {
        self.run(&json!({ "do": "delete_all_scopes", "token": token }));
    }

    /// Invalidates a tenant, as this version does.
    pub fn invalidate_tenant(&mut self, tenant: &str) {
        self.run(&json!({ "do": "invalidate_tenant", "tenant": tenant }));
    }

    /// Records a use, at a time in one of Python's formats.
    pub fn record_use(&mut self, token: &str, scope: Option<&str>, at: &str) {
        self.run(&json!({ "do": "record_use", "token": token, "scope": scope, "at": at }));
    }

    /// Returns the later of the database's and the recorded time, as `isoformat()` prints it, which the newest
    /// version shows.
    pub fn effective_use(
        &mut self,
        token: &str,
        scope: Option<&str>,
        persisted: Option<&str>,
    ) -> Option<String> {
        let at = self.run(&json!({
            "do": "effective_use", "token": token, "scope": scope, "persisted": persisted,
        }));
        at.as_str().map(str::to_owned)
    }

    /// Takes the recorded uses out of Redis, as the job that writes them to the database does. Each is a token, a
    /// type and a time.
    pub fn flush_uses(&mut self) -> Value {
        self.run(&json!({ "do": "flush_uses" }))
    }

    /// Returns the recorded use, as `isoformat()` prints it.
    pub fn read_use(&mut self, token: &str, scope: Option<&str>) -> Option<String> {
        let at = self.run(&json!({ "do": "read_use", "token": token, "scope": scope }));
        at.as_str().map(str::to_owned)
    }
}

impl fmt::Debug for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Python").field(&self.version).finish()
    }
}
