//! The commands that change keys and tenants, and their JSON.

use std::fs::File;
use std::process::Stdio;

use chrono::DateTime;
use serde_json::{Value, json};
use test_support::RedisServer;
use tower_api_token::{BearerToken, RedisStore};
use tower_api_token_sqlx::AuditQuery;

use crate::admin::send;
use crate::cli::{Cli, Ran, ended};
use crate::world::{World, answer};

crate::on_both!(
    issue_prints_the_text_alone,
    issue_takes_everything_that_a_key_has,
    each_change_and_its_exit_code,
    objects_have_these_names,
    revocation_is_in_force_in_a_running_service,
    changes_are_audited_with_their_actor,
    issue_says_that_its_text_could_not_be_printed,
);

async fn issue_prints_the_text_alone(world: World) {
    let cli = Cli::initialized(&world, None);
    let ran = cli.run(&["issue", "acme", "--expires-in", "90d"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.out.lines().count(), 1);
    assert!(ran.out.starts_with("api_"), "{ran:?}");
    assert!(
        ran.err.contains("issued key_") && ran.err.contains("expires 20"),
        "{ran:?}"
    );
    assert!(!ran.err.contains(ran.out.trim()));
    assert_eq!(cli.check(ran.out.trim(), &[]).code, 0);
}

async fn issue_takes_everything_that_a_key_has(world: World) {
    let cli = Cli::initialized(&world, None);
    let cli = cli
        .with("TOKEN_PREFIX", "acme_")
        .with("KEY_ID_PREFIX", "tok_");
    let arguments = [
        "issue",
        "acme",
        "--name",
        "ci",
        "--type",
        "app",
        "--app",
        "chat",
        "--scope",
        "a:read",
        "--scope",
        "a:write",
        "--metadata",
        r#"{"plan":"gold"}"#,
        "--expires-at",
        "2096-02-29T12:00:00+02:00",
    ];
    let issued = cli.json(0, &arguments);
    let key = &issued["key"];
    assert!(issued["token"].as_str().unwrap().starts_with("acme_"));
    assert!(key["id"].as_str().unwrap().starts_with("tok_"));
    let expected = [
        ("tenant_id", json!("acme")),
        ("status", json!("active")),
        ("name", json!("ci")),
        ("token_type", json!("app")),
        ("app_id", json!("chat")),
        ("scopes", json!(["a:read", "a:write"])),
        ("metadata", json!({ "plan": "gold" })),
        ("expires_at", json!("2096-02-29T10:00:00.000Z")),
        ("revoked_at", json!(null)),
    ];
    for (name, value) in expected {
        assert_eq!(key[name], value, "{name}");
    }
}

async fn each_change_and_its_exit_code(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, token) = cli.issue();
    let (other, _) = cli.issue();
    let id = id.as_str();
    // Arguments, exit code, the beginning of what is printed on standard output or standard error.
    let table: [(&[&str], i32, &str); 20] = [
        (&["suspend", "acme"], 0, "suspended acme; confirmed after "),
        (
            &["suspend", "acmee"],
            3,
            "api-token: there is no such tenant",
        ),
        (&["resume", "acme"], 0, "resumed acme; confirmed after "),
        (&["rotate", id, "--overlap", "1h"], 0, "api_"),
        (
            &["rotate", id, "--overlap", "1h"],
            1,
            "api-token: the key was rotated already",
        ),
        (&["rotate", id, "--undo"], 0, "undid the rotation of key_"),
        (
            &["rotate", id, "--undo"],
            1,
            "api-token: the key was not rotated",
        ),
        (
            &["rotate", id],
            2,
            "error: the following required arguments",
        ),
        (
            &["rotate", id, "--overlap", "1w"],
            2,
            "error: invalid value '1w'",
        ),
        (
            &["rotate", "key_0", "--overlap", "1h"],
            3,
            "api-token: no key has this id",
        ),
        (&["revoke", id, "--everywhere"], 0, "revoked key_"),
        (&["revoke", id], 0, "revoked key_"),
        (&["revoke", "key_0"], 3, "api-token: no key has this id"),
        (
            &["revoke", &other, "--actor", ""],
            2,
            "api-token: actor: empty",
        ),
        (&["show", "key_0"], 3, "api-token: no key has this id"),
        (
            &["issue", "acme", "--scope", "a b"],
            2,
            "api-token: scopes: not visible",
        ),
        (
            &["issue", "acme", "--expires-at", "2001-01-01T00:00:00Z"],
            2,
            "api-token: expires_at: in the past",
        ),
        (
            &["issue", "acme", "--metadata", "{"],
            2,
            "error: invalid value '{'",
        ),
        (&["list", "--limit", "0"], 2, "error: invalid value '0'"),
        (&["revok", id], 2, "error: unrecognized subcommand"),
    ];
    for (arguments, code, begin) in table {
        let Ran {
            code: actual,
            out,
            err,
        } = cli.run(arguments);
        assert_eq!(actual, code, "{arguments:?}: {out}{err}");
        let printed = if out.is_empty() { &err } else { &out };
        assert!(printed.starts_with(begin), "{arguments:?}: {printed}");
    }
    let refused = cli.check(&token, &["--json"]);
    assert_eq!(
        (refused.code, &refused.json()["reason"]),
        (5, &json!("revoked"))
    );
}

/// Returns the names of an object's fields, in order.
fn names(object: &Value) -> Vec<&str> {
    let fields = object.as_object().expect("an object").keys();
    fields.map(String::as_str).collect()
}

async fn objects_have_these_names(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let issued = cli.json(0, &["issue", "acme"]);
    assert_eq!(names(&issued), ["action", "key", "token"]);
    let key = names(&issued["key"]);
    let expected = [
        "app_id",
        "created_at",
        "expires_at",
        "id",
        "last_used_at",
        "metadata",
        "name",
        "predecessor_id",
        "revoked_at",
        "rotated_at",
        "scopes",
        "status",
        "successor_id",
        "tenant_id",
        "tenant_status",
        "token_type",
    ];
    assert_eq!(key, expected);
    // The router of the administration has the same.
    let router = world.keys().await.admin_router();
    let path = format!("/tokens/{}", issued["key"]["id"].as_str().unwrap());
    let shown = send(&router, "get", &path, "").await.expect(200);
    assert_eq!(names(&shown), expected);

    let id = issued["key"]["id"].as_str().unwrap();
    let rotated = cli.json(0, &["rotate", id, "--overlap", "1h"]);
    assert_eq!(
        names(&rotated),
        ["action", "confirmation", "key", "predecessor", "token"]
    );
    let confirmation = &rotated["confirmation"];
    assert_eq!(
        names(confirmation),
        [
            "confirmed",
            "confirmed_at",
            "confirmed_by",
            "effective_at",
            "took_ms"
        ]
    );
    assert_eq!(confirmation["confirmed_by"], "command");
    let at =
        |name: &str| DateTime::parse_from_rfc3339(confirmation[name].as_str().unwrap()).unwrap();
    assert!(at("effective_at") >= at("confirmed_at"));
    assert!(confirmation["took_ms"].as_i64().is_some());

    let shown = cli.json(0, &["show", id]);
    let rotation = [
        "predecessor_ends_at",
        "predecessor_id",
        "predecessor_last_used_at",
        "still_used_at",
        "successor_id",
        "successor_last_used_at",
    ];
    assert_eq!(names(&shown["rotation"]), rotation);
    for (arguments, action, fields) in [
        (
            ["rotate", id, "--undo"].as_slice(),
            "rotation_undone",
            ["action", "confirmation", "key"],
        ),
        (
            &["revoke", id],
            "revoked",
            ["action", "confirmation", "key"],
        ),
        (
            &["suspend", "acme"],
            "suspended",
            ["action", "confirmation", "tenant_id"],
        ),
        (
            &["resume", "acme"],
            "resumed",
            ["action", "confirmation", "tenant_id"],
        ),
    ] {
        let object = cli.json(0, arguments);
        assert_eq!(names(&object), fields, "{arguments:?}");
        assert_eq!(object["action"], action);
    }
}

async fn revocation_is_in_force_in_a_running_service(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, token) = cli.issue();
    let keys = world.keys().await;
    let store = RedisStore::new(&redis.url()).unwrap();
    let cache = keys.cache().store(store).build().unwrap();
    let token = BearerToken::new(token);
    assert_eq!(answer(&cache, &token).await, "valid");
    cli.ok(&["revoke", &id, "--everywhere"]);
    assert_eq!(answer(&cache, &token).await, "invalid");
}

async fn changes_are_audited_with_their_actor(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, _) = cli.issue();
    cli.ok(&["suspend", "acme", "--actor", "bob"]);
    cli.ok(&["revoke", &id]);
    let entries = world.keys().await.audit(AuditQuery::new()).await.unwrap();
    let actors: Vec<_> = entries
        .iter()
        .map(|it| (it.action.as_str(), it.actor.as_deref().unwrap()))
        .collect();
    assert_eq!(
        actors,
        [
            ("issued", "alice"),
            ("suspended", "bob"),
            ("revoked", "alice")
        ]
    );
}

async fn issue_says_that_its_text_could_not_be_printed(world: World) {
    let cli = Cli::initialized(&world, None);
    for arguments in [["issue", "acme"].as_slice(), &["issue", "acme", "--json"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = cli
            .command(arguments)
            .stdout(Stdio::from(full))
            .spawn()
            .unwrap();
        let ran = ended(child);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.err.contains("nobody has its text: revoke it"),
            "{ran:?}"
        );
    }
}
