//! Outages of Redis and of the database, and several instances.

use std::time::{Duration, Instant};

use serde_json::json;
use test_support::{FaultProxy, RedisServer, free_port};
use tower_api_token::TokenDigest;
use tower_api_token_sqlx::Database as Pool;

use super::server::{Database, Demo, eventually, unknown};

#[test]
fn server_starts_and_serves_without_redis() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("REDIS_URL", &url)]);
    let token = demo.token("acme", "app").text;
    demo.whoami(&token).expect_origin("loaded");
    demo.whoami(&token).expect_origin("loaded");
    let ready = demo.get("/readyz").expect(200).json();
    assert_eq!(
        ready,
        serde_json::json!({ "status": "ready", "database": "ok", "store": "unavailable" })
    );
}

/// Asserts that a revocation is a 503 while Redis is down, and that the outbox confirms it afterwards.
fn revocation_while_redis_is_down(database: &Database, layout: &str) {
    let redis = RedisServer::start();
    let demo = Demo::with(database, layout, Some(&redis));
    let token = demo.token("acme", "app");
    demo.whoami(&token.text).expect(200);

    redis.kill();
    for _ in 0..2 {
        let answer = demo.delete(&token.id).expect_unconfirmed();
        assert!(
            answer.json()["detail"]
                .as_str()
                .unwrap()
                .contains("revoked in the database"),
            "{answer:?}"
        );
    }
    assert_eq!(
        demo.metric("demo_pending_invalidations", &[]),
        1,
        "one row a subject"
    );
    assert!(!demo.logs().contains("too many invalidations"));

    redis.restart();
    eventually("the outbox is empty", || {
        demo.metric("demo_pending_invalidations", &[]) == 0
    });
    eventually("the revocation is confirmed", || {
        demo.delete(&token.id).status == 200
    });
    demo.whoami(&token.text).expect(401);
}

/// The outbox pauses for up to 8 s while invalidations fail. Without the probe, the old answer would stay in
/// the store for as long.
#[tokio::test(flavor = "multi_thread")]
async fn outbox_runs_as_soon_as_the_store_is_back() {
    let database = Database::sqlite();
    let redis = RedisServer::start();
    let demo = Demo::with(&database, "digest", Some(&redis));
    redis.kill();
    let token = demo.token("acme", "app");
    demo.delete(&token.id).expect_unconfirmed();
    let Pool::Sqlite(pool) = database.open().await else {
        panic!("another database");
    };
    let attempts = async || -> i64 {
        let select = "SELECT COALESCE(max(attempts), 0) FROM api_token_outbox";
        sqlx::query_scalar(select).fetch_one(&pool).await.unwrap()
    };
    // The first two attempts fail after 1 s and 2 s, the third after 4 s. The longest pause follows.
    let deadline = Instant::now() + Duration::from_secs(60);
    while attempts().await < 3 {
        assert!(Instant::now() < deadline, "{}", demo.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    redis.restart();

    let back = Instant::now();
    eventually("the outbox is empty", || {
        demo.metric("demo_pending_invalidations", &[]) == 0
    });
    let took = back.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?} of a pause of 8 s");
}

#[test]
fn revocation_while_redis_is_down_is_confirmed_later_on_sqlite() {
    revocation_while_redis_is_down(&Database::sqlite(), "digest");
}

#[test]
fn revocation_while_redis_is_down_is_confirmed_later_on_postgres() {
    revocation_while_redis_is_down(&Database::postgres(), "digest");
}

#[test]
fn revocation_while_redis_is_down_is_confirmed_later_in_dify_layout() {
    revocation_while_redis_is_down(&Database::sqlite(), "dify");
}

#[test]
fn suspension_while_redis_is_down_is_confirmed_later() {
    let redis = RedisServer::start();
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("REDIS_URL", &redis.url())]);
    let token = demo.token("acme", "app").text;
    demo.whoami(&token).expect(200);
    redis.kill();
    demo.admin("POST", "/admin/tenants/acme/suspend", None)
        .expect_unconfirmed();
    redis.restart();
    eventually("it is confirmed", || {
        demo.admin("POST", "/admin/tenants/acme/suspend", None)
            .status
            == 200
    });
    eventually("it is obeyed", || demo.whoami(&token).status == 403);
}

#[test]
fn creation_while_redis_is_down_returns_the_text() {
    let redis = RedisServer::start();
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("REDIS_URL", &redis.url())]);
    redis.kill();
    // Nobody can have tried a text that is random.
    let body = r#"{"tenant_id":"acme","token_type":"app"}"#;
    let issued = demo.admin("POST", "/admin/tokens", Some(body)).expect(201);
    demo.whoami(issued.json()["token"].as_str().unwrap())
        .expect(200);
    let body = json!({ "tenant_id": "acme", "token_type": "app", "token": unknown("app") });
    let answer = demo.admin("POST", "/admin/tokens", Some(&body.to_string()));
    let created = answer.expect_unconfirmed().json();
    redis.restart();
    let text = created["token"].as_str().unwrap();
    let seen = demo.whoami(text).expect(200).json();
    assert_eq!(seen["id"], created["id"]);
    demo.delete(created["id"].as_str().unwrap());
    eventually("the outbox is empty", || {
        demo.metric("demo_pending_invalidations", &[]) == 0
    });
}

/// Instances share the outbox, because it is in the database.
#[test]
fn pending_invalidation_is_confirmed_by_another_instance() {
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let proxy = FaultProxy::start(redis.addr());
    let cut_off = Demo::on(
        &database,
        &[("REDIS_URL", &format!("redis://{}", proxy.addr()))],
    );
    let token = cut_off.token("acme", "app");
    let other = Demo::on(&database, &[("REDIS_URL", &redis.url())]);
    cut_off.whoami(&token.text).expect_origin("loaded");
    other.whoami(&token.text).expect_origin("shared");

    proxy.cut();
    cut_off.delete(&token.id).expect_unconfirmed();
    eventually("the other one confirms", || {
        other.metric("demo_pending_invalidations", &[]) == 0
    });
    eventually("the other one refuses", || {
        other.whoami(&token.text).status == 401
    });
    let digest = TokenDigest::of(&token.text).to_string();
    for key in redis.keys("*").iter().filter(|key| key.contains(&digest)) {
        // A negative entry at most, so the token cannot be accepted.
        assert!(
            !redis.get(key).is_some_and(|value| value.starts_with(b"V")),
            "{key}"
        );
    }
}

/// Asserts that a crash between commit and confirmation does not lose the invalidation.
fn pending_invalidation_of_a_dead_instance(database: &Database, layout: &str) {
    let redis = RedisServer::start();
    let demo = Demo::with(database, layout, Some(&redis));
    let token = demo.token("acme", "app");
    demo.whoami(&token.text).expect(200);
    // Frozen, not restarted, so that it still has the value afterwards.
    redis.pause();
    demo.delete(&token.id).expect_unconfirmed();
    drop(demo);
    redis.resume();

    let next = Demo::with(database, layout, Some(&redis));
    eventually("the outbox is empty", || {
        next.metric("demo_pending_invalidations", &[]) == 0
    });
    eventually("the token is refused", || {
        next.whoami(&token.text).status == 401
    });
}

#[test]
fn pending_invalidation_of_a_dead_instance_is_done_by_the_next() {
    pending_invalidation_of_a_dead_instance(&Database::postgres(), "digest");
}

#[test]
fn pending_invalidation_of_a_dead_instance_is_done_in_dify_layout() {
    // With both databases, because the text is read from the table of tokens.
    pending_invalidation_of_a_dead_instance(&Database::sqlite(), "dify");
    pending_invalidation_of_a_dead_instance(&Database::postgres(), "dify");
}

/// Asserts that a change with `wait=true` has taken effect on the other instance when it is answered.
fn two_instances(database: &Database, layout: &str) {
    let redis = RedisServer::start();
    let start = || Demo::with(database, layout, Some(&redis));
    let (one, other) = (start(), start());
    assert!(other.seeded().is_empty(), "{}", other.banner);
    let token = one.token("acme", "app");
    one.whoami(&token.text).expect_origin("loaded");
    other.whoami(&token.text).expect_origin("shared");
    other.whoami_locally(&token.text);

    one.admin(
        "DELETE",
        &format!("/admin/tokens/{}?wait=true", token.id),
        None,
    )
    .expect(200);
    other.whoami(&token.text).expect(401);
    one.whoami(&token.text).expect(401);

    let token = one.token("globex", "app");
    other.whoami(&token.text).expect(200);
    one.admin("POST", "/admin/tenants/globex/suspend?wait=true", None)
        .expect(200);
    other.whoami(&token.text).expect(403);
    other
        .admin("POST", "/admin/tenants/globex/resume?wait=true", None)
        .expect(200);
    one.whoami(&token.text).expect(200);
}

#[test]
fn revocation_takes_effect_on_the_other_instance_on_sqlite() {
    two_instances(&Database::sqlite(), "digest");
}

#[test]
fn revocation_takes_effect_on_the_other_instance_on_postgres() {
    two_instances(&Database::postgres(), "digest");
}

#[test]
fn revocation_takes_effect_on_the_other_instance_in_dify_layout() {
    two_instances(&Database::sqlite(), "dify");
}

#[test]
fn database_outage_is_not_reported_as_an_invalid_token() {
    let database = Database::postgres();
    let Database::Postgres(server) = &database else {
        unreachable!()
    };
    let proxy = FaultProxy::start(server.addr());
    let demo = Demo::start(&[("DATABASE_URL", &server.url_at(proxy.addr()))]);
    let token = demo.token("acme", "app");
    demo.whoami(&token.text).expect(200);

    proxy.cut();
    demo.whoami(&token.text).expect_origin("local");
    let answer = demo.whoami(&demo.token("globex", "app").text).expect(503);
    assert!(
        !answer.header("retry-after").is_empty() && answer.header("www-authenticate").is_empty(),
        "{answer:?}"
    );
    let ready = demo.get("/readyz").expect(503).json();
    assert_eq!(ready["database"], "unavailable");
    demo.get("/healthz").expect(200);
    demo.get("/metrics").expect(200);
    let answer = demo.delete(&token.id).expect(503);
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("repeat"),
        "{answer:?}"
    );

    proxy.heal();
    demo.delete(&token.id).expect(200);
    demo.whoami(&token.text).expect(401);
    demo.get("/readyz").expect(200);
    // No negative entry was cached.
    demo.whoami(&demo.token("globex", "app").text).expect(200);
}
