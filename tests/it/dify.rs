//! Tests of the Dify layout, which is shared with a Python service: the contents of Redis, fills from both
//! sides, and the reach of an invalidation. These tests send Python's commands; `testing/fleet` has the real
//! client.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::common::{
    Builder, Cache, Db, Points, Row, ask, eventually, found, is_invalid, redis, start, until,
};
use chrono::DateTime;
use test_support::{Feature, RedisServer};
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::store::KeyLayout;
use tower_api_token::test_util::{ManualClock, SyncPoint};
use tower_api_token::{
    Answer, InvalidReason, InvalidateError, InvalidationReceipt, Origin, TokenDigest,
};

const TOKEN: &str = "app-0123456789abcdef";
const ENTRY: &str = "api_token:app:app-0123456789abcdef";
const LOCK: &str = "api_token_query_lock:app:app-0123456789abcdef";
const INDEX: &str = "tenant_tokens:t-1";

struct World {
    server: RedisServer,
    db: Arc<Db>,
}

impl World {
    fn new(row: Row) -> Self {
        Self {
            server: RedisServer::start(),
            db: Db::with(TOKEN, row),
        }
    }

    fn builder(&self) -> Builder {
        self.db
            .cache()
            .store(redis(&self.server).key_layout(KeyLayout::dify()))
            .token_types(["app", "dataset"])
    }

    /// Creates a cache without a local level, so that each lookup reads Redis.
    fn instance(&self) -> Cache {
        self.builder().local_capacity(0).build().unwrap()
    }

    /// Creates a cache without a local level, whose calls can be held.
    fn held_at(&self, points: &Points) -> Cache {
        let builder = self.builder().local_capacity(0);
        builder.sync_points(points.sync_points()).build().unwrap()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.server
            .get(name)
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// Writes what Python does: an entry, and a member of the tenant's index.
    fn python_sets(&self, token: &str, tenant: &str) {
        let entry = format!("api_token:app:{token}");
        let json = python_json(token, tenant);
        self.server.command(&["SETEX", &entry, "600", &json]).ok();
        self.server
            .command(&["SADD", &format!("tenant_tokens:{tenant}"), &entry])
            .int();
    }
}

fn python_json(token: &str, tenant: &str) -> String {
    format!(
        r#"{{"id": "py-1", "app_id": null, "tenant_id": "{tenant}", "type": "app", "token": "{token}", "last_used_at": null, "created_at": "2026-01-02T03:04:05.000006", "~metadata": 41}}"#
    )
}

#[tokio::test]
async fn an_entry_has_pythons_fields_followed_by_ours() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    found(&world.instance(), TOKEN).await;
    let text = world.text(ENTRY).unwrap();
    let seven = format!(
        r#"{{"id":"tok-1","app_id":null,"tenant_id":"t-1","type":"app","token":"{TOKEN}","last_used_at":null,"created_at":null,"~generation":""#
    );
    assert!(text.starts_with(&seven), "{text}");
    let left = world.server.command(&["PTTL", ENTRY]).int();
    assert!((539_000..=600_000).contains(&left), "{left}");
    let members = world.server.command(&["SMEMBERS", INDEX]).array();
    assert_eq!(
        members
            .into_iter()
            .map(|one| one.text())
            .collect::<Vec<_>>(),
        [ENTRY]
    );
    let left = world.server.command(&["TTL", INDEX]).int();
    assert!((650..=660).contains(&left), "{left}");
    assert_eq!(world.text(LOCK), None, "the lock is given back");
}

#[tokio::test]
async fn invalidating_a_tenant_ends_pythons_entries_locally() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let instance = world.builder().clock(ManualClock::new()).build().unwrap();
    for (token, tenant) in [(TOKEN, "t-1"), ("app-of-another", "t-2")] {
        world.python_sets(token, tenant);
        found(&instance, token).await;
        assert_eq!(found(&instance, token).await.origin(), Origin::Local);
    }
    world.db.suspend("t-1");
    instance.invalidate_tenant("t-1").await.unwrap();
    let answer = ask(&instance, TOKEN).await.unwrap();
    assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
    let other = found(&instance, "app-of-another").await;
    assert_eq!(other.origin(), Origin::Local);
}

#[tokio::test]
async fn a_negative_entry_is_null_and_shared_with_python() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    assert!(is_invalid(&instance, "unknown-token").await);
    assert_eq!(world.text("api_token:app:unknown-token").unwrap(), "null");
    let left = world
        .server
        .command(&["PTTL", "api_token:app:unknown-token"])
        .int();
    assert!((53_000..=60_000).contains(&left), "{left}");
    assert!(is_invalid(&instance, "unknown-token").await);
    assert_eq!(world.db.loads(), 1);
    world.server.command(&["SETEX", ENTRY, "60", "null"]).ok();
    assert!(is_invalid(&instance, TOKEN).await);
    // A Python node may overwrite it with a record at any time.
    world.python_sets(TOKEN, "t-1");
    assert_eq!(found(&instance, TOKEN).await.id(), "py-1");
    assert_eq!(world.db.loads(), 1);
}

#[tokio::test]
async fn pythons_entry_is_read_and_valid_as_it_is() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    world.python_sets(TOKEN, "t-1");
    let token = found(&world.instance(), TOKEN).await;
    assert_eq!((token.id(), token.origin()), ("py-1", Origin::Shared));
    assert_eq!(
        (token.tenant_id(), token.token().expose()),
        (Some("t-1"), TOKEN)
    );
    let created = DateTime::UNIX_EPOCH + Duration::from_micros(1_767_323_045_000_006);
    assert_eq!(token.created_at(), Some(created));
    assert_eq!(world.db.loads(), 0);
}

#[tokio::test]
async fn an_entry_that_is_a_miss_to_python_is_replaced() {
    let world = World::new(Row::new("app"));
    for (corrupt, text) in ["{broken", "V1{}", &python_json("another-token", "t-1")]
        .into_iter()
        .enumerate()
    {
        world.server.command(&["SET", ENTRY, text]).ok();
        let instance = world.instance();
        assert_eq!(found(&instance, TOKEN).await.id(), "tok-1", "{text}");
        assert_eq!(
            (world.db.loads(), instance.stats().corrupt),
            (corrupt + 1, 1)
        );
    }
    world.server.command(&["DEL", ENTRY]).int();
    world.server.command(&["SADD", ENTRY, "a set"]).int();
    found(&world.instance(), TOKEN).await;
    assert!(world.text(ENTRY).unwrap().starts_with("{\"id\":\"tok-1\""));
}

#[tokio::test]
async fn a_record_of_another_type_than_its_key_is_not_written() {
    let world = World::new(Row::new("dataset"));
    let instance = world.instance();
    let is_of_wrong_type = async || {
        let answer = ask(&instance, TOKEN).await.unwrap();
        matches!(answer, Answer::Invalid(InvalidReason::WrongTokenType))
    };
    for loads in 1..=2 {
        assert!(is_of_wrong_type().await);
        assert_eq!((world.db.loads(), world.text(ENTRY)), (loads, None));
    }
    // An entry of another type that Python wrote is not accepted, and is left alone.
    let json = python_json(TOKEN, "t-1").replace("\"app\"", "\"dataset\"");
    world.server.command(&["SET", ENTRY, &json]).ok();
    assert!(is_of_wrong_type().await);
    assert_eq!((world.db.loads(), world.text(ENTRY)), (2, Some(json)));
    assert_eq!(instance.stats().corrupt, 0);
}

#[tokio::test]
async fn pythons_deletion_between_load_and_fill_rejects_the_fill() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let points = Points::default();
    let instance = world.held_at(&points);
    let fill = points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&instance, TOKEN);
    fill.reached(1).await;
    assert!(world.text(ENTRY).unwrap().starts_with("L1"));
    assert_eq!(world.text(LOCK).unwrap().len(), 32);
    world.db.revoke(TOKEN);
    world.server.command(&["DEL", ENTRY]).int();
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!(
        (world.text(ENTRY), instance.stats().fills_refused),
        (None, 1)
    );
    assert_eq!(world.text(LOCK), None);
    assert!(is_invalid(&instance, TOKEN).await);
}

#[tokio::test]
async fn pythons_fill_over_our_lease_stays_and_ours_is_rejected() {
    let world = World::new(Row::new("app"));
    let points = Points::default();
    let instance = world.held_at(&points);
    let fill = points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&instance, TOKEN);
    fill.reached(1).await;
    world.python_sets(TOKEN, "t-1");
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!(world.text(ENTRY).unwrap(), python_json(TOKEN, "t-1"));
}

#[tokio::test]
async fn pythons_lock_is_waited_for_so_that_both_share_one_load() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    let held = "0123456789abcdef0123456789abcdef";
    world
        .server
        .command(&["SET", LOCK, held, "NX", "PX", "5000"])
        .ok();
    let waiting = start(&instance, TOKEN);
    // It has tried for the lock, and has read the entry again.
    until(|| world.server.command_count("get") >= 3).await;
    assert_eq!(world.db.loads(), 0);
    world.python_sets(TOKEN, "t-1");
    let answer = waiting.await.unwrap().unwrap().valid().unwrap();
    assert_eq!((answer.id(), world.db.loads()), ("py-1", 0));
    assert_eq!(
        world.text(LOCK).unwrap(),
        held,
        "the lock is Python's to release"
    );
    let left = world.server.command(&["PTTL", LOCK]).int();
    assert!((1..=5_000).contains(&left), "it is not prolonged: {left}");
}

#[tokio::test]
async fn a_lock_without_a_ttl_gets_one() {
    let world = World::new(Row::new("app"));
    world.server.command(&["SET", LOCK, "no lock"]).ok();
    let waiting = start(&world.instance(), TOKEN);
    until(|| world.server.command(&["PTTL", LOCK]).int() > 0).await;
    world.server.command(&["DEL", LOCK]).int();
    waiting.await.unwrap().unwrap().valid().unwrap();
}

#[tokio::test]
async fn a_lock_that_is_no_longer_ours_is_left_alone() {
    let world = World::new(Row::new("app"));
    let points = Points::default();
    let instance = world.held_at(&points);
    let fill = points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&instance, TOKEN);
    fill.reached(1).await;
    world
        .server
        .command(&["SET", LOCK, "another's", "PX", "10000"])
        .ok();
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!(world.text(LOCK).unwrap(), "another's");
}

#[tokio::test]
async fn an_invalidation_of_all_types_finds_pythons_entries() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    world.python_sets(TOKEN, "t-1");
    for name in [
        "api_token:any:app-0123456789abcdef",
        "api_token:my scope:app-0123456789abcdef",
    ] {
        world.server.command(&["SET", name, "null"]).ok();
    }
    let others = [
        "api_token:app:x-app-0123456789abcdef",
        "api_token:app:x:app-0123456789abcdef",
        "api_token_active:app:app-0123456789abcdef",
        "another:api_token:app:app-0123456789abcdef",
    ];
    for name in others {
        world.server.command(&["SET", name, "null"]).ok();
    }
    instance.invalidate(TOKEN).await.unwrap();
    let mut left = world.server.keys("*app-0123456789abcdef");
    left.sort();
    let mut expected = others.map(str::to_owned);
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn glob_characters_in_a_token_match_only_themselves() {
    let token = "a*b?[c-d]\\e^f{g}";
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    let near = [
        "api_token:app:aXb?[c-d]\\e^f{g}",
        "api_token:app:a*bXc\\e^f{g}",
    ];
    for name in near {
        world.server.command(&["SET", name, "null"]).ok();
    }
    world.db.insert(token, Row::new("app"));
    found(&instance, token).await;
    assert!(world.text(&format!("api_token:app:{token}")).is_some());
    world.db.revoke(token);
    instance.invalidate(token).await.unwrap();
    assert!(is_invalid(&instance, token).await);
    for name in near {
        assert_eq!(world.text(name).as_deref(), Some("null"), "{name}");
    }
}

#[tokio::test]
async fn an_invalidation_of_one_type_deletes_by_name() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    found(&instance, TOKEN).await;
    instance.invalidate(TOKEN).of_type("app").await.unwrap();
    assert_eq!(
        (world.text(ENTRY), world.server.command_count("scan")),
        (None, 0)
    );
}

#[tokio::test]
async fn an_invalidated_tenant_and_no_other_is_gone_for_python_too() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    world
        .db
        .insert("other-tenants-token", Row::new("app").of_tenant("t-2"));
    let instance = world.instance();
    found(&instance, TOKEN).await;
    found(&instance, "other-tenants-token").await;
    world.python_sets("indexed-by-python", "t-1");
    world.python_sets("in-no-index", "t-1");
    world
        .server
        .command(&["SREM", INDEX, "api_token:app:in-no-index"])
        .int();
    world.python_sets("python-of-t-2", "t-2");
    world
        .server
        .command(&["SET", "api_token:app:a-null", "null"])
        .ok();
    world
        .server
        .command(&["SET", "api_token:app:broken", "{\"tenant_id\":"])
        .ok();
    world
        .server
        .command(&["LPUSH", "api_token:app:a-list", "x"])
        .int();
    instance.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(
        world.server.keys("api_token:*"),
        [
            "api_token:app:a-list",
            "api_token:app:a-null",
            "api_token:app:broken",
            "api_token:app:other-tenants-token",
            "api_token:app:python-of-t-2",
        ]
    );
    assert_eq!(world.server.keys(INDEX), [""; 0]);
}

#[tokio::test]
async fn wait_for_replicas_covers_a_tenants_swept_entries() {
    let world = World::new(Row::new("app"));
    world.python_sets("indexed-by-python", "t-1");
    world.python_sets("in-no-index", "t-1");
    world
        .server
        .command(&["SREM", INDEX, "api_token:app:in-no-index"])
        .int();
    let instance = world.instance();
    let mut monitor = world.server.monitor();
    let invalidation = instance.invalidate_tenant("t-1").wait_for_replicas(0);
    invalidation.await.unwrap();
    let lines = monitor.take();
    let last = |word: &str, name: &str| {
        let is = |line: &String| line.contains(word) && line.contains(name);
        lines.iter().rposition(is).unwrap()
    };
    let wait = last("\"WAIT\"", "");
    assert!(wait > last("\"DEL\"", "api_token:app:indexed-by-python"));
    assert!(wait > last("\"DEL\"", "api_token:app:in-no-index"));
}

#[tokio::test]
async fn an_entry_is_indexed_even_if_its_generation_is_known() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    world
        .db
        .insert("second-token", Row::new("app").of_tenant("t-1"));
    let instance = world.builder().build().unwrap();
    found(&instance, TOKEN).await;
    found(&instance, "second-token").await;
    let members = world.server.command(&["SCARD", INDEX]).int();
    assert_eq!(members, 2, "Python invalidates a tenant by its index alone");
}

#[tokio::test]
async fn a_fill_from_before_a_tenants_invalidation_is_not_kept() {
    // The fill knows the tenant's generation from before. In this layout that must not be enough, because
    // Python does not read generations.
    let world = World::new(Row::new("app").of_tenant("t-1"));
    world
        .db
        .insert("first-token", Row::new("app").of_tenant("t-1"));
    let points = Points::default();
    let instance = world
        .builder()
        .sync_points(points.sync_points())
        .build()
        .unwrap();
    found(&instance, "first-token").await;
    let loaded = points.at(SyncPoint::Loaded);
    let before = loaded.arrivals();
    loaded.close();
    let slow = start(&instance, TOKEN);
    loaded.reached(before + 1).await;
    world.db.change(TOKEN, |_| {});
    world.instance().invalidate_tenant("t-1").await.unwrap();
    loaded.open();
    slow.await.unwrap().unwrap();
    let text = world.text(ENTRY).unwrap_or_default();
    assert!(
        text.is_empty() || text.contains("\"~metadata\":1"),
        "{text}"
    );
}

#[tokio::test]
async fn a_lease_that_is_in_no_index_does_not_outlive_the_sweep() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let points = Points::default();
    let instance = world.held_at(&points);
    let fill = points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&instance, TOKEN);
    fill.reached(1).await;
    world.server.command(&["SREM", INDEX, ENTRY]).int();
    world.db.change(TOKEN, |_| {});
    world.instance().invalidate_tenant("t-1").await.unwrap();
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!(
        (world.text(ENTRY), instance.stats().fills_refused),
        (None, 1)
    );
}

#[tokio::test]
async fn the_local_level_obeys_pythons_deletion_within_the_bound() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let clock = ManualClock::new();
    let instance = world.builder().clock(clock.clone()).build().unwrap();
    world.python_sets(TOKEN, "t-1");
    found(&instance, TOKEN).await;
    world.db.revoke(TOKEN);
    world.server.command(&["DEL", ENTRY]).int();
    clock.advance(Duration::from_millis(999));
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Local);
    until(|| instance.in_flight() == 0).await;
    clock.advance(Duration::from_millis(1));
    assert!(is_invalid(&instance, TOKEN).await);
}

#[tokio::test]
async fn a_denial_is_not_written_but_kept_locally_for_the_bound() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let clock = ManualClock::new();
    let instance = world.builder().clock(clock.clone()).build().unwrap();
    world.db.suspend("t-1");
    for _ in 0..3 {
        assert!(matches!(ask(&instance, TOKEN).await, Ok(Answer::Denied(_))));
    }
    assert_eq!(
        (world.text(ENTRY), world.text(LOCK), world.db.loads()),
        (None, None, 1)
    );
    world.db.resume("t-1");
    clock.advance(Duration::from_secs(1));
    found(&instance, TOKEN).await;
}

#[tokio::test]
async fn a_sweep_that_may_not_read_an_entry_is_not_confirmed() {
    if Feature::FineAcl.is_missing() {
        return;
    }
    let world = World::new(Row::new("app"));
    world.python_sets(TOKEN, "t-1");
    world.server.command(&["DEL", INDEX]).int();
    let rules = [
        "on",
        "nopass",
        "+@all",
        "%W~*",
        "%R~tenant_tokens:*",
        "~api_token~*",
    ];
    world
        .server
        .command(&[&["ACL", "SETUSER", "blind"], &rules[..]].concat())
        .ok();
    let url = world.server.url().replace("redis://", "redis://blind:x@");
    let builder = world
        .db
        .cache()
        .store(crate::common::redis_at(&url).key_layout(KeyLayout::dify()));
    let blind = builder.token_types(["app"]).build().unwrap();
    assert!(blind.check_store().await.is_ok());
    blind.invalidate_tenant("t-1").await.unwrap_err();
}

/// A caller may be cut off during the scan, which reads all keys of the database.
#[tokio::test]
async fn entries_of_declared_types_are_deleted_before_the_scan() {
    let world = World::new(Row::new("app"));
    world.python_sets(TOKEN, "t-1");
    let rules = ["on", "nopass", "+@all", "-scan", "~*", "&*"];
    world
        .server
        .command(&[&["ACL", "SETUSER", "blind"], &rules[..]].concat())
        .ok();
    let url = world.server.url().replace("redis://", "redis://blind:x@");
    let store = crate::common::redis_at(&url).key_layout(KeyLayout::dify());
    let blind = world.db.cache().store(store).token_types(["app"]);
    let blind = blind.build().unwrap();
    blind.invalidate(TOKEN).await.unwrap_err();
    assert_eq!(world.text(ENTRY), None);
}

#[tokio::test]
async fn no_error_repeats_a_token() {
    let world = World::new(Row::new("app"));
    let rules = ["on", "nopass", "~*", "+@all", "-scan", "-get"];
    world
        .server
        .command(&[&["ACL", "SETUSER", "few"], &rules[..]].concat())
        .ok();
    let url = world.server.url().replace("redis://", "redis://few:x@");
    let builder = world
        .db
        .cache()
        .store(crate::common::redis_at(&url).key_layout(KeyLayout::dify()));
    let instance = builder.token_types(["app"]).build().unwrap();
    let error = instance.invalidate(TOKEN).await.unwrap_err();
    let mut chain = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        chain += &format!(" {error} {error:?}");
        source = error.source();
    }
    assert!(
        chain.contains("NOPERM") && !chain.contains(TOKEN),
        "{chain}"
    );
}

#[tokio::test]
async fn an_invalidation_by_digest_is_an_error_not_to_be_retried() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    found(&instance, TOKEN).await;
    let error = instance
        .invalidate_digest(TokenDigest::of(TOKEN))
        .await
        .unwrap_err();
    assert!(!error.is_retryable());
    assert!(world.text(ENTRY).is_some());
}

#[tokio::test]
async fn last_uses_have_pythons_keys_and_naive_utc_times() {
    let world = World::new(Row::new("app"));
    for typed in [true, false] {
        let builder = world.builder().last_use(LastUseRecorder::store_only());
        let instance = builder.build().unwrap();
        match typed {
            true => instance.authenticate_typed(TOKEN, "app").await.unwrap(),
            false => instance.authenticate(TOKEN).await.unwrap(),
        };
        assert_eq!(instance.shutdown().await, 0);
    }
    let app = "api_token_active:app:app-0123456789abcdef";
    let none = "api_token_active:None:app-0123456789abcdef";
    for name in [app, none] {
        assert_eq!(world.server.command(&["TTL", name]).int(), 3600);
        let text = world.text(name).unwrap();
        assert!(text.starts_with("20") && !text.ends_with('Z'), "{text}");
    }
    let reader = world.instance();
    world.server.command(&["DEL", none]).int();
    for text in [
        "2026-01-02T03:04:05.000006",
        "2026-01-02T05:04:05.000006+02:00",
    ] {
        world.server.command(&["SET", app, text]).ok();
        let at = DateTime::UNIX_EPOCH + Duration::from_micros(1_767_323_045_000_006);
        let read = reader.last_used_at(TOKEN).await.unwrap();
        assert_eq!(read, Some(at));
    }
}

#[tokio::test]
async fn pythons_key_prefix_applies_to_all_but_set_commands() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let layout = KeyLayout::dify().key_prefix("prod");
    let builder = world
        .db
        .cache()
        .store(redis(&world.server).key_layout(layout))
        .token_types(["app"]);
    let instance = builder.local_capacity(0).build().unwrap();
    found(&instance, TOKEN).await;
    let entry = format!("prod:{ENTRY}");
    assert!(world.text(&entry).is_some());
    let members = world.server.command(&["SMEMBERS", INDEX]).array();
    assert_eq!(
        members[0].clone().text(),
        ENTRY,
        "set commands are not prefixed"
    );
    instance.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(world.text(&entry), None);
    found(&instance, TOKEN).await;
    world
        .server
        .command(&["SET", ENTRY, "another service's"])
        .ok();
    instance.invalidate(TOKEN).await.unwrap();
    assert_eq!(world.text(&entry), None);
    assert_eq!(world.text(ENTRY).as_deref(), Some("another service's"));
}

/// An invalidation that runs only while the test polls it, so that it can be stopped in the middle.
struct Stepped<F>(Pin<Box<F>>);

impl<F: Future> Stepped<F> {
    fn new(invalidation: impl IntoFuture<IntoFuture = F>) -> Self {
        Self(Box::pin(invalidation.into_future()))
    }

    /// Polls until `reached`, or until the invalidation ends, and then returns its output.
    async fn until(&mut self, mut reached: impl FnMut() -> bool) -> Option<F::Output> {
        while !reached() {
            let polled = poll_fn(|cx| Poll::Ready(self.0.as_mut().poll(cx))).await;
            if let Poll::Ready(output) = polled {
                return Some(output);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    }

    async fn end(&mut self) -> F::Output {
        self.0.as_mut().await
    }
}

/// Writes so many of Python's entries that every part of a scan has some, and so many other keys that a
/// scan takes about ten steps.
fn scattered(server: &RedisServer, entry: &str) {
    let others = "for i = 1, 4000 do redis.call('SET', 'other:' .. i, 'x') end return 1";
    server.command(&["EVAL", others, "0"]).int();
    let entries = "for i = 1, 400 do
        local name = 'api_token:in-' .. i .. ':' .. ARGV[1]
        redis.call('SET', name, ARGV[2], 'EX', 600)
    end return 1";
    server.command(&["EVAL", entries, "0", TOKEN, entry]).int();
}

/// Returns how many of those entries are left.
fn left(server: &RedisServer) -> usize {
    server.keys("api_token:in-*").len()
}

/// Stops an invalidation in the middle of its sweep, and replaces the server by one that has the same
/// contents in another order. An invalidation that then returns `Ok` must have seen all entries.
async fn replace_the_server_during<F>(world: &World, cache: &Cache, invalidate: F)
where
    F: AsyncFn() -> Result<InvalidationReceipt, InvalidateError>,
{
    let _ = cache.check_store().await;
    scattered(&world.server, &python_json(TOKEN, "t-1"));
    world.server.reset_stats();
    let mut invalidation = Stepped::new(Box::pin(invalidate()));
    let halfway = || world.server.command_count("scan") >= 4;
    assert!(invalidation.until(halfway).await.is_none());
    assert!((1..400).contains(&left(&world.server)));
    world.server.save_and_restart();
    eventually("there is no connection", async || {
        cache.check_store().await.is_ok()
    })
    .await;
    if invalidation.end().await.is_ok() {
        assert_eq!(
            left(&world.server),
            0,
            "Ok, but some entries were not swept"
        );
    }
    invalidate().await.unwrap();
    assert_eq!(left(&world.server), 0);
}

#[tokio::test]
async fn a_scan_for_a_token_does_not_reuse_a_cursor_elsewhere() {
    let world = World::new(Row::new("app"));
    let cache = world.instance();
    let invalidate = async || cache.invalidate(TOKEN).await;
    replace_the_server_during(&world, &cache, invalidate).await;
}

#[tokio::test]
async fn a_sweep_of_a_tenant_does_not_reuse_a_cursor_elsewhere() {
    let world = World::new(Row::new("app"));
    let cache = world.instance();
    let invalidate = async || cache.invalidate_tenant("t-1").await;
    replace_the_server_during(&world, &cache, invalidate).await;
}

#[tokio::test]
async fn a_replicated_sweep_does_not_reuse_a_cursor_elsewhere() {
    let world = World::new(Row::new("app"));
    let cache = world.instance();
    let invalidate = async || cache.invalidate_tenant("t-1").wait_for_replicas(0).await;
    replace_the_server_during(&world, &cache, invalidate).await;
}

#[tokio::test]
async fn a_replicated_scan_does_not_reuse_a_cursor_elsewhere() {
    let world = World::new(Row::new("app"));
    let cache = world.instance();
    let invalidate = async || cache.invalidate(TOKEN).wait_for_replicas(0).await;
    replace_the_server_during(&world, &cache, invalidate).await;
}

#[tokio::test]
async fn a_sweep_that_a_demoted_server_answers_is_not_confirmed() {
    let world = World::new(Row::new("app"));
    let cache = world.instance();
    let heir = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
    scattered(&world.server, "of nobody");
    let _ = cache.check_store().await;
    world.server.reset_stats();
    let mut invalidation = Stepped::new(cache.invalidate_tenant("t-1"));
    let halfway = || world.server.command_count("scan") >= 4;
    assert!(invalidation.until(halfway).await.is_none());
    // The sweep's connection stays open. Its deletions are not refused, because the sweep finds nothing.
    let port = heir.port().to_string();
    let follow = ["REPLICAOF", "127.0.0.1", &port];
    world.server.command(&follow).ok();
    eventually("a replica", async || {
        world.server.info("replication", "master_link_status") == Some("up".to_owned())
    })
    .await;
    invalidation.end().await.unwrap_err();
}

/// Returns the address of the client that sent the first command with this word.
fn client<'a>(lines: &'a [String], word: &str) -> &'a str {
    let line = lines.iter().find(|line| line.contains(word)).unwrap();
    line.split(['[', ']']).nth(1).unwrap()
}

#[tokio::test]
async fn wait_for_replicas_covers_a_tokens_scanned_entries() {
    let world = World::new(Row::new("app"));
    world.python_sets(TOKEN, "t-1");
    let name = format!("api_token:python:{TOKEN}");
    world.server.command(&["SET", &name, "null"]).ok();
    let instance = world.instance();
    let mut monitor = world.server.monitor();
    instance
        .invalidate(TOKEN)
        .wait_for_replicas(0)
        .await
        .unwrap();
    let lines = monitor.take();
    let deletion = client(&lines, "api_token:python:");
    assert_eq!(client(&lines, "\"WAIT\""), deletion);
    assert!(world.text(&name).is_none());
}

/// `WAIT` blocks its connection.
#[tokio::test]
async fn requests_share_their_connection_with_an_invalidation_but_not_with_a_wait() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    let mut monitor = world.server.monitor();
    found(&instance, TOKEN).await;
    instance.invalidate(TOKEN).await.unwrap();
    let durable = instance.invalidate(TOKEN).wait_for_replicas(0);
    durable.await.unwrap();
    let lines = monitor.take();
    let reads = client(&lines, ENTRY);
    assert_eq!(client(&lines, "\"SCAN\""), reads);
    assert_ne!(client(&lines, "\"WAIT\""), reads);
}

#[tokio::test]
async fn an_invalidated_token_leaves_its_tenants_index() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let instance = world.instance();
    let members = || world.server.command(&["SCARD", INDEX]).int();
    world.python_sets("another-token", "t-1");
    for of_type in [true, false] {
        found(&instance, TOKEN).await;
        assert_eq!(members(), 2);
        let invalidation = instance.invalidate(TOKEN);
        match of_type {
            true => invalidation.of_type("app").await.unwrap(),
            false => invalidation.await.unwrap(),
        };
        assert_eq!(members(), 1, "another token stays");
    }
    // An entry of a type that only Python uses, which a scan finds.
    let name = format!("api_token:python:{TOKEN}");
    let json = python_json(TOKEN, "t-1");
    world.server.command(&["SET", &name, &json]).ok();
    world.server.command(&["SADD", INDEX, &name]).int();
    instance
        .invalidate(TOKEN)
        .wait_for_replicas(0)
        .await
        .unwrap();
    assert_eq!(members(), 1);
}

#[tokio::test]
async fn an_entry_filled_during_an_invalidation_stays_indexed() {
    // An invalidation has read and deleted the old entry. Before it removes the member from the index, the token
    // is loaded and indexed again. Python, which uses only the index, must still find it there.
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let cache = world.instance();
    found(&cache, TOKEN).await;
    let mut invalidation = Stepped::new(cache.invalidate(TOKEN).of_type("app"));
    let deleted = || world.text(ENTRY).is_none();
    assert!(invalidation.until(deleted).await.is_none());
    world.python_sets(TOKEN, "t-1");
    invalidation.end().await.unwrap();
    let indexed = world.server.command(&["SISMEMBER", INDEX, ENTRY]).int();
    assert_eq!((world.text(ENTRY).is_some(), indexed), (true, 1));
}

#[tokio::test]
async fn an_entry_that_is_not_stored_is_not_indexed() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let points = Points::default();
    let instance = world.held_at(&points);
    // A denial has no form in this layout.
    world.db.suspend("t-1");
    assert!(matches!(ask(&instance, TOKEN).await, Ok(Answer::Denied(_))));
    assert_eq!(world.server.keys(INDEX), [""; 0]);
    world.db.resume("t-1");
    // A fill that is rejected because its lease is gone.
    let fill = points.at(SyncPoint::BeforeFill);
    let before = fill.arrivals();
    fill.close();
    let slow = start(&instance, TOKEN);
    fill.reached(before + 1).await;
    world.server.command(&["DEL", ENTRY]).int();
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!(instance.stats().fills_refused, 1);
    assert_eq!(world.server.keys(INDEX), [""; 0]);
}

#[tokio::test]
async fn fields_of_a_later_python_are_not_mistaken_for_ours() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    let plain = python_json(TOKEN, "t-1");
    for later in [
        r#""generation": 5"#,
        r#""expires_at": {"never": true}"#,
        r#""metadata": [1]"#,
    ] {
        let json = plain.replace('}', &format!(", {later}}}"));
        world.server.command(&["SET", ENTRY, &json]).ok();
        let token = found(&instance, TOKEN).await;
        assert_eq!((token.id(), *token.metadata()), ("py-1", 41), "{later}");
    }
    // Fields that we once wrote under such a name are still read.
    let former = plain.replace("~metadata", "metadata");
    world.server.command(&["SET", ENTRY, &former]).ok();
    assert_eq!(*found(&instance, TOKEN).await.metadata(), 41);
    assert_eq!((world.db.loads(), instance.stats().corrupt), (0, 0));
}
