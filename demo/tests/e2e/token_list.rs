//! `GET /admin/tokens`: lists every token once, without texts.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use test_support::RedisServer;
use tower_api_token::TokenDigest;

use super::server::{Database, Demo};

const MEMBERS: [&str; 16] = [
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

fn list(demo: &Demo, query: &str) -> Value {
    let answer = demo
        .admin("GET", &format!("/admin/tokens{query}"), None)
        .expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

fn ids(page: &Value) -> Vec<String> {
    let tokens = page["tokens"].as_array().expect("a list of tokens");
    tokens
        .iter()
        .map(|token| token["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// Creates a token, and returns its id and its text.
fn create(demo: &Demo, body: &Value) -> (String, String) {
    let made = demo
        .admin("POST", "/admin/tokens", Some(&body.to_string()))
        .expect(201)
        .json();
    let member = |name: &str| made[name].as_str().expect("a text").to_owned();
    (member("id"), member("token"))
}

fn tokens_are_listed_with_their_state(database: &Database, layout: &str) {
    let demo = Demo::with(database, layout, None);
    let (seeded, revoked) = (demo.token("acme", "app"), demo.token("globex", "dataset"));
    demo.delete(&revoked.id).expect(200);
    demo.admin("POST", "/admin/tenants/globex/suspend", None)
        .expect(200);
    let end = "2100-01-31T12:00:00.000001Z";
    let (expiring, text) = create(
        &demo,
        &json!({ "tenant_id": "acme", "token_type": "dataset", "expires_at": end }),
    );

    let page = list(&demo, "");
    assert_eq!(page["next"], Value::Null);
    let tokens = page["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    for token in tokens {
        let members: Vec<_> = token.as_object().unwrap().keys().collect();
        assert_eq!(members, MEMBERS, "nothing else is shown");
    }
    let of = |id: &str| tokens.iter().find(|token| token["id"] == id).unwrap();
    let plain = of(&seeded.id);
    assert_eq!(
        (&plain["tenant_id"], &plain["app_id"], &plain["token_type"]),
        (&json!("acme"), &json!("acme-chat"), &json!("app"))
    );
    assert_eq!([&plain["tenant_status"], &plain["status"]], ["active"; 2]);
    assert!(plain["created_at"].is_string());
    for name in ["expires_at", "revoked_at", "last_used_at"] {
        assert_eq!(plain[name], Value::Null, "{name}");
    }
    assert_eq!(of(&expiring)["expires_at"], end);
    assert!(of(&revoked.id)["revoked_at"].is_string());
    assert_eq!(of(&revoked.id)["status"], "revoked");
    assert_eq!(of(&revoked.id)["tenant_status"], "suspended");

    let shown = page.to_string();
    let texts = demo.seeded().into_iter().map(|token| token.text);
    for text in texts.chain([text]) {
        let digest = TokenDigest::of(&text).to_string();
        assert!(
            !shown.contains(&text) && !shown.contains(&digest),
            "{shown}"
        );
    }
}

#[test]
fn tokens_are_listed_without_their_text() {
    tokens_are_listed_with_their_state(&Database::sqlite(), "digest");
    tokens_are_listed_with_their_state(&Database::postgres(), "digest");
}

#[test]
fn tokens_are_listed_without_their_text_in_the_dify_layout() {
    tokens_are_listed_with_their_state(&Database::sqlite(), "dify");
    tokens_are_listed_with_their_state(&Database::postgres(), "dify");
}

/// Reads page after page, with tokens added in between.
fn pages_while_tokens_are_added(database: &Database) {
    let demo = Demo::on(database, &[]);
    let more = || create(&demo, &json!({ "tenant_id": "acme", "token_type": "app" })).0;
    for _ in 0..3 {
        more();
    }
    let at_first: BTreeSet<_> = ids(&list(&demo, "")).into_iter().collect();
    assert_eq!(at_first.len(), 7);

    let (mut seen, mut query, mut added) = (Vec::new(), "?limit=2".to_owned(), 0);
    loop {
        let page = list(&demo, &query);
        let found = ids(&page);
        seen.extend(found.iter().cloned());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        assert_eq!(
            (found.len(), found.last().map(String::as_str)),
            (2, Some(next))
        );
        query = format!("?limit=2&after={next}");
        // Enough to shift an offset by more than a page, and few enough for the list to end.
        if added < 4 {
            more();
            added += 1;
        }
    }
    let once: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "none twice: {seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(once.is_superset(&at_first), "none is left out: {seen:?}");
}

#[test]
fn tokens_added_between_pages_do_not_move_others() {
    pages_while_tokens_are_added(&Database::sqlite());
    pages_while_tokens_are_added(&Database::postgres());
}

/// Asserts that the page with the last token has no `next`, and that `after` need not be a token's id.
fn ends_of_the_list(database: &Database) {
    let demo = Demo::on(database, &[]);
    let all = ids(&list(&demo, ""));
    let exact = list(&demo, "?limit=4");
    assert_eq!((ids(&exact), &exact["next"]), (all.clone(), &Value::Null));
    let empty = list(&demo, &format!("?after={}", all[3]));
    assert_eq!(empty, json!({ "tokens": [], "next": null }));
    let between = list(&demo, &format!("?after={}x&limit=1", all[1]));
    assert_eq!(ids(&between), all[2..3]);
    // Quotes have no special meaning.
    let before = list(&demo, "?after=%27%20OR%201=1%20--");
    assert_eq!(ids(&before), all);
}

#[test]
fn list_begins_after_any_id_and_ends_with_null() {
    ends_of_the_list(&Database::sqlite());
    ends_of_the_list(&Database::postgres());
}

#[test]
fn invalid_page_is_rejected() {
    for database in [Database::sqlite(), Database::postgres()] {
        let demo = Demo::on(&database, &[]);
        for query in [
            "limit=0",
            "limit=501",
            "limit=many",
            "limit=1&limit=2",
            "after=",
            "after=%00",
            "offset=1",
        ] {
            let answer = demo
                .admin("GET", &format!("/admin/tokens?{query}"), None)
                .expect(400);
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
    }
}

/// A use that is not written yet is listed. If Redis is down, only that is missing.
#[test]
fn last_use_is_listed_before_it_is_written() {
    for database in [Database::sqlite(), Database::postgres()] {
        let redis = RedisServer::start();
        let url = redis.url();
        let variables = [
            ("REDIS_URL", url.as_str()),
            ("LAST_USE_FLUSH_SECONDS", "3600"),
        ];
        let demo = Demo::on(&database, &variables);
        let [used, unused] = ["app", "dataset"].map(|kind| demo.token("acme", kind));
        let last_use = |demo: &Demo, id: &str| {
            let page = list(demo, "");
            let tokens = page["tokens"].as_array().unwrap().clone();
            let token = tokens.into_iter().find(|token| token["id"] == id);
            token.unwrap()["last_used_at"].clone()
        };
        demo.whoami(&used.text).expect(200);
        assert!(last_use(&demo, &used.id).is_string());
        assert_eq!(last_use(&demo, &unused.id), Value::Null);
        assert_eq!(demo.metric("api_token_last_uses_written_total", &[]), 0);
        redis.kill();
        assert_eq!(last_use(&demo, &used.id), Value::Null);
    }
}
