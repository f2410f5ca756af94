//! `KEY_LAYOUT=dify`: a Redis that is shared with Dify's Python service, whose commands the tests send.

use serde_json::{Value, json};
use test_support::RedisServer;

use super::configuration::run_to_end;
use super::server::{Database, Demo, Seeded, command, eventually};

const SEVEN: [&str; 7] = [
    "id",
    "app_id",
    "tenant_id",
    "type",
    "token",
    "last_used_at",
    "created_at",
];

fn entry(token: &str) -> String {
    format!("api_token:app:{token}")
}

/// Starts a server without a local level, so that answers come from Redis.
fn without_local_level(database: &Database, redis: &RedisServer, more: &[(&str, &str)]) -> Demo {
    let url = redis.url();
    let variables = [
        ("KEY_LAYOUT", "dify"),
        ("REDIS_URL", &url),
        ("LOCAL_CAPACITY", "0"),
    ];
    Demo::on(database, &[&variables, more].concat())
}

/// Sends what `redis.setex(key, 600, json.dumps(…))` sends: a space after each comma and colon, and a time
/// without an offset.
fn python_sets(redis: &RedisServer, key: &str, id: &str, token: &Seeded) {
    let json = format!(
        r#"{{"id": "{id}", "app_id": null, "tenant_id": "{}", "type": "app", "token": "{}", "last_used_at": null, "created_at": "2026-01-02T03:04:05.000006"}}"#,
        token.tenant, token.text
    );
    redis.command(&["SETEX", key, "600", &json]).ok();
}

#[test]
fn keys_and_values_are_those_of_python() {
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let demo = Demo::with(&database, "dify", Some(&redis));
    let token = demo.token("acme", "app");
    demo.whoami(&token.text).expect_origin("loaded");
    demo.whoami("no-such-token-anywhere").expect(401);

    let key = entry(&token.text);
    let null = entry("no-such-token-anywhere");
    let mut expected = vec![key.clone(), null.clone()];
    expected.sort();
    assert_eq!(redis.keys("api_token:*"), expected);
    assert_eq!(redis.get(&null).unwrap(), b"null");
    let members = redis.command(&["SMEMBERS", "tenant_tokens:acme"]).array();
    assert_eq!(
        members
            .into_iter()
            .map(|member| member.text())
            .collect::<Vec<_>>(),
        [key.as_str()]
    );
    assert!(redis.keys("api_token_query_lock:*").is_empty());

    let text = String::from_utf8(redis.get(&key).unwrap()).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let id = format!(r#"{{"id":"{}","app_id":"acme-chat""#, token.id);
    assert!(text.starts_with(&id), "{text}");
    assert!(
        SEVEN.iter().all(|member| value.get(member).is_some()),
        "{text}"
    );
    assert_eq!(
        [&value["tenant_id"], &value["type"], &value["token"]],
        [&json!("acme"), &json!("app"), &json!(token.text)]
    );
    assert!(value["last_used_at"].is_null(), "{text}");
    // Without an offset, as `datetime.isoformat()` formats it.
    let created = value["created_at"].as_str().unwrap();
    assert!(
        created.starts_with("20") && !created.ends_with('Z') && !created.contains('+'),
        "{text}"
    );
}

#[test]
fn pythons_entry_is_served_and_deleted_by_a_revocation() {
    let (database, redis) = (Database::postgres(), RedisServer::start());
    let demo = Demo::with(&database, "dify", Some(&redis));
    let token = demo.token("acme", "app");
    let key = entry(&token.text);
    // The key that Python uses without a type.
    let any = format!("api_token:any:{}", token.text);
    python_sets(&redis, &key, "python-1", &token);
    python_sets(&redis, &any, "python-1", &token);

    assert_eq!(
        demo.whoami(&token.text).expect_origin("shared").json()["id"],
        "python-1"
    );
    assert_eq!(demo.whoami_locally(&token.text).json()["id"], "python-1");
    assert_eq!(demo.metric("api_token_loads_total", &[]), 0);

    demo.admin(
        "DELETE",
        &format!("/admin/tokens/{}?wait=true", token.id),
        None,
    )
    .expect(200);
    assert_eq!(redis.keys(&format!("*{}*", token.text)), [""; 0]);
    demo.whoami(&token.text).expect(401);
    assert_eq!(redis.get(&key).unwrap(), b"null");
}

#[test]
fn pythons_entry_without_an_index_is_deleted_by_a_suspension() {
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let demo = without_local_level(&database, &redis, &[]);
    let (token, other) = (demo.token("acme", "app"), demo.token("globex", "app"));
    python_sets(&redis, &entry(&token.text), "python-1", &token);
    python_sets(&redis, &entry(&other.text), "python-2", &other);
    demo.whoami(&token.text).expect_origin("shared");

    demo.admin("POST", "/admin/tenants/acme/suspend", None)
        .expect(200);
    assert_eq!(redis.keys("api_token:*"), [entry(&other.text)]);
    demo.whoami(&token.text).expect(403);
    assert_eq!(
        demo.whoami(&other.text).expect_origin("shared").json()["id"],
        "python-2"
    );
}

/// Python revokes in the database, and then deletes the entry.
#[tokio::test(flavor = "multi_thread")]
async fn deletion_by_python_takes_effect() {
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let demo = without_local_level(&database, &redis, &[]);
    let token = demo.token("acme", "app");
    let revoke = "UPDATE api_token_keys SET revoked_at = created_at WHERE tenant_id = 'acme'";
    let key = entry(&token.text);

    demo.whoami(&token.text).expect_origin("loaded");
    demo.whoami(&token.text).expect_origin("shared");
    assert_eq!(redis.command(&["DEL", &key]).int(), 1);
    demo.whoami(&token.text).expect_origin("loaded");
    database.execute(revoke).await;
    demo.whoami(&token.text).expect_origin("shared");
    assert_eq!(redis.command(&["DEL", &key]).int(), 1);
    demo.whoami(&token.text).expect(401);
}

/// The local level reads the entry again within the maximum staleness, without an invalidation.
#[tokio::test(flavor = "multi_thread")]
async fn deletion_by_python_takes_effect_in_the_local_level() {
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let demo = Demo::with(&database, "dify", Some(&redis));
    let token = demo.token("acme", "app");
    demo.whoami(&token.text).expect_origin("loaded");
    demo.whoami_locally(&token.text);
    database
        .execute("UPDATE api_token_keys SET revoked_at = created_at")
        .await;
    redis.command(&["DEL", &entry(&token.text)]).int();
    eventually("the local entry ends", || {
        demo.whoami(&token.text).status == 401
    });
    assert_eq!(demo.metric("api_token_invalidations_total", &[]), 0);
}

#[test]
fn pythons_key_prefix_is_used() {
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    // Whitespace is stripped, as in Python.
    let demo = without_local_level(&database, &redis, &[("REDIS_KEY_PREFIX", " dify ")]);
    assert!(demo.banner.contains("\"dify\""), "{}", demo.banner);
    let token = demo.token("acme", "app");
    let key = format!("dify:{}", entry(&token.text));
    // An entry of another service on the same Redis.
    python_sets(&redis, &entry(&token.text), "python-1", &token);
    assert_eq!(
        demo.whoami(&token.text).expect_origin("loaded").json()["id"],
        token.id
    );
    assert_eq!(redis.keys("dify:api_token:*"), [key.as_str()]);
    python_sets(&redis, &key, "python-2", &token);
    assert_eq!(
        demo.whoami(&token.text).expect_origin("shared").json()["id"],
        "python-2"
    );

    demo.delete(&token.id).expect(200);
    assert_eq!(redis.get(&key), None);
    assert!(redis.get(&entry(&token.text)).is_some());
    demo.whoami(&token.text).expect(401);
}

#[test]
fn banner_names_the_layout_and_warns_about_the_text() {
    let redis = RedisServer::start();
    let warning = |layout: &str, redis: Option<&RedisServer>| {
        let demo = Demo::with(&Database::sqlite(), layout, redis);
        let line = format!("key layout: {layout}");
        assert!(demo.banner.contains(&line), "{}", demo.banner);
        let mut lines = demo.banner.lines();
        lines
            .find(|line| line.starts_with("warning: "))
            .map(str::to_owned)
    };
    assert_eq!(warning("digest", Some(&redis)), None);
    let with_redis = warning("dify", Some(&redis)).unwrap();
    assert!(
        with_redis.contains("Redis and the database hold the tokens' text"),
        "{with_redis}"
    );
    let in_memory = warning("dify", None).unwrap();
    assert!(
        in_memory.contains("the database holds the tokens' text"),
        "{in_memory}"
    );
}

/// Asserts that the server does not start, because a token without its text could not be invalidated.
#[track_caller]
fn refused(database: &Database, count: &str) {
    let mut command = command();
    command
        .env("LISTEN", "127.0.0.1:0")
        .env("DATABASE_URL", database.url())
        .env("KEY_LAYOUT", "dify");
    let (status, output, errors) = run_to_end(&mut command);
    assert_eq!(
        (status, output.as_str(), errors.lines().count()),
        (Some(1), "", 1),
        "{errors}"
    );
    assert!(
        errors.starts_with("error: KEY_LAYOUT: ")
            && errors.contains("only the digest")
            && errors.contains(count),
        "{errors}"
    );
}

#[test]
fn database_of_the_digest_layout_is_rejected() {
    for database in [Database::sqlite(), Database::postgres()] {
        let demo = Demo::with(&database, "digest", None);
        let token = demo.token("acme", "app");
        drop(demo);
        refused(&database, "4 of its 4 tokens");

        // The attempt changed nothing.
        let demo = Demo::with(&database, "digest", None);
        demo.whoami(&token.text).expect(200);
        // Revoked tokens count too, because their invalidation can be repeated.
        demo.delete(&token.id).expect(200);
        drop(demo);
        refused(&database, "4 of its 4 tokens");
    }
}

#[test]
fn one_token_without_its_text_is_rejected() {
    let database = Database::sqlite();
    drop(Demo::with(&database, "dify", None));
    let demo = Demo::with(&database, "digest", None);
    let body = r#"{"tenant_id":"acme","token_type":"app"}"#;
    demo.admin("POST", "/admin/tokens", Some(body)).expect(201);
    drop(demo);
    refused(&database, "1 of its 5 tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn database_of_the_dify_layout_works_with_the_digest_layout() {
    for database in [Database::sqlite(), Database::postgres()] {
        let redis = RedisServer::start();
        let demo = Demo::with(&database, "dify", Some(&redis));
        let (token, other) = (demo.token("acme", "app"), demo.token("globex", "app"));
        demo.whoami(&token.text).expect(200);
        drop(demo);
        redis.flushall();

        let demo = Demo::with(&database, "digest", Some(&redis));
        demo.whoami(&token.text).expect_origin("loaded");
        demo.whoami(&other.text).expect_origin("loaded");
        demo.admin(
            "DELETE",
            &format!("/admin/tokens/{}?wait=true", token.id),
            None,
        )
        .expect(200);
        demo.whoami(&token.text).expect(401);
        // As in README.md: the text may be cleared while the server runs.
        database.execute("DELETE FROM token_texts").await;
        demo.whoami(&other.text).expect(200);
        demo.admin(
            "DELETE",
            &format!("/admin/tokens/{}?wait=true", other.id),
            None,
        )
        .expect(200);
        demo.whoami(&other.text).expect(401);
        let contents = redis.keys("*").join(" ");
        assert!(!contents.contains(&token.text) && !contents.contains(&other.text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleared_text_is_removed_from_the_file() {
    let database = Database::sqlite();
    let demo = Demo::with(&database, "dify", None);
    let tokens = demo.seeded();
    drop(demo);
    assert!(tokens.iter().all(|token| database.holds(&token.text)));
    database.execute("DELETE FROM token_texts").await;
    database.execute("VACUUM").await;
    // Until then the new pages are in the write-ahead log, and the old ones in the file.
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    for token in &tokens {
        assert!(database.holds(&token.id) && !database.holds(&token.text));
    }
}

#[test]
fn logs_have_no_text_of_a_token() {
    let (database, redis) = (Database::postgres(), RedisServer::start());
    let demo = without_local_level(&database, &redis, &[("RUST_LOG", "trace")]);
    let token = demo.token("acme", "app");
    demo.whoami(&token.text).expect(200);
    demo.whoami("a-token-that-never-existed").expect(401);
    let body = r#"{"tenant_id":"acme","token_type":"app","token":"an-imported-token"}"#;
    demo.admin("POST", "/admin/tokens", Some(body)).expect(201);
    demo.admin("POST", "/admin/tokens", Some(body)).expect(409);
    demo.whoami("an-imported-token").expect(200);
    // An entry that cannot be read is logged without its content.
    let broken = format!("{{\"token\": \"{}\"", token.text);
    redis.command(&["SET", &entry(&token.text), &broken]).ok();
    demo.whoami(&token.text).expect_origin("loaded");
    redis.kill();
    demo.delete(&token.id).expect_unconfirmed();
    demo.whoami(&token.text).expect(401);

    let logs = demo.logs();
    assert!(logs.lines().count() > 10, "{logs}");
    for text in [
        token.text.as_str(),
        "a-token-that-never-existed",
        "an-imported-token",
    ] {
        assert!(!logs.contains(text), "{text} is in the logs");
    }
}
