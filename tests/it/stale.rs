//! Tests of `stale_if_error`: while the loader fails, a record past its TTL is answered, but never one that
//! was invalidated.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{
    Builder, Cache, Db, Mode, Points, Row, ask, entry, found, is_invalid, redis, start,
};
use test_support::RedisServer;
use tower_api_token::test_util::{ManualClock, SyncPoint};
use tower_api_token::{Answer, InvalidReason, Origin, UnavailableKind};

const TOKEN: &str = "app-0123456789abcdef";
const TTL: Duration = Duration::from_secs(600);
const NEGATIVE_TTL: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(300);

fn builder(db: &Arc<Db>) -> Builder {
    db.cache()
        .ttl(TTL)
        .negative_ttl(NEGATIVE_TTL)
        .ttl_jitter_percent(0)
        .stale_if_error(GRACE)
}

/// In memory the clock ages an entry. In Redis its TTL is shortened.
struct World {
    db: Arc<Db>,
    cache: Cache,
    clock: ManualClock,
    server: Option<RedisServer>,
    points: Points,
    aged: Cell<Duration>,
}

impl World {
    fn both() -> [Self; 2] {
        [None, Some(RedisServer::start())].map(|server| {
            let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
            let (clock, points) = (ManualClock::new(), Points::default());
            let mut builder = builder(&db)
                .sync_points(points.sync_points())
                .clock(clock.clone());
            if let Some(server) = &server {
                builder = builder.store(redis(server)).local_capacity(0);
            }
            Self {
                cache: builder.build().unwrap(),
                db,
                clock,
                server,
                points,
                aged: Cell::default(),
            }
        })
    }

    /// Ages the entry so that `left` of its TTL and its grace remains.
    fn age(&self, left: Duration) {
        match &self.server {
            None => {
                let age = TTL + GRACE - left;
                self.clock.advance(age - self.aged.replace(age));
            }
            Some(server) => {
                let left = left.as_millis().to_string();
                assert_eq!(server.command(&["PEXPIRE", &entry(TOKEN), &left]).int(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_denied_record_has_no_grace() {
    for world in World::both() {
        world.db.suspend("t-1");
        let denied = async || matches!(ask(&world.cache, TOKEN).await, Ok(Answer::Denied(_)));
        assert!(denied().await);
        world.db.mode(Mode::Fails);
        match &world.server {
            None => {
                world.clock.advance(NEGATIVE_TTL - Duration::from_millis(1));
                assert!(denied().await);
                world.clock.advance(Duration::from_millis(1));
                let error = ask(&world.cache, TOKEN).await.unwrap_err();
                assert_eq!(error.kind(), UnavailableKind::LoaderFailed);
            }
            Some(server) => {
                let written = String::from_utf8(server.get(&entry(TOKEN)).unwrap()).unwrap();
                assert!(written.starts_with("D2"), "{written}");
                assert!(!written.contains("soft"), "{written}");
                let left = server.command(&["PTTL", &entry(TOKEN)]).int();
                assert!((1..=60_000).contains(&left), "{left}");
                assert!(denied().await);
            }
        }
    }
}

#[tokio::test]
async fn a_record_past_its_ttl_is_answered_while_the_loader_fails() {
    for world in World::both() {
        found(&world.cache, TOKEN).await;
        world.db.mode(Mode::Fails);
        world.age(GRACE + Duration::from_secs(60));
        assert_ne!(
            found(&world.cache, TOKEN).await.origin(),
            Origin::Stale,
            "not past its TTL yet"
        );
        world.age(GRACE - Duration::from_secs(1));
        for _ in 0..3 {
            let stale = found(&world.cache, TOKEN).await;
            assert_eq!((stale.origin(), *stale.metadata()), (Origin::Stale, 0));
        }
        assert!(world.db.loads() >= 2, "the loader is asked first");
        world.db.mode(Mode::Answers);
        world.db.change(TOKEN, |_| {});
        // A loader that failed is not called again for a second.
        assert_eq!(found(&world.cache, TOKEN).await.origin(), Origin::Stale);
        world.clock.advance(Duration::from_secs(1));
        let fresh = found(&world.cache, TOKEN).await;
        assert_eq!((fresh.origin(), *fresh.metadata()), (Origin::Loaded, 1));
    }
}

#[tokio::test]
async fn a_record_past_its_grace_is_unavailable() {
    for world in World::both() {
        found(&world.cache, TOKEN).await;
        world.db.mode(Mode::Fails);
        match &world.server {
            None => world.clock.advance(TTL + GRACE),
            Some(server) => server.flushall(),
        }
        let error = ask(&world.cache, TOKEN).await.unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderFailed);
    }
}

#[tokio::test]
async fn an_invalidated_record_is_never_answered_stale() {
    for world in World::both() {
        for invalidates_tenant in [false, true] {
            world.db.mode(Mode::Answers);
            found(&world.cache, TOKEN).await;
            world.aged.set(Duration::ZERO);
            world.age(GRACE / 2);
            world.db.mode(Mode::Fails);
            if invalidates_tenant {
                world.cache.invalidate_tenant("t-1").await.unwrap();
            } else {
                world.cache.invalidate(TOKEN).await.unwrap();
            }
            ask(&world.cache, TOKEN).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn an_invalidation_during_a_failing_load_prevents_a_restore() {
    for world in World::both() {
        found(&world.cache, TOKEN).await;
        world.age(GRACE / 2);
        world.db.mode(Mode::Fails);
        let loaded = world.points.at(SyncPoint::Loaded);
        let before = loaded.arrivals();
        loaded.close();
        let slow = start(&world.cache, TOKEN);
        loaded.reached(before + 1).await;
        world.db.revoke(TOKEN);
        world.cache.invalidate(TOKEN).await.unwrap();
        loaded.open();
        slow.await.unwrap().unwrap_err();
        ask(&world.cache, TOKEN).await.unwrap_err();
        world.db.mode(Mode::Answers);
        assert!(is_invalid(&world.cache, TOKEN).await);
    }
}

#[tokio::test]
async fn a_negative_entry_has_no_grace() {
    for world in World::both() {
        assert!(is_invalid(&world.cache, "unknown-token").await);
        world.db.mode(Mode::Fails);
        match &world.server {
            None => world.clock.advance(Duration::from_secs(60)),
            Some(server) => server.flushall(),
        }
        ask(&world.cache, "unknown-token").await.unwrap_err();
    }
}

#[tokio::test]
async fn an_expired_token_is_not_answered_in_its_grace() {
    let db = Db::with(TOKEN, Row::new("app"));
    let clock = ManualClock::new();
    let cache = builder(&db).clock(clock.clone()).build().unwrap();
    db.change(TOKEN, |row| {
        row.expires_at = Some(clock.now() + TTL + GRACE / 2)
    });
    found(&cache, TOKEN).await;
    db.mode(Mode::Fails);
    clock.advance(TTL + GRACE / 4);
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Stale);
    clock.advance(GRACE / 2);
    match ask(&cache, TOKEN).await {
        Ok(Answer::Invalid(InvalidReason::Expired)) | Err(_) => {}
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn a_stale_local_entry_asks_the_loader_once_per_bound() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    let clock = ManualClock::new();
    let cache = builder(&db)
        .store(redis(&server))
        .clock(clock.clone())
        .build()
        .unwrap();
    found(&cache, TOKEN).await;
    db.mode(Mode::Fails);
    let left = (GRACE / 2).as_millis().to_string();
    server.command(&["PEXPIRE", &entry(TOKEN), &left]).int();
    clock.advance(Duration::from_secs(1));
    for _ in 0..5 {
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Stale);
    }
    assert_eq!(db.loads(), 2);
    let left = server.command(&["PTTL", &entry(TOKEN)]).int();
    assert!(left <= 150_000, "the TTL is not prolonged: {left}");
}

#[tokio::test]
async fn without_stale_if_error_a_record_ends_with_its_ttl() {
    let (db, clock) = (Db::with(TOKEN, Row::new("app")), ManualClock::new());
    let cache = db.cache().ttl(TTL).clock(clock.clone()).build().unwrap();
    found(&cache, TOKEN).await;
    db.mode(Mode::Fails);
    clock.advance(TTL);
    ask(&cache, TOKEN).await.unwrap_err();
}

#[tokio::test]
async fn an_entry_stays_in_redis_for_its_ttl_and_its_grace() {
    let (server, db) = (RedisServer::start(), Db::with(TOKEN, Row::new("app")));
    let cache = builder(&db).store(redis(&server)).build().unwrap();
    found(&cache, TOKEN).await;
    let left = server.command(&["PTTL", &entry(TOKEN)]).int();
    assert!((890_000..=900_000).contains(&left), "{left}");
}

#[tokio::test]
async fn an_instance_without_grace_ignores_that_of_another() {
    let (server, db) = (RedisServer::start(), Db::with(TOKEN, Row::new("app")));
    let graceful = builder(&db).store(redis(&server)).build().unwrap();
    found(&graceful, TOKEN).await;
    db.change(TOKEN, |_| {});
    let without = || db.cache().store(redis(&server)).build().unwrap();
    assert_eq!(found(&without(), TOKEN).await.origin(), Origin::Shared);
    let left = (GRACE.as_millis() - 1_000).to_string();
    server.command(&["PEXPIRE", &entry(TOKEN), &left]).int();
    let anew = found(&without(), TOKEN).await;
    assert_eq!((anew.origin(), *anew.metadata()), (Origin::Loaded, 1));
}

#[tokio::test]
async fn peek_returns_a_record_within_its_ttl_but_not_its_grace() {
    for world in World::both() {
        found(&world.cache, TOKEN).await;
        let peeked = async || world.cache.peek(TOKEN).await.unwrap();
        assert!(peeked().await.is_some());
        world.age(GRACE);
        assert!(peeked().await.is_none());
        assert_eq!(world.db.loads(), 1);
    }
}
