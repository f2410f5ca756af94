//! Tests of the operations in protocol.md, run on every store.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use test_support::RedisServer;

use super::backend::{Backend, Deletion};
use super::entry::{Acquired, Entry, Filled, Generation, Group, Nonce, Observed, Seen, Value};
use super::into_store::sealed::{IntoStore, Parts};
use super::keys::{EntryKey, Keys};
use super::layout::KeyLayout;
use super::memory::MemoryStore;
use super::redis::RedisStore;
use crate::clock::Clock;
use crate::token::{BearerToken, TokenDigest, TokenRecord};

pub(super) type AnyStore = Arc<dyn Backend<u32>>;

pub(super) const LEASE: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::from_secs(60);
/// A TTL that tests wait for. Two commands take less.
const SHORT: Duration = Duration::from_millis(150);

fn parts() -> Parts {
    parts_of(KeyLayout::digest())
}

fn parts_of(layout: KeyLayout) -> Parts {
    Parts {
        keys: Arc::new(Keys::new("ns".to_owned(), layout).unwrap()),
        clock: Clock::System,
        stale_if_error: true,
        ttl: TTL,
        bound: Duration::ZERO,
    }
}

fn memory() -> AnyStore {
    MemoryStore::new().into_store(parts()).0
}

fn redis(server: &RedisServer) -> AnyStore {
    let store = RedisStore::new(&server.url()).unwrap();
    store
        .response_timeout(Duration::from_secs(5))
        .into_store(parts())
        .0
}

/// Runs a test on each store.
pub(super) async fn each(test: impl AsyncFn(AnyStore)) {
    test(memory()).await;
    let server = RedisServer::start();
    test(redis(&server)).await;
}

pub(super) fn key(token: &str) -> EntryKey {
    key_in(&parts().keys, token)
}

fn key_in(keys: &Keys, token: &str) -> EntryKey {
    let token = BearerToken::new(token);
    keys.key(&token, &token.digest(), Some(&Arc::from("app")))
}

fn record() -> TokenRecord<u32> {
    let at = DateTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    TokenRecord::new("tok-\"1\"é")
        .token_type("app")
        .tenant_id("t-1".to_owned())
        .created_at(at)
        .expires_at(at + Duration::from_secs(1 << 30))
        .scopes(["orders:read", "stock"])
        .metadata(7)
}

fn found(generation: Option<Generation>, ttl: Duration) -> Value<u32> {
    let until = Clock::System.now().after(ttl);
    Value::Found(Arc::new(Entry::new(record(), generation).until(until)))
}

fn absent(ttl: Duration) -> Value<u32> {
    let until = Clock::System.now().after(ttl);
    Value::Absent(Arc::new(Entry::new((), None).until(until)))
}

async fn acquire(store: &AnyStore, key: &EntryKey) -> Nonce {
    let nonce = Nonce::new();
    let acquired = store
        .acquire(key, None, nonce, LEASE)
        .await
        .unwrap()
        .acquired;
    assert!(matches!(acquired, Acquired::Ours), "{acquired:?}");
    nonce
}

/// Replaces `old` by a lease. Returns whether it was still there.
async fn replace(store: &AnyStore, key: &EntryKey, old: &Observed, nonce: Nonce) -> bool {
    match store
        .acquire(key, Some(old), nonce, LEASE)
        .await
        .unwrap()
        .acquired
    {
        Acquired::Ours => true,
        Acquired::Gone => false,
        Acquired::Taken(seen) => panic!("{seen:?}"),
    }
}

fn of_token(keys: &[EntryKey]) -> Deletion<'_> {
    Deletion::Token {
        keys,
        all_types: true,
    }
}

async fn put(store: &AnyStore, key: &EntryKey, value: &Value<u32>) {
    let nonce = acquire(store, key).await;
    let filled = store.fill(key, nonce, value, None, TTL).await.unwrap().0;
    assert!(matches!(filled, Filled::Stored(_)), "{filled:?}");
}

async fn value(store: &AnyStore, key: &EntryKey) -> (Value<u32>, Observed) {
    match store.get(key).await.unwrap() {
        Seen::Value(value, observed, _) => (value, observed),
        seen => panic!("{seen:?}"),
    }
}

async fn assert_vacant(store: &AnyStore, key: &EntryKey) {
    let seen = store.get(key).await.unwrap();
    assert!(matches!(seen, Seen::Vacant), "{seen:?}");
}

#[tokio::test]
async fn only_one_caller_acquires_a_lease() {
    each(async |store| {
        let k = key("a");
        assert_vacant(&store, &k).await;
        acquire(&store, &k).await;
        let second = store
            .acquire(&k, None, Nonce::new(), LEASE)
            .await
            .unwrap()
            .acquired;
        assert!(matches!(second, Acquired::Taken(Seen::Lease)), "{second:?}");
        assert!(matches!(store.get(&k).await.unwrap(), Seen::Lease));
        acquire(&store, &key("b")).await;
    })
    .await;
}

#[tokio::test]
async fn a_fill_needs_its_own_lease() {
    each(async |store| {
        let k = key("a");
        let nonce = acquire(&store, &k).await;
        let value = found(None, TTL);
        assert_eq!(
            store
                .fill(&k, Nonce::new(), &value, None, TTL)
                .await
                .unwrap()
                .0,
            Filled::Refused
        );
        assert!(matches!(
            store.fill(&k, nonce, &value, None, TTL).await.unwrap().0,
            Filled::Stored(_)
        ));
        // A late duplicate of the fill or of the acquire changes nothing.
        assert_eq!(
            store
                .fill(&k, nonce, &absent(TTL), None, TTL)
                .await
                .unwrap()
                .0,
            Filled::Refused
        );
        let taken = store
            .acquire(&k, None, nonce, LEASE)
            .await
            .unwrap()
            .acquired;
        assert!(
            matches!(taken, Acquired::Taken(Seen::Value(..))),
            "{taken:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_fill_after_a_deletion_is_refused() {
    each(async |store| {
        let k = key("a");
        let nonce = acquire(&store, &k).await;
        store
            .delete(of_token(std::slice::from_ref(&k)), false, None)
            .await
            .unwrap();
        assert_eq!(
            store
                .fill(&k, nonce, &found(None, TTL), None, TTL)
                .await
                .unwrap()
                .0,
            Filled::Refused
        );
        assert_vacant(&store, &k).await;
    })
    .await;
}

#[tokio::test]
async fn a_deletion_removes_only_the_given_keys() {
    each(async |store| {
        let keys = [key("a"), key("b")];
        for k in keys.iter().chain([&key("c")]) {
            put(&store, k, &absent(TTL)).await;
        }
        store.delete(of_token(&keys), false, None).await.unwrap();
        assert_vacant(&store, &keys[0]).await;
        assert_vacant(&store, &keys[1]).await;
        value(&store, &key("c")).await;
        store.delete(of_token(&keys), false, None).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_expired_lease_cannot_fill_and_can_be_acquired() {
    each(async |store| {
        let k = key("a");
        let nonce = Nonce::new();
        store.acquire(&k, None, nonce, SHORT).await.unwrap();
        while matches!(store.get(&k).await.unwrap(), Seen::Lease) {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            store
                .fill(&k, nonce, &found(None, TTL), None, TTL)
                .await
                .unwrap()
                .0,
            Filled::Refused
        );
        acquire(&store, &k).await;
    })
    .await;
}

#[tokio::test]
async fn a_value_expires_after_its_ttl() {
    each(async |store| {
        let k = key("a");
        let nonce = acquire(&store, &k).await;
        store
            .fill(&k, nonce, &found(None, SHORT), None, SHORT)
            .await
            .unwrap();
        while matches!(store.get(&k).await.unwrap(), Seen::Value(..)) {
            tokio::task::yield_now().await;
        }
        assert_vacant(&store, &k).await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_replaces_a_value_only_if_it_is_unchanged() {
    each(async |store| {
        let k = key("a");
        put(&store, &k, &found(None, TTL)).await;
        let (_, old) = value(&store, &k).await;
        store
            .delete(of_token(std::slice::from_ref(&k)), false, None)
            .await
            .unwrap();
        let ours = replace(&store, &k, &old, Nonce::new()).await;
        assert!(!ours, "the value was deleted");
        put(&store, &k, &absent(TTL)).await;
        let ours = replace(&store, &k, &old, Nonce::new()).await;
        assert!(!ours, "there is another value");
        let (_, old) = value(&store, &k).await;
        let nonce = Nonce::new();
        assert!(replace(&store, &k, &old, nonce).await);
        assert!(!replace(&store, &k, &old, Nonce::new()).await);
        assert!(matches!(store.get(&k).await.unwrap(), Seen::Lease));
        assert!(matches!(
            store
                .fill(&k, nonce, &found(None, TTL), None, TTL)
                .await
                .unwrap()
                .0,
            Filled::Stored(_)
        ));
    })
    .await;
}

#[tokio::test]
async fn only_its_holder_releases_a_lease() {
    each(async |store| {
        let k = key("a");
        let nonce = acquire(&store, &k).await;
        store.release(&k, Nonce::new()).await.unwrap();
        assert!(matches!(store.get(&k).await.unwrap(), Seen::Lease));
        store.release(&k, nonce).await.unwrap();
        assert_vacant(&store, &k).await;
        store.release(&k, nonce).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn all_kinds_of_values_round_trip() {
    each(async |store| {
        let generation = Generation::new();
        put(&store, &key("a"), &found(Some(generation), TTL)).await;
        let (read, _) = value(&store, &key("a")).await;
        let Value::Found(entry) = read else {
            panic!("{read:?}")
        };
        assert_eq!(
            (&entry.value, entry.generation),
            (&record(), Some(generation))
        );

        let denied = record().denied("tenant \"suspended\"");
        let entry =
            Entry::new(denied.clone(), Some(generation)).until(Clock::System.now().after(TTL));
        put(&store, &key("b"), &Value::Found(Arc::new(entry))).await;
        let (read, _) = value(&store, &key("b")).await;
        let Value::Found(entry) = read else {
            panic!("{read:?}")
        };
        assert_eq!(
            (&entry.value, entry.generation),
            (&denied, Some(generation))
        );

        put(&store, &key("c"), &absent(TTL)).await;
        assert!(matches!(value(&store, &key("c")).await.0, Value::Absent(_)));

        // Each kind keeps the generation of all entries that it was filled under.
        let all = Some(generation.short());
        let until = Clock::System.now().after(TTL);
        let record = |record| {
            let entry = Entry::new(record, None).under(all).until(until);
            Value::Found(Arc::new(entry))
        };
        let absent = Value::Absent(Arc::new(Entry::new((), None).under(all).until(until)));
        let kinds = [record(self::record()), record(denied), absent];
        for (token, kind) in ["d", "e", "f"].into_iter().zip(kinds) {
            put(&store, &key(token), &kind).await;
            assert_eq!(value(&store, &key(token)).await.0.all(), all, "{token}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_eviction_revokes_entries_that_are_still_referenced() {
    let store: AnyStore = MemoryStore::new().capacity(16).into_store(parts()).0;
    let mut held = Vec::new();
    for n in 0..1_000 {
        let k = key(&n.to_string());
        put(&store, &k, &found(None, TTL)).await;
        if let Seen::Value(Value::Found(entry), ..) = store.get(&k).await.unwrap() {
            held.push(entry);
        }
    }
    let alive = held
        .iter()
        .filter(|entry| !entry.revoked.load(std::sync::atomic::Ordering::SeqCst))
        .count();
    assert!(alive <= 16, "{alive}");
}

/// Returns a time in whole microseconds, which is the precision of stored times.
fn used(seconds: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001 + seconds * 1_000_000)
}

#[tokio::test]
async fn each_last_use_of_a_batch_only_moves_forward() {
    let server = RedisServer::start();
    let dify = || parts_of(KeyLayout::dify());
    let store = RedisStore::new(&server.url()).unwrap();
    let store = store
        .response_timeout(Duration::from_secs(5))
        .into_store(dify())
        .0;
    for (store, parts) in [
        (memory(), parts()),
        (redis(&server), parts()),
        (store, dify()),
    ] {
        let keys = ["a", "b", "c"].map(|token| key_in(&parts.keys, token));
        let put = async |times: [(usize, u64); 2]| {
            let uses = times.map(|(n, at)| (keys[n].clone(), used(at)));
            let put = store.put_last_uses(&uses).await.unwrap();
            assert!(put.len() == 2 && put.iter().all(Result::is_ok), "{put:?}");
        };
        let read = async || store.last_uses(&keys).await.unwrap();
        assert_eq!(read().await, [None; 3]);
        put([(0, 1), (1, 9)]).await;
        put([(1, 8), (0, 2)]).await;
        assert_eq!(read().await, [Some(used(2)), Some(used(9)), None]);
        put([(2, 3), (0, 2)]).await;
        assert_eq!(read().await, [2, 9, 3].map(|at| Some(used(at))));
    }
}

mod redis_only {
    use super::*;
    use crate::store::redis::codec::shared;

    fn name(k: &EntryKey) -> String {
        parts().keys.entry(k)
    }

    fn set(server: &RedisServer, k: &EntryKey, bytes: &str) {
        server.command(&["SET", &name(k), bytes]).ok();
    }

    #[tokio::test]
    async fn an_unreadable_value_is_corrupt_and_can_be_replaced() {
        let server = RedisServer::start();
        let store = redis(&server);
        let (a, b) = (key("a"), key("b"));
        put(&store, &b, &found(None, TTL)).await;
        let others = String::from_utf8(server.get(&name(&b)).unwrap()).unwrap();
        for bytes in [
            "",
            "V",
            "V1",
            "V1{",
            "V1null",
            "V1{\"id\":\"x\"}",
            "V2{}",
            "X1",
            "N2",
            "N1 ",
            "D2{}",
            "null",
            // The kind of a denied record without a reason, and a reason in a valid record.
            &others.replacen("V1", "D2", 1),
            &others.replace("\"metadata\"", "\"denied\":\"no\",\"metadata\""),
            &others, // another token's entry
            &others.replace("\"metadata\":7", "\"metadata\":\"seven\""),
            &others.replace("2023-", "99-"),
        ] {
            set(&server, &a, bytes);
            let Seen::Corrupt(old) = store.get(&a).await.unwrap() else {
                panic!("{bytes:?} was read");
            };
            assert!(replace(&store, &a, &old, Nonce::new()).await);
        }
    }

    #[tokio::test]
    async fn a_key_of_another_redis_type_is_detected_and_replaced() {
        let server = RedisServer::start();
        let store = redis(&server);
        let k = key("a");
        server.command(&["LPUSH", &name(&k), "x"]).int();
        let Seen::Corrupt(old) = store.get(&k).await.unwrap() else {
            panic!("a value")
        };
        assert_eq!(old, Observed::WrongType);
        assert!(replace(&store, &k, &old, Nonce::new()).await);
    }

    #[tokio::test]
    async fn a_record_above_the_size_limit_is_not_written() {
        let server = RedisServer::start();
        let store = redis(&server);
        let k = key("a");
        let nonce = acquire(&store, &k).await;
        let huge = TokenRecord::new("x".repeat(shared::MAX_BYTES))
            .token_type("app")
            .metadata(1);
        let value = Value::Found(Arc::new(Entry::new(huge, None)));
        assert_eq!(
            store.fill(&k, nonce, &value, None, TTL).await.unwrap().0,
            Filled::Unwritable
        );
        assert!(matches!(store.get(&k).await.unwrap(), Seen::Lease));
    }

    #[tokio::test]
    async fn keys_have_the_ttls_that_were_given() {
        let server = RedisServer::start();
        let store = redis(&server);
        let k = key("a");
        put(&store, &k, &found(None, TTL)).await;
        let left = server.command(&["PTTL", &name(&k)]).int();
        assert!((59_000..=60_000).contains(&left), "{left}");
        store
            .generation(&Group::tenant("t"), Generation::new())
            .await
            .unwrap();
        server.command(&["PEXPIRE", "ns:tenant:{t}", "1000"]).int();
        store
            .generation(&Group::tenant("t"), Generation::new())
            .await
            .unwrap();
        let left = server.command(&["PTTL", "ns:tenant:{t}"]).int();
        assert!(
            left > 86_000_000,
            "reading a generation extends its TTL: {left}"
        );
    }

    #[tokio::test]
    async fn a_lease_has_the_ttl_that_was_given() {
        let server = RedisServer::start();
        let (store, k) = (redis(&server), key("a"));
        acquire(&store, &k).await;
        let left = server.command(&["PTTL", &name(&k)]).int();
        assert!((4_000..=5_000).contains(&left), "{left}");
    }

    #[tokio::test]
    async fn an_unreadable_generation_is_deleted_and_then_created_anew() {
        let server = RedisServer::start();
        let store = redis(&server);
        for contents in [
            ["SET", "ns:tenant:{t}", "garbage"],
            ["LPUSH", "ns:tenant:{t}", "x"],
        ] {
            server.command(&["DEL", "ns:tenant:{t}"]).int();
            server.command(&contents);
            store
                .generation(&Group::tenant("t"), Generation::new())
                .await
                .unwrap_err();
            let fresh = Generation::new();
            assert_eq!(
                store
                    .generation(&Group::tenant("t"), fresh)
                    .await
                    .unwrap()
                    .generation,
                fresh
            );
        }
    }

    #[tokio::test]
    async fn a_deletion_returns_the_registry() {
        let server = RedisServer::start();
        let store = redis(&server);
        let bounds = vec![Duration::from_millis(1_000)];
        assert_eq!(store.register(bounds[0]).await.unwrap(), bounds);
        server.command(&["SADD", "ns:bounds", "nonsense"]).int();
        let read = store.delete(of_token(&[key("a")]), true, None).await;
        assert_eq!(read.unwrap().as_ref(), Some(&bounds));
        for what in [Deletion::Tenant("t"), Deletion::All] {
            let read = store.delete(what, true, None).await.unwrap();
            assert_eq!(read.as_ref(), Some(&bounds));
        }
    }

    #[tokio::test]
    async fn an_entry_has_the_documented_members_and_not_the_token() {
        let server = RedisServer::start();
        let store = redis(&server);
        put(&store, &key("a"), &found(None, TTL)).await;
        let bytes = server.get(&name(&key("a"))).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&bytes[2..]).unwrap();
        let hex = TokenDigest::of("a").to_string();
        assert_eq!(&bytes[..2], b"V1");
        assert_eq!(
            json,
            serde_json::json!({
                "id": "tok-\"1\"é", "tenant_id": "t-1", "type": "app",
                "scope": "orders:read stock", "digest": hex,
                "created_at": "2023-11-14T22:13:20.123456Z",
                "expires_at": "2057-11-23T11:50:24.123456Z", "metadata": 7,
            })
        );
    }

    #[tokio::test]
    async fn an_unreadable_last_use_is_none_and_is_replaced() {
        let server = RedisServer::start();
        for layout in [KeyLayout::digest, KeyLayout::dify] {
            let store = RedisStore::new(&server.url()).unwrap();
            let store = store.response_timeout(Duration::from_secs(5));
            let store: AnyStore = store.into_store(parts_of(layout())).0;
            let keys = parts_of(layout()).keys;
            let keys = (key_in(&keys, "a"), key_in(&keys, "b"), keys);
            let name = keys.2.last_use(&keys.0).into_bytes();
            let keys = [keys.0, keys.1];
            for contents in [
                &[b"LPUSH".as_slice(), &name, b"x"],
                &[b"SET".as_slice(), &name, b"zzz"],
                &[b"SET".as_slice(), &name, b"\xff"],
            ] {
                server.flushall();
                server.command(contents);
                assert_eq!(store.last_uses(&keys).await.unwrap(), [None; 2]);
                let uses = [(keys[0].clone(), used(1)), (keys[1].clone(), used(2))];
                let put = store.put_last_uses(&uses).await.unwrap();
                assert!(put.iter().all(Result::is_ok), "{put:?}");
                let read = store.last_uses(&keys).await.unwrap();
                assert_eq!(read, [Some(used(1)), Some(used(2))]);
            }
        }
    }
}
