//! Rotation: both tokens are valid during the overlap, and then only the successor.

use std::thread;

use serde_json::{Value, json};
use test_support::RedisServer;
use tower_api_token::TokenFormat;

use super::answer::Answer;
use super::server::{Database, Demo, eventually, rfc3339};

fn rotate(demo: &Demo, id: &str, overlap: u64) -> Answer {
    let body = json!({ "overlap_seconds": overlap }).to_string();
    demo.admin(
        "POST",
        &format!("/admin/tokens/{id}/rotate?wait=true"),
        Some(&body),
    )
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().expect("a text")
}

/// Both instances have the old token in their local level, with its former expiry.
fn overlap_and_its_end(database: &Database, layout: &str) {
    let redis = RedisServer::start();
    let start = || Demo::with(database, layout, Some(&redis));
    let (one, other) = (start(), start());
    let old = one.token("acme", "app");
    one.whoami(&old.text).expect_origin("loaded");
    other.whoami(&old.text).expect_origin("shared");
    other.whoami_locally(&old.text);

    // Long enough to see both on a busy machine.
    let rotated = rotate(&one, &old.id, 5).expect(201);
    assert_eq!(rotated.header("cache-control"), "no-store");
    let made = rotated.json();
    let new = text(&made, "token");
    assert!(TokenFormat::from_static("demo_app_").matches(new), "{made}");
    assert_eq!(made["predecessor"]["id"], old.id.as_str());
    assert_eq!(made["predecessor"]["revoked_at"], Value::Null);
    for demo in [&one, &other] {
        let seen = demo.whoami(new).expect(200).json();
        assert_eq!(seen["id"], made["id"]);
        assert_eq!(
            (&seen["tenant_id"], &seen["app_id"]),
            (&json!("acme"), &json!("acme-chat"))
        );
        // Cached again, with the new expiry.
        assert_eq!(demo.whoami(&old.text).expect(200).json()["id"], old.id);
        demo.whoami_locally(&old.text);
    }

    // Nothing is invalidated when the overlap ends: the cached entry has the new expiry.
    let invalidations = |demo: &Demo| demo.metric("api_token_invalidations_total", &[]);
    let before = (invalidations(&one), invalidations(&other));
    for demo in [&one, &other] {
        eventually("the old one expires", || {
            demo.whoami(&old.text).status == 401
        });
        demo.whoami(new).expect(200);
    }
    assert_eq!((invalidations(&one), invalidations(&other)), before);
    assert_eq!(one.metric("demo_pending_invalidations", &[]), 0);
}

#[test]
fn both_tokens_are_valid_during_the_overlap_on_sqlite() {
    overlap_and_its_end(&Database::sqlite(), "digest");
}

#[test]
fn both_tokens_are_valid_during_the_overlap_on_postgres() {
    overlap_and_its_end(&Database::postgres(), "digest");
}

#[test]
fn both_tokens_are_valid_during_the_overlap_in_the_dify_layout() {
    overlap_and_its_end(&Database::sqlite(), "dify");
}

/// Asserts that a rotation with `wait=true` has taken effect on the other instance when it is answered.
fn rotation_without_overlap(database: &Database, layout: &str) {
    let redis = RedisServer::start();
    let start = || Demo::with(database, layout, Some(&redis));
    let (one, other) = (start(), start());
    let old = one.token("acme", "dataset");
    other.get_as("/v1/datasets", &old.text).expect(200);
    other.locally("/v1/datasets", &old.text);
    let made = rotate(&one, &old.id, 0).expect(201).json();
    assert!(made["predecessor"]["revoked_at"].is_string(), "{made}");
    for demo in [&other, &one] {
        demo.get_as("/v1/datasets", &old.text).expect(401);
        demo.get_as("/v1/datasets", text(&made, "token"))
            .expect(200);
    }
    // The successor can be revoked in both layouts.
    other.delete(text(&made, "id")).expect(200);
    other
        .get_as("/v1/datasets", text(&made, "token"))
        .expect(401);
}

#[test]
fn rotation_without_overlap_revokes_everywhere() {
    rotation_without_overlap(&Database::sqlite(), "digest");
    rotation_without_overlap(&Database::postgres(), "digest");
    rotation_without_overlap(&Database::sqlite(), "dify");
    rotation_without_overlap(&Database::postgres(), "dify");
}

/// The request itself invalidates, not only the background task a second later. There are several
/// rotations, because that task may run between one of them and its check.
#[test]
fn rotation_takes_effect_immediately_on_its_instance() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let token = demo.token("acme", "app");
    let (mut id, mut old) = (token.id, token.text);
    for _ in 0..5 {
        demo.whoami(&old).expect_origin("loaded");
        demo.whoami_locally(&old);
        let path = format!("/admin/tokens/{id}/rotate");
        let made = demo
            .admin("POST", &path, Some(r#"{"overlap_seconds":0}"#))
            .expect(201)
            .json();
        demo.whoami(&old).expect(401);
        (id, old) = (
            text(&made, "id").to_owned(),
            text(&made, "token").to_owned(),
        );
    }
}

/// Asserts that one of several concurrent rotations, on two instances, succeeds, and that the others are
/// answered with its successor.
fn concurrent_rotations(database: &Database) {
    let redis = RedisServer::start();
    let start = || Demo::with(database, "digest", Some(&redis));
    let (one, other) = (start(), start());
    let old = one.token("acme", "app");
    let answers: Vec<_> = thread::scope(|scope| {
        let requests = [&one, &other, &one, &other, &one, &other]
            .map(|demo| scope.spawn(|| rotate(demo, &old.id, 600)));
        requests
            .into_iter()
            .map(|request| request.join().unwrap())
            .collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!(won.len(), 1, "{answers:?}");
    let successor = won[0].json()["id"].clone();
    for answer in lost {
        assert_eq!(answer.status, 409, "{answer:?}");
        assert_eq!(answer.json()["successor_id"], successor);
    }
    let listed = one.admin("GET", "/admin/tokens", None).expect(200).json();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 5, "{listed}");

    // How to continue after a lost response.
    let again = rotate(&other, successor.as_str().unwrap(), 0)
        .expect(201)
        .json();
    one.whoami(text(&again, "token")).expect(200);
    one.whoami(text(&won[0].json(), "token")).expect(401);
    one.whoami(&old.text).expect(200);
}

#[test]
fn one_of_several_concurrent_rotations_succeeds() {
    concurrent_rotations(&Database::sqlite());
    concurrent_rotations(&Database::postgres());
}

fn refusals(database: &Database) {
    let demo = Demo::on(database, &[]);
    let (good, revoked) = (demo.token("acme", "app"), demo.token("acme", "dataset"));
    demo.delete(&revoked.id).expect(200);
    let refused = rotate(&demo, &revoked.id, 60).expect(409);
    assert!(refused.body.contains("revoked"), "{refused:?}");
    for id in ["tok_none", "%00", &"x".repeat(300)] {
        rotate(&demo, id, 60).expect(404);
    }

    let soon = chrono::Utc::now() + std::time::Duration::from_millis(1500);
    let soon = rfc3339(soon);
    let body = json!({ "tenant_id": "acme", "token_type": "app", "expires_at": soon }).to_string();
    let short = demo
        .admin("POST", "/admin/tokens", Some(&body))
        .expect(201)
        .json();
    eventually("the token expires", || {
        demo.whoami(text(&short, "token")).status == 401
    });
    let refused = rotate(&demo, text(&short, "id"), 60).expect(409);
    assert!(refused.body.contains("expired"), "{refused:?}");

    let path = format!("/admin/tokens/{}/rotate", good.id);
    for (status, body) in [
        (422, r#"{"overlap_seconds":604801}"#),
        (422, r#"{"overlap_seconds":-1}"#),
        (422, r#"{"overlap":1}"#),
        (400, "[]"),
    ] {
        let answer = demo.admin("POST", &path, Some(body)).expect(status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    demo.admin("POST", &format!("{path}?wait=perhaps"), None)
        .expect(400);
    // None of these requests changed anything.
    let listed = demo.admin("GET", "/admin/tokens", None).expect(200).json();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 5, "{listed}");
    assert_eq!(demo.metric("demo_pending_invalidations", &[]), 0);
    demo.whoami(&good.text).expect(200);
    demo.admin("POST", &path, None).expect(201);
}

#[test]
fn failed_rotation_changes_nothing() {
    refusals(&Database::sqlite());
    refusals(&Database::postgres());
}

#[test]
fn rotation_extends_neither_tokens_life() {
    for database in [Database::sqlite(), Database::postgres()] {
        let demo = Demo::on(&database, &[]);
        let end = chrono::Utc::now() + std::time::Duration::from_secs(600);
        let end = rfc3339(end);
        let body =
            json!({ "tenant_id": "acme", "token_type": "app", "expires_at": end }).to_string();
        let old = demo
            .admin("POST", "/admin/tokens", Some(&body))
            .expect(201)
            .json();
        let made = rotate(&demo, text(&old, "id"), 3600).expect(201).json();
        assert_eq!(made["expires_at"], end.as_str());
        assert_eq!(made["predecessor"]["expires_at"], end.as_str());
        let next = rotate(&demo, text(&made, "id"), 60).expect(201).json();
        assert_eq!(next["expires_at"], end.as_str());
        assert!(text(&next["predecessor"], "expires_at") < end.as_str());
        // The response agrees with the database.
        let listed = demo.admin("GET", "/admin/tokens", None).expect(200).json();
        let tokens = listed["tokens"].as_array().unwrap();
        let of = |id: &Value| tokens.iter().find(|token| token["id"] == *id).unwrap();
        assert_eq!(
            of(&made["id"])["expires_at"],
            next["predecessor"]["expires_at"]
        );
        assert_eq!(of(&next["id"])["expires_at"], end.as_str());
    }
}

/// Asserts that the response is a 503 with the only copy of the text, that the rotation is committed, and
/// that the outbox invalidates later.
fn rotation_while_redis_is_down(database: &Database, layout: &str) {
    let redis = RedisServer::start();
    let demo = Demo::with(database, layout, Some(&redis));
    let old = demo.token("acme", "app");
    demo.whoami(&old.text).expect(200);
    // Frozen, not restarted, so that it still has the old token with its former expiry.
    redis.pause();
    let made = rotate(&demo, &old.id, 0).expect_unconfirmed().json();
    assert_eq!(made["predecessor"]["id"], old.id.as_str());
    assert_eq!(demo.metric("demo_pending_invalidations", &[]), 1);
    rotate(&demo, &old.id, 0).expect(409);
    redis.resume();
    eventually("the outbox is empty", || {
        demo.metric("demo_pending_invalidations", &[]) == 0
    });
    eventually("the old one is refused", || {
        demo.whoami(&old.text).status == 401
    });
    let seen = demo.whoami(text(&made, "token")).expect(200).json();
    assert_eq!(seen["id"], made["id"]);
}

#[test]
fn rotation_while_redis_is_down_is_confirmed_later() {
    rotation_while_redis_is_down(&Database::sqlite(), "digest");
    rotation_while_redis_is_down(&Database::postgres(), "dify");
}
