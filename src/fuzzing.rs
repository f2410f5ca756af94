//! The pure parts, for the fuzzers in `fuzz/`. No part of the public interface: it may change with
//! any version.

#![allow(missing_docs, reason = "hidden")]

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use redis::PushInfo;

use crate::clock::Tick;
use crate::middleware::credentials::{Limits, Presented, scheme};
use crate::store::entry::{Entry as StoredEntry, Generation, ShortGeneration, Value};
use crate::store::keys::{EntryKey, Keys};
use crate::store::layout::KeyLayout;
use crate::store::redis::codec::shared::Decoded;
use crate::store::redis::codec::{digest, times};
use crate::store::redis::dify::codec;
use crate::store::redis::transport::{pushes, tracking};
use crate::store::watch::{Tracker, TrackingSession, Watch};
use crate::{BearerToken, TokenRecord};

/// What an `Authorization` field was read as.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    Token(&'a str),
    Nothing,
    Malformed,
}

pub fn read_bearer(
    value: &[u8],
    lengths: RangeInclusive<usize>,
    visible_ascii: bool,
) -> Credential<'_> {
    let Ok(limits) = Limits::new(lengths, visible_ascii, Vec::new()) else {
        return Credential::Malformed;
    };
    match scheme::read(value, scheme::BEARER, &limits) {
        Presented::Token(Cow::Borrowed(token)) => Credential::Token(token),
        Presented::Nothing => Credential::Nothing,
        Presented::Malformed => Credential::Malformed,
        Presented::Token(Cow::Owned(_))
        | Presented::Other(_)
        | Presented::Multiple
        | Presented::NoProtocol => {
            unreachable!("there is one field, nothing in it is decoded, and no other token passes")
        }
    }
}

pub fn from_isoformat(text: &str) -> Option<DateTime<Utc>> {
    times::from_isoformat(text)
}

pub fn to_isoformat(at: DateTime<Utc>) -> String {
    times::to_isoformat(at)
}

pub fn from_rfc3339(text: &str) -> Option<DateTime<Utc>> {
    times::from_rfc3339(text)
}

pub fn to_rfc3339(at: DateTime<Utc>) -> String {
    times::to_rfc3339(at)
}

/// An entry as it was read, or is to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Lease,
    Corrupt,
    Absent {
        all: Option<String>,
    },
    Found {
        record: Box<TokenRecord<serde_json::Value>>,
        all: Option<String>,
        generation: Option<String>,
        grace: Duration,
    },
}

/// How an entry is stored in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Digest,
    Dify,
}

impl Layout {
    fn key(self, token: &BearerToken) -> EntryKey {
        let layout = match self {
            Self::Digest => KeyLayout::digest(),
            Self::Dify => KeyLayout::dify(),
        };
        let keys = Keys::new("fuzz".to_owned(), layout).expect("a namespace");
        keys.key(token, &token.digest(), None)
    }

    pub fn decode(self, bytes: &[u8], token: &BearerToken) -> Entry {
        let decoded = match self {
            Self::Digest => digest::decode(bytes, &self.key(token).digest),
            Self::Dify => codec::decode(bytes, token),
        };
        match decoded {
            Decoded::Lease => Entry::Lease,
            Decoded::Corrupt => Entry::Corrupt,
            Decoded::Value(value) => entry(&value),
        }
    }

    /// `None` for what cannot be written: a lease, a time that the layout has no form for, what is
    /// too large.
    pub fn encode(self, entry: &Entry, token: &BearerToken) -> Option<Vec<u8>> {
        let value = value(entry)?;
        match self {
            Self::Digest => digest::encode(&value, &self.key(token).digest).ok(),
            Self::Dify => codec::encode(&value, token, None)?.ok(),
        }
    }
}

pub fn has_id(record: &TokenRecord<serde_json::Value>) -> bool {
    !record.id.is_empty()
}

fn entry(value: &Value<serde_json::Value>) -> Entry {
    let all = value.all().map(|it| it.to_string());
    match value {
        Value::Absent(_) => Entry::Absent { all },
        Value::Found(entry) => Entry::Found {
            record: Box::new(entry.value.clone()),
            all,
            generation: entry.generation.map(|it| it.to_string()),
            grace: entry.grace(),
        },
    }
}

fn value(entry: &Entry) -> Option<Value<serde_json::Value>> {
    let parsed = |text: &Option<String>| text.as_deref().and_then(Generation::parse);
    let short = |text: &Option<String>| text.as_deref().and_then(ShortGeneration::parse);
    Some(match entry {
        Entry::Lease | Entry::Corrupt => return None,
        Entry::Absent { all } => {
            Value::Absent(Arc::new(StoredEntry::new((), None).under(short(all))))
        }
        Entry::Found {
            record,
            all,
            generation,
            grace,
        } => {
            let entry = StoredEntry::new(TokenRecord::clone(record), parsed(generation));
            Value::Found(Arc::new(entry.under(short(all)).with_grace(*grace)))
        }
    })
}

/// What takes the pushes of one connection, in a session of tracking.
#[derive(Debug)]
pub struct Pushes {
    tracker: Arc<Tracker>,
    session: Arc<TrackingSession>,
    pushes: pushes::Pushes,
}

/// The watch of one key.
#[derive(Debug)]
pub struct WatchedKey(Watch);

impl Pushes {
    /// `all` is the key of the generation of all entries, and `tenants` what tenants' keys begin with.
    pub fn new(all: &str, tenants: &str) -> Self {
        let tracker = Tracker::new(all.to_owned(), tenants.to_owned());
        Self {
            session: tracker.begin(Tick::ZERO),
            pushes: pushes::Pushes::new(Arc::clone(&tracker)),
            tracker,
        }
    }

    pub fn watch(&self, name: &str) -> WatchedKey {
        let session = Arc::clone(&self.session);
        WatchedKey(Watch::new(session, self.tracker.mark(name)))
    }

    pub fn begin_test(&self, name: &str) {
        self.pushes.begin_test(name);
    }

    pub fn saw_probe(&self) -> bool {
        self.pushes.saw_probe()
    }

    pub fn take(&self, push: &PushInfo) {
        self.pushes.take(push);
    }
}

impl WatchedKey {
    /// Returns whether no push for the key has arrived.
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }
}

/// Returns whether a server that answers `HELLO` like this is known to send each push before later replies.
pub fn is_known(hello: redis::Value) -> bool {
    tracking::is_known(Ok(hello))
}
