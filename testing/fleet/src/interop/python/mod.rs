//! One Python node, as a test holds it.
//!
//! Everything blocks the calling thread, and bounds what it waits for: a node that does not answer is
//! a failed test. [`Python::start`] gives a command without waiting for its end, for what has to
//! happen in between.

mod message;
mod process;

use std::fmt;

use serde_json::{Value, json};
use test_support::RedisServer;

pub use message::{Asked, Message, Said, Wrote};
use process::Process;

/// A published version of the Python service's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// JSON by `json.dumps`, no tenants' index, no lock; a tenant's invalidation deletes everything.
    First,
    /// The first one's JSON, tenants' index, no lock; where a tenant has no index, its invalidation is a
    /// scan that compares tenants.
    Second,
    /// pydantic's JSON, tenants' index, load lock.
    Current,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Current];

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Current => "current",
        }
    }
}

/// What a node sees under a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The record, with times as `isoformat()` prints them: all that counts for the service.
    pub record: Option<Value>,
    /// `record`, `missing`, `null` or `undecodable`. The service cannot tell the last three apart.
    pub why: String,
}

/// A load that a node asks the test for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The token's text.
    pub token: String,
    /// The scope.
    pub scope: Option<String>,
}

/// A running node. It ends when this is dropped, or when the test's process ends.
pub struct Python {
    process: Process,
    version: Version,
}

impl Python {
    /// Starts a node on this Redis.
    ///
    /// # Panics
    /// It does not start. So does every method here when the node says what it should not.
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

    /// Which version it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Gives a command, and does not wait for its end.
    pub fn start(&mut self, command: &Value) {
        self.process.say(command);
    }

    /// What the node says next.
    pub fn hear(&mut self) -> Message {
        self.process.hear()
    }

    /// What the node says next, if it has said it.
    pub fn has_said(&mut self) -> Option<Message> {
        self.process.has_said()
    }

    /// The result of the command that was given last; `Err` with Python's name for what went wrong.
    pub fn end(&mut self) -> Result<Value, String> {
        match self.hear() {
            Message::Done(value) => Ok(value),
            Message::Error(error) => Err(error),
            other => panic!("an end was expected, not {other:?}"),
        }
    }

    /// The load that the node asks for next.
    pub fn query(&mut self) -> Query {
        match self.hear() {
            Message::Query(query) => query,
            other => panic!("a query was expected, not {other:?}"),
        }
    }

    /// Answers its query: a row as the node's record has it, or null.
    pub fn answer(&mut self, row: &Value) {
        self.start(&json!({ "answer": { "row": row } }));
    }

    /// A command from its beginning to its end, without a load.
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

    /// What lies in the cache.
    pub fn get(&mut self, token: &str, scope: Option<&str>) -> Seen {
        let mut seen = self.run(&json!({ "do": "get", "token": token, "scope": scope }));
        let record = seen["record"].take();
        Seen {
            record: (!record.is_null()).then_some(record),
            why: seen["why"].as_str().expect("a word").to_owned(),
        }
    }

    /// Writes an entry; all seven members have to be there.
    pub fn set(&mut self, scope: Option<&str>, record: &Value) {
        self.run(&json!({ "do": "set", "scope": scope, "record": record }));
    }

    /// The same with another precision of times: `seconds`, `milliseconds`, `microseconds`.
    pub fn set_with_timespec(&mut self, scope: Option<&str>, record: &Value, timespec: &str) {
        let command =
            json!({ "do": "set", "scope": scope, "record": record, "timespec": timespec });
        self.run(&command);
    }

    /// Writes that there is no such token.
    pub fn set_null(&mut self, token: &str, scope: Option<&str>) {
        self.run(&json!({ "do": "set_null", "token": token, "scope": scope }));
    }

    /// Begins a request; [`query`](Self::query) or [`end`](Self::end) is next.
    pub fn start_fetch(&mut self, token: &str, scope: Option<&str>) {
        self.start(&json!({ "do": "fetch", "token": token, "scope": scope }));
    }

    /// A request that must be answered from the cache.
    pub fn fetch_cached(&mut self, token: &str, scope: Option<&str>) -> Value {
        self.start_fetch(token, scope);
        self.end().expect("the cache answers")
    }

    /// A request that must ask the database, which has this row.
    pub fn fetch_loaded(&mut self, token: &str, scope: Option<&str>, row: &Value) -> Value {
        self.start_fetch(token, scope);
        let asked = self.query();
        assert_eq!((&*asked.token, asked.scope.as_deref()), (token, scope));
        self.answer(row);
        self.end().expect("the database answers")
    }

    /// Deletes in one scope.
    pub fn delete(&mut self, token: &str, scope: &str) {
        self.run(&json!({ "do": "delete", "token": token, "scope": scope }));
    }

    /// Deletes in all scopes, by a search.
    pub fn delete_all_scopes(&mut self, token: &str) {
        self.run(&json!({ "do": "delete_all_scopes", "token": token }));
    }

    /// Invalidates a tenant, as this version does.
    pub fn invalidate_tenant(&mut self, tenant: &str) {
        self.run(&json!({ "do": "invalidate_tenant", "tenant": tenant }));
    }

    /// Records a use, at a time in a form of Python's.
    pub fn record_use(&mut self, token: &str, scope: Option<&str>, at: &str) {
        self.run(&json!({ "do": "record_use", "token": token, "scope": scope, "at": at }));
    }

    /// The later of the database's time and of the recorded one, as `isoformat()` prints it: what the
    /// newest version shows.
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

    /// Takes the recorded uses out of Redis, each as token, scope and time, as the job does that writes
    /// them to the database.
    pub fn flush_uses(&mut self) -> Value {
        self.run(&json!({ "do": "flush_uses" }))
    }

    /// The use that is recorded, as `isoformat()` prints it.
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
