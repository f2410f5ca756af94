//! The commands `list`, `show`, `check` and `watch`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command};

use serde_json::{Value, json};
use test_support::RedisServer;
use tower_api_token::{BearerToken, RedisStore};

use crate::cli::{Cli, ended};
use crate::world::{World, answer, eventually};

crate::on_both!(
    list_has_pages_and_all_of_them,
    list_and_show_have_last_uses_that_only_redis_has,
    show_says_who_still_uses_a_rotated_key,
    check_says_why_a_token_is_refused,
    check_shows_what_redis_answers,
    check_answers_while_redis_is_away,
    watch_prints_changes_and_confirmations,
    watch_begins_where_it_is_told,
);

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect()
}

async fn list_has_pages_and_all_of_them(world: World) {
    let cli = Cli::initialized(&world, None);
    let ids: Vec<_> = (0..5).map(|_| cli.issue().0).collect();
    cli.ok(&["issue", "globex", "--name", "ci"]);
    let listed = |arguments: &[&str]| {
        let all = lines(&cli.ok(&[&["list", "--json"], arguments].concat())).into_iter();
        all.map(|key| key["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let acme = ["--tenant", "acme", "--limit", "2"];
    assert_eq!(listed(&acme), ids[..2]);
    assert_eq!(
        listed(&[acme.as_slice(), &["--after", &ids[1]]].concat()),
        ids[2..4]
    );
    assert_eq!(listed(&[acme.as_slice(), &["--all"]].concat()), ids);
    assert_eq!(listed(&["--all", "--limit", "4"]).len(), 6);
    assert_eq!(listed(&["--newest-first", "--limit", "1"]).len(), 1);
    assert_eq!(listed(&["--tenant", "nobody"]), Vec::<String>::new());

    let table = cli.run(&["list", "--limit", "2"]);
    assert_eq!(table.out.lines().count(), 3, "{table:?}");
    assert!(
        table.out.starts_with("ID ") && table.out.contains("  active  "),
        "{table:?}"
    );
    assert!(
        table.err.contains(&format!("--after {}", ids[1])),
        "{table:?}"
    );
}

async fn list_and_show_have_last_uses_that_only_redis_has(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, token) = cli.issue();
    assert_eq!(cli.json(0, &["show", &id])["last_used_at"], json!(null));
    let keys = world.keys().await;
    let store = RedisStore::new(&redis.url()).unwrap();
    let cache = keys.cache().store(store).build().unwrap();
    assert_eq!(answer(&cache, &BearerToken::new(token)).await, "valid");
    eventually("Redis has the use", async || {
        cli.json(0, &["show", &id])["last_used_at"].is_string()
    })
    .await;
    assert!(cli.json(0, &["list"])["last_used_at"].is_string());
}

async fn show_says_who_still_uses_a_rotated_key(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, _) = cli.issue();
    assert_eq!(cli.json(0, &["show", &id])["rotation"], json!(null));
    cli.ok(&["rotate", &id, "--overlap", "1h"]);
    let shown = cli.ok(&["show", &id]);
    assert!(
        shown.contains(&format!("{id} was not used since it was rotated")),
        "{shown}"
    );
    let later = match &world {
        World::Sqlite(_) => "rotated_at + 1000000",
        World::Postgres(..) => "rotated_at + interval '1 second'",
    };
    world
        .execute(&format!(
            "UPDATE ~keys SET last_used_at = {later} WHERE id = '{id}'"
        ))
        .await;
    let shown = cli.ok(&["show", &id]);
    assert!(
        shown.contains(&format!("{id} was used after it was rotated")),
        "{shown}"
    );
    let rotation = &cli.json(0, &["show", &id])["rotation"];
    assert!(rotation["still_used_at"].is_string() && rotation["predecessor_id"] == json!(id));
}

async fn check_says_why_a_token_is_refused(world: World) {
    let cli = Cli::initialized(&world, None);
    let reason = |token: &str| {
        let ran = cli.check(token, &["--json"]);
        let json = ran.json();
        assert_eq!(json["accepted"], json!(ran.code == 0), "{ran:?}");
        (ran.code, json["reason"].as_str().map(str::to_owned))
    };
    let (id, token) = cli.issue();
    let refused = |code: i32, reason: &str| (code, Some(reason.to_owned()));
    assert_eq!(reason(&token), (0, None));
    assert_eq!(reason("not-one-of-this-service"), refused(3, "malformed"));
    let unknown = tower_api_token::TokenFormat::from_static("api_")
        .generate()
        .unwrap();
    assert_eq!(reason(unknown.expose()), refused(3, "unknown"));
    let waits = ["--no-redis", "--wait", "0"];
    cli.run(&[["suspend", "acme"].as_slice(), &waits].concat());
    assert_eq!(reason(&token), refused(5, "suspended"));
    let past = match &world {
        World::Sqlite(_) => "1000000",
        World::Postgres(..) => "'2001-01-01'",
    };
    world
        .execute(&format!(
            "UPDATE ~keys SET expires_at = {past} WHERE id = '{id}'"
        ))
        .await;
    assert_eq!(reason(&token), refused(5, "expired"));
    cli.run(&[["revoke", id.as_str()].as_slice(), &waits].concat());
    assert_eq!(reason(&token), refused(5, "revoked"));
    for (input, rule) in [("", "empty"), ("a b", "more than one token")] {
        let ran = cli.check(input, &[]);
        assert!(ran.code == 2 && ran.err.contains(rule), "{ran:?}");
    }
    let shown = cli.check(&token, &[]);
    assert!(
        shown.out.starts_with("refused: revoked\nid           key_"),
        "{shown:?}"
    );
}

async fn check_shows_what_redis_answers(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, token) = cli.issue();
    let redis_answer = || cli.check(&token, &["--json"]).json()["redis"]["answer"].clone();
    assert_eq!(redis_answer(), "none");
    let keys = world.keys().await;
    let store = RedisStore::new(&redis.url()).unwrap();
    let cache = keys.cache().store(store).build().unwrap();
    let bearer = BearerToken::new(token.clone());
    assert_eq!(answer(&cache, &bearer).await, "valid");
    assert_eq!(redis_answer(), "valid");
    // By hand, so that nothing is invalidated: Redis still accepts what the database does not.
    let now = match &world {
        World::Sqlite(_) => "1",
        World::Postgres(..) => "now()",
    };
    world
        .execute(&format!(
            "UPDATE ~keys SET revoked_at = {now} WHERE id = '{id}'"
        ))
        .await;
    let ran = cli.check(&token, &[]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(
        ran.out.contains("redis        answers that it is valid"),
        "{ran:?}"
    );
    // Another pepper or namespace finds nothing.
    for (name, value) in [("KEY_PEPPER", "another"), ("CACHE_NAMESPACE", "another")] {
        let other = Cli::new(&world, Some(&redis)).with(name, value);
        assert_eq!(
            other.check(&token, &["--json"]).json()["redis"]["answer"],
            "none",
            "{name}"
        );
    }
}

async fn check_answers_while_redis_is_away(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (_, token) = cli.issue();
    redis.kill();
    let ran = cli.check(&token, &["--json"]);
    assert_eq!(
        (ran.code, &ran.json()["redis"]["answer"]),
        (0, &json!("failed"))
    );
}

/// A running `watch`, which is ended by a signal.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(cli: &Cli, arguments: &[&str]) -> Self {
        // It ends by itself, so that an event that does not come is a failure.
        let mut child = cli.spawn(&[&["watch", "--json", "--for", "2m"], arguments].concat());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns the next event of this kind.
    fn next(&mut self, event: &str) -> Value {
        loop {
            let line = self.lines.next().expect("it runs").unwrap();
            let found: Value = serde_json::from_str(&line).unwrap();
            if found["event"] == event {
                return found;
            }
        }
    }

    fn interrupt(self) -> i32 {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        drop(self.lines);
        let ran = self.child.wait_with_output().unwrap();
        ran.status.code().expect("it ends by itself")
    }
}

async fn watch_prints_changes_and_confirmations(world: World) {
    let redis = RedisServer::start();
    let cli = Cli::initialized(&world, Some(&redis));
    let (id, _) = cli.issue();
    let mut watch = Watch::start(&cli, &["--after", "0", "--interval", "20ms"]);
    assert_eq!(watch.next("change")["action"], "issued");
    redis.kill();
    cli.json(4, &["revoke", &id, "--wait", "0", "--actor", "bob"]);
    let change = watch.next("change");
    let expected = [
        ("action", "revoked"),
        ("token_id", id.as_str()),
        ("tenant_id", "acme"),
        ("actor", "bob"),
    ];
    for (name, value) in expected {
        assert_eq!(change[name], value, "{name}");
    }
    assert_eq!(watch.next("waiting")["token_id"], id.as_str());
    redis.restart();
    // Another change of the key gives its row another id, and the watch does not take the first for confirmed before.
    cli.ok(&["revoke", &id, "--wait", "10m"]);
    let confirmed = watch.next("confirmed");
    assert_eq!(confirmed["token_id"], id.as_str());
    assert!(confirmed["age_ms"].as_i64().is_some());
    assert_eq!(watch.interrupt(), 0);
}

async fn watch_begins_where_it_is_told(world: World) {
    let cli = Cli::initialized(&world, None);
    for _ in 0..5 {
        cli.issue();
    }
    let all = lines(&cli.ok(&["watch", "--json", "--after", "0", "--for", "100ms"]));
    assert_eq!(all.len(), 5);
    let third = all[2]["id"].to_string();
    let rest = lines(&cli.ok(&["watch", "--json", "--after", &third, "--for", "100ms"]));
    assert_eq!(rest, all[3..]);
    // By default after the last.
    let none = cli.spawn(&["watch", "--json", "--for", "100ms"]);
    assert_eq!(ended(none).out, "");
}
