//! Runs the commands that the banner prints, with every database and every store.

use test_support::RedisServer;

use super::answer::Answer;
use super::server::{Database, Demo, unknown};

/// Splits a printed `curl` line into words, as a shell does.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (character, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    assert_eq!(quote, None, "{line}");
    words.extend(word);
    words
}

/// Does what `curl` would do with the line.
#[track_caller]
fn paste(demo: &Demo, line: &str) -> Answer {
    let words = shell_words(line);
    let (mut method, mut headers, mut body, mut path) = ("GET", Vec::new(), None, None);
    let mut words = words.iter().map(String::as_str);
    assert_eq!(words.next(), Some("curl"));
    while let Some(word) = words.next() {
        match word {
            "-i" => {}
            "-X" => method = words.next().unwrap(),
            "-H" => headers.push(words.next().unwrap().split_once(": ").unwrap()),
            "-d" => body = words.next(),
            url => {
                path = Some(
                    url.strip_prefix(&demo.base)
                        .unwrap_or_else(|| panic!("{line}")),
                )
            }
        }
    }
    if method == "POST" {
        body = body.or(Some(""));
    }
    demo.send(method, path.unwrap(), &headers, body)
}

fn printed_lines(demo: &Demo) -> Vec<&str> {
    demo.banner
        .lines()
        .filter(|line| line.starts_with("curl "))
        .collect()
}

#[test]
fn printed_lines_can_be_pasted_in_their_order() {
    let database = Database::sqlite();
    // Empty means unset: the lines have the random admin token.
    let demo = Demo::on(&database, &[("ADMIN_TOKEN", "")]);
    let statuses: Vec<_> = printed_lines(&demo)
        .iter()
        .map(|line| paste(&demo, line).status)
        .collect();
    // Two tenants with two tokens each; revoke, suspend, resume; make one.
    assert_eq!(
        statuses,
        [200, 200, 200, 200, 200, 200, 200, 201],
        "{}",
        demo.banner
    );
    paste(&demo, printed_lines(&demo)[0]).expect(401);

    // The second start makes nothing, says so, and prints how to make a token.
    let token = demo.token("globex", "app").text;
    drop(demo);
    let demo = Demo::on(&database, &[("ADMIN_TOKEN", "")]);
    assert!(
        demo.banner.contains("not empty") && demo.seeded().is_empty(),
        "{}",
        demo.banner
    );
    let lines = printed_lines(&demo);
    assert_eq!(lines.len(), 1, "{}", demo.banner);
    let made = paste(&demo, lines[0]).expect(201).json();
    demo.whoami(made["token"].as_str().unwrap()).expect(200);
    demo.whoami(&token).expect(200);
}

#[test]
fn given_admin_token_is_not_printed() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    assert!(
        !demo.banner.contains(super::server::ADMIN) && demo.banner.contains("$ADMIN_TOKEN"),
        "{}",
        demo.banner
    );
}

/// The transcript of the issue, on a fresh database: 200 loaded, 200 from the cache, 401 without
/// and with a bad token, revoked, 401.
fn transcript(database: &Database, layout: &str, redis: Option<&RedisServer>) {
    let demo = Demo::with(database, layout, redis);
    let token = demo.token("acme", "app");

    let loaded = demo.whoami(&token.text).expect_origin("loaded").json();
    assert_eq!(loaded["id"], token.id);
    assert_eq!(loaded["tenant_id"], "acme");
    assert_eq!(loaded["app_id"], "acme-chat");
    assert_eq!(loaded["token_type"], "app");
    assert!(loaded["last_used_at"].is_null());
    demo.whoami_locally(&token.text);

    let missing = demo.get("/v1/whoami").expect(401);
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"api\"");
    let unknown = demo.whoami(&unknown("app")).expect(401);
    assert_eq!(
        unknown.header("www-authenticate"),
        "Bearer realm=\"api\", error=\"invalid_token\""
    );
    // A valid token of another type looks the same as an unknown one.
    let dataset = demo.token("acme", "dataset");
    let wrong = demo.whoami(&dataset.text).expect(401);
    assert_eq!(wrong.body, unknown.body);
    assert_eq!(
        wrong.header("www-authenticate"),
        unknown.header("www-authenticate")
    );
    demo.get_as("/v1/datasets", &token.text).expect(401);
    // In the Dify layout nothing but its type tells one token from another, so it was looked up above. In
    // memory it has one entry, whatever its type.
    let is_cached = layout == "dify" && redis.is_none();
    demo.get_as("/v1/datasets", &dataset.text)
        .expect_origin(if is_cached { "local" } else { "loaded" });

    let revoked = demo
        .admin(
            "DELETE",
            &format!("/admin/tokens/{}?wait=true", token.id),
            None,
        )
        .expect(200);
    assert_eq!(revoked.json(), serde_json::json!({ "confirmed": true }));
    let refused = demo.whoami(&token.text).expect(401);
    assert_eq!(refused.body, unknown.body);
    demo.delete(&token.id).expect(200);
    demo.whoami(&token.text).expect(401);
    assert_eq!(demo.metric("demo_pending_invalidations", &[]), 0);
    // The other tokens are none the worse for it.
    demo.get_as("/v1/datasets", &dataset.text).expect(200);
    demo.whoami(&demo.token("globex", "app").text).expect(200);
}

#[test]
fn transcript_on_sqlite_in_memory() {
    transcript(&Database::sqlite(), "digest", None);
}

#[test]
fn transcript_on_sqlite_with_redis() {
    transcript(&Database::sqlite(), "digest", Some(&RedisServer::start()));
}

#[test]
fn transcript_on_postgres_in_memory() {
    transcript(&Database::postgres(), "digest", None);
}

#[test]
fn transcript_on_postgres_with_redis() {
    transcript(&Database::postgres(), "digest", Some(&RedisServer::start()));
}

#[test]
fn transcript_in_the_dify_layout_on_sqlite_in_memory() {
    transcript(&Database::sqlite(), "dify", None);
}

#[test]
fn transcript_in_the_dify_layout_on_sqlite_with_redis() {
    transcript(&Database::sqlite(), "dify", Some(&RedisServer::start()));
}

#[test]
fn transcript_in_the_dify_layout_on_postgres_in_memory() {
    transcript(&Database::postgres(), "dify", None);
}

#[test]
fn transcript_in_the_dify_layout_on_postgres_with_redis() {
    transcript(&Database::postgres(), "dify", Some(&RedisServer::start()));
}
