//! What a server writes by itself to a connection with client tracking: any frames can be taken, an invalidation ends the
//! watches of its keys, or all if it does not name keys, and nothing else ends any.

use std::collections::BTreeSet;

use redis::{Parser, PushInfo, PushKind, Value};
use tower_api_token::fuzzing::{Pushes, is_known};

/// Seeds can have these keys.
const ALL: &str = "ns:tokens";
const TENANTS: &str = "ns:tenant:";
const PROBE: &str = "ns:probe";
const KEYS: [&str; 4] = [ALL, "ns:tenant:1", "ns:token:1", PROBE];

thread_local! {
    /// Its thousands of counters are made once.
    static PUSHES: Pushes = Pushes::new(ALL, TENANTS);
}

/// Reads frames up to the first that is none, where a connection ends.
pub(crate) fn target(mut data: &[u8]) {
    let mut parser = Parser::new();
    while let Ok(frame) = parser.parse_value(&mut data) {
        match frame {
            Value::Push { kind, data } => {
                PUSHES.with(|pushes| push(pushes, PushInfo { kind, data }))
            }
            reply => hello(reply),
        }
    }
}

fn push(pushes: &Pushes, push: PushInfo) {
    pushes.begin_test(PROBE);
    let watches = KEYS.map(|key| (key, pushes.watch(key)));
    pushes.take(&push);
    let changes = Changes::of(&push);
    for (key, watch) in watches {
        assert!(
            !(changes.include(key) && watch.is_current()),
            "{key}: {push:?}"
        );
        assert!(
            changes.may_end(key) || watch.is_current(),
            "{key}: {push:?}"
        );
    }
    assert_eq!(pushes.saw_probe(), changes.names.contains(PROBE.as_bytes()));
}

/// The keys that a push says have changed.
#[derive(Default)]
struct Changes {
    names: BTreeSet<Vec<u8>>,
    /// Whether all others have too.
    everything: bool,
}

impl Changes {
    fn of(push: &PushInfo) -> Self {
        let mut changes = Self::default();
        if push.kind != PushKind::Invalidate {
            return changes;
        }
        let [Value::Array(names)] = &push.data[..] else {
            changes.everything = true;
            return changes;
        };
        for name in names {
            match name {
                Value::BulkString(name) => drop(changes.names.insert(name.clone())),
                _ => changes.everything = true,
            }
        }
        changes
    }

    fn include(&self, key: &str) -> bool {
        self.everything || self.names.contains(key.as_bytes())
    }

    /// Returns whether the key's watch may have ended: keys of one kind can share a counter. That of all entries shares
    /// its own with no other.
    fn may_end(&self, key: &str) -> bool {
        let shares =
            |name: &Vec<u8>| name != ALL.as_bytes() && is_tenant(name) == is_tenant(key.as_bytes());
        self.include(key) || key != ALL && self.names.iter().any(shares)
    }
}

fn is_tenant(name: &[u8]) -> bool {
    name.starts_with(TENANTS.as_bytes())
}

/// A reply to `HELLO` of anything but Redis 7 or Valkey, with no other fields than theirs, switches tracking off.
fn hello(reply: Value) {
    let fields = match &reply {
        Value::Map(fields) => fields.clone(),
        _ => Vec::new(),
    };
    if is_known(reply) {
        let value = |name: &str| {
            fields
                .iter()
                .find(|(field, _)| text(field) == name)
                .map(|(_, it)| text(it))
        };
        match value("server").as_deref() {
            Some("valkey") => {}
            Some("redis") => {
                let version = value("version").unwrap_or_default();
                let major = version.split('.').next().unwrap_or_default();
                assert!(
                    !["", "1", "2", "3", "4", "5", "6"].contains(&major),
                    "{version}"
                );
            }
            server => panic!("{server:?} is known"),
        }
        assert!(fields.iter().all(|(field, _)| text(field) != "proxy"));
    }
}

fn text(value: &Value) -> String {
    redis::from_redis_value_ref(value).unwrap_or_default()
}
