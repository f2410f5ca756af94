//! Changes that are committed and not confirmed, by the command line.

use std::process::Command;

use serde_json::json;
use test_support::RedisServer;
use tower_api_token::{ApiTokenCache, BearerToken, RedisStore, TokenDigest};
use tower_api_token_sqlx::{ApiKeys, KeyStatus};

use crate::cli::{Cli, ended};
use crate::world::{World, answer, eventually};

crate::on_both!(
    revocation_while_redis_is_away_ends_with_4_and_the_service_confirms_it,
    revocation_is_confirmed_as_soon_as_redis_is_back,
    service_confirms_a_change_that_was_made_without_redis,
    change_that_no_service_confirms_ends_with_4,
    change_without_redis_has_to_be_asked_for,
    rotation_that_is_not_confirmed_prints_its_text,
    undone_rotation_waits_for_both_keys,
    interrupted_wait_prints_what_is_committed,
);

fn cache(keys: &ApiKeys, redis: &RedisServer) -> ApiTokenCache {
    let store = RedisStore::new(&redis.url()).unwrap();
    keys.cache().store(store).build().unwrap()
}

async fn revocation_while_redis_is_away_ends_with_4_and_the_service_confirms_it(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, token) = cli.issue();
    let keys = world.keys().await;
    let cache = cache(&keys, &redis);
    let token = BearerToken::new(token);
    assert_eq!(answer(&cache, &token).await, "valid");

    redis.kill();
    let revoked = cli.json(4, &["revoke", &id, "--wait", "0"]);
    assert_eq!(revoked["confirmation"], json!({ "confirmed": false }));
    assert_eq!(revoked["key"]["status"], "revoked");
    assert_eq!(keys.pending_count().await.unwrap(), 1);
    let checked = cli.check(token.expose(), &["--json"]);
    assert_eq!(
        (checked.code, &checked.json()["pending"]),
        (5, &json!(true))
    );
    redis.restart();
    eventually("the service confirms it", async || {
        keys.pending_count().await.unwrap() == 0
    })
    .await;
    assert_eq!(answer(&cache, &token).await, "invalid");
}

async fn revocation_is_confirmed_as_soon_as_redis_is_back(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, _) = cli.issue();
    redis.kill();
    let waiting = cli.spawn(&["--json", "revoke", &id, "--wait", "10m"]);
    let keys = world.keys().await;
    eventually("it is committed", async || {
        keys.pending_count().await.unwrap() == 1
    })
    .await;
    redis.restart();
    let ran = ended(waiting);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["confirmation"]["confirmed_by"], "outbox");
    assert_eq!(keys.pending_count().await.unwrap(), 0);
}

async fn service_confirms_a_change_that_was_made_without_redis(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, None);
    let (id, token) = cli.issue();
    let keys = world.keys().await;
    let cache = cache(&keys, &redis);
    let token = BearerToken::new(token);
    assert_eq!(answer(&cache, &token).await, "valid");
    let ran = cli.run(&["revoke", &id, "--no-redis", "--wait", "10m"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("confirmed through the outbox after "),
        "{ran:?}"
    );
    assert!(
        ran.err
            .contains("committed, not confirmed yet (without Redis)"),
        "{ran:?}"
    );
    assert_eq!(answer(&cache, &token).await, "invalid");
}

async fn change_that_no_service_confirms_ends_with_4(world: World) {
    let cli = Cli::initialized(&world, None);
    let (id, _) = cli.issue();
    let waits = ["--no-redis", "--wait", "0"];
    for change in [
        ["suspend", "acme"].as_slice(),
        &["resume", "acme"],
        &["rotate", &id, "--overlap", "1h"],
        &["rotate", &id, "--undo"],
        &["revoke", &id],
    ] {
        let arguments = [change, &waits].concat();
        let ran = cli.run(&arguments);
        assert_eq!(ran.code, 4, "{arguments:?}: {ran:?}");
        let all = format!("{}{}", ran.out, ran.err);
        assert!(
            all.contains("committed, not confirmed yet: caches may answer from before it"),
            "{ran:?}"
        );
    }
    // The tenant, the key and its successor.
    let keys = world.keys().await;
    assert_eq!(keys.pending_count().await.unwrap(), 3);
}

async fn change_without_redis_has_to_be_asked_for(world: World) {
    let cli = Cli::initialized(&world, None);
    let (id, _) = cli.issue();
    let ran = cli.run(&["revoke", &id]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err.contains("REDIS_URL: not set") && ran.err.contains("--no-redis"),
        "{ran:?}"
    );
    let key = world.keys().await.get(&id).await.unwrap().unwrap();
    assert_eq!(key.status_at(chrono::Utc::now()), KeyStatus::Active);
}

async fn rotation_that_is_not_confirmed_prints_its_text(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, _) = cli.issue();
    redis.kill();
    let ran = cli.run(&["rotate", &id, "--overlap", "1h", "--wait", "0"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(ran.out.lines().count(), 1);
    let checked = cli.check(ran.out.trim(), &["--json"]);
    assert_eq!(
        (checked.code, &checked.json()["key"]["predecessor_id"]),
        (0, &json!(id))
    );
}

async fn undone_rotation_waits_for_both_keys(world: World) {
    let cli = Cli::initialized(&world, None);
    let (id, token) = cli.issue();
    let digest = TokenDigest::of(&token);
    let keys = world.keys().await;
    // The key alone is confirmed, and then its successor alone.
    for confirmed in ["=", "<>"] {
        cli.run(&[
            "rotate",
            &id,
            "--overlap",
            "1h",
            "--no-redis",
            "--wait",
            "0",
        ]);
        world.execute("DELETE FROM ~outbox").await;
        let waiting = cli.spawn(&["rotate", &id, "--undo", "--no-redis", "--wait", "2s"]);
        eventually("both wait", async || {
            keys.pending_count().await.unwrap() == 2
        })
        .await;
        let delete = format!("DELETE FROM ~outbox WHERE subject {confirmed} '{digest}'");
        world.execute(&delete).await;
        assert_eq!(keys.pending_count().await.unwrap(), 1);
        let ran = ended(waiting);
        assert_eq!(ran.code, 4, "{ran:?}");
    }
}

async fn interrupted_wait_prints_what_is_committed(world: World) {
    let cli = Cli::initialized(&world, None);
    let (id, _) = cli.issue();
    for (signal, overlap) in [("INT", "1h"), ("TERM", "1m")] {
        let rotated = cli.spawn(&[
            "--json",
            "rotate",
            &id,
            "--overlap",
            overlap,
            "--no-redis",
            "--wait",
            "10m",
        ]);
        let keys = world.keys().await;
        eventually("it is committed", async || {
            keys.pending_count().await.unwrap() == 1
        })
        .await;
        wait_for_handler(rotated.id(), signal).await;
        interrupt(rotated.id(), signal);
        let ran = ended(rotated);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.json()["token"].as_str().unwrap().starts_with("api_"));
        cli.run(&["rotate", &id, "--undo", "--no-redis", "--wait", "0"]);
        world.execute("DELETE FROM ~outbox").await;
    }
}

fn interrupt(process: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([format!("-{signal}"), process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Waits until the process catches a signal, by the mask in `/proc`.
async fn wait_for_handler(process: u32, signal: &str) {
    let bit = if signal == "INT" { 1 } else { 14 };
    eventually("it catches the signal", async || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() >> bit & 1 == 1
    })
    .await;
}
