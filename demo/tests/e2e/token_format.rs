//! `TOKEN_FORMAT`: which tokens are looked up, imported and created.

use serde_json::json;
use test_support::RedisServer;
use tower_api_token::{TokenDigest, TokenFormat};

use super::answer::Answer;
use super::server::{Database, Demo, unknown};

fn import(demo: &Demo, kind: &str, token: &str) -> Answer {
    let body = json!({ "tenant_id": "acme", "token_type": kind, "token": token }).to_string();
    demo.admin("POST", "/admin/tokens", Some(&body))
}

fn loads(demo: &Demo) -> u64 {
    demo.metric("api_token_loads_total", &[])
}

/// Returns the parts of a response, except the date, that could differ for a client.
fn bytes(answer: &Answer) -> (u16, &str, &str, &str) {
    let header = |name| answer.header(name);
    let challenge = header("www-authenticate");
    (
        answer.status,
        challenge,
        header("content-type"),
        &answer.body,
    )
}

/// Asserts that the token is rejected without a query of the database or Redis, with the same response as
/// an unknown one.
#[track_caller]
fn assert_rejected_without_a_lookup(demo: &Demo, redis: &RedisServer, kind: &str, token: &str) {
    let path = if kind == "app" {
        "/v1/whoami"
    } else {
        "/v1/datasets"
    };
    let unknown = demo.get_as(path, &unknown(kind)).expect(401);
    let before = loads(demo);
    let answer = demo.get_as(path, token).expect(401);
    assert_eq!(bytes(&answer), bytes(&unknown), "{token}");
    assert_eq!(loads(demo), before, "{token} was looked up");
    let entry = format!("{kind}:{{{}}}", TokenDigest::of(token));
    let keys = redis.keys("*");
    assert!(!keys.iter().any(|key| key.contains(&entry)), "{keys:?}");
}

#[test]
fn malformed_token_is_rejected_without_a_lookup_by_default() {
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let demo = Demo::with(&database, "digest", Some(&redis));
    assert!(
        demo.banner.contains("token format: checked"),
        "{}",
        demo.banner
    );
    let app = demo.token("acme", "app").text;
    demo.whoami(&app).expect(200);
    let dataset = demo.token("acme", "dataset").text;
    demo.get_as("/v1/datasets", &dataset).expect(200);

    for place in [9, 20, app.len() - 1] {
        let mut slip = app.clone().into_bytes();
        slip[place] = if slip[place] == b'x' { b'y' } else { b'x' };
        let slip = String::from_utf8(slip).unwrap();
        assert_rejected_without_a_lookup(&demo, &redis, "app", &slip);
    }
    assert_rejected_without_a_lookup(&demo, &redis, "app", "a-token-that-was-never-made");
    // The prefix names the type.
    assert_rejected_without_a_lookup(&demo, &redis, "app", &dataset);
    assert_rejected_without_a_lookup(&demo, &redis, "dataset", &app);
}

#[test]
fn new_tokens_have_the_prefix_of_their_type() {
    for format in ["checked", "any"] {
        let database = Database::sqlite();
        let demo = Demo::on(&database, &[("TOKEN_FORMAT", format), ("ADMIN_TOKEN", "")]);
        for seeded in demo.seeded() {
            let format = TokenFormat::new(&format!("demo_{}_", seeded.kind)).unwrap();
            assert!(format.matches(&seeded.text), "{seeded:?}");
        }
        assert_eq!(demo.seeded().len(), 4);
        let admin = demo
            .banner
            .lines()
            .find_map(|line| line.strip_prefix("admin token of this run: "));
        assert!(
            TokenFormat::from_static("demo_admin_").matches(admin.unwrap()),
            "{admin:?}"
        );
    }
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    for kind in ["app", "dataset"] {
        let body = json!({ "tenant_id": "acme", "token_type": kind }).to_string();
        let made = demo.admin("POST", "/admin/tokens", Some(&body)).expect(201);
        let format = TokenFormat::new(&format!("demo_{kind}_")).unwrap();
        assert!(
            format.matches(made.json()["token"].as_str().unwrap()),
            "{made:?}"
        );
    }
}

#[test]
fn checked_import_needs_the_format_and_works() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("TOKEN_FORMAT", "checked")]);
    for (kind, text) in [
        ("app", "an-imported-token".to_owned()),
        ("dataset", unknown("app")),
        ("app", unknown("app").to_lowercase()),
    ] {
        let refused = import(&demo, kind, &text).expect(422);
        assert!(refused.body.contains("checksum"), "{refused:?}");
        assert!(!refused.body.contains(&text), "{refused:?}");
    }
    let text = unknown("dataset");
    import(&demo, "dataset", &text).expect(201);
    demo.get_as("/v1/datasets", &text).expect(200);
}

#[test]
fn any_format_is_looked_up_and_imported_if_allowed() {
    let any: &[(&str, &str)] = &[("TOKEN_FORMAT", "any")];
    // `any` is the default with the Dify layout.
    let dify: &[(&str, &str)] = &[("KEY_LAYOUT", "dify")];
    for variables in [any, dify] {
        let database = Database::sqlite();
        let demo = Demo::on(&database, variables);
        assert!(demo.banner.contains("token format: any"), "{}", demo.banner);
        demo.whoami("a-token-that-was-never-made").expect(401);
        assert_eq!(loads(&demo), 1);
        import(&demo, "app", "an-imported-token").expect(201);
        demo.whoami("an-imported-token").expect(200);
        demo.whoami(&demo.token("acme", "app").text).expect(200);
    }
}

#[test]
fn dify_layout_can_check_the_format() {
    let database = Database::sqlite();
    let demo = Demo::on(
        &database,
        &[("KEY_LAYOUT", "dify"), ("TOKEN_FORMAT", "checked")],
    );
    demo.whoami("a-token-that-was-never-made").expect(401);
    assert_eq!(loads(&demo), 0);
    demo.whoami(&demo.token("acme", "app").text).expect(200);
}

/// A database from before the format works with `any`. With `checked` its tokens are rejected.
#[test]
fn tokens_from_before_the_format_need_any() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("TOKEN_FORMAT", "any")]);
    import(&demo, "app", "a-token-from-before").expect(201);
    demo.whoami("a-token-from-before").expect(200);
    drop(demo);
    let demo = Demo::on(&database, &[]);
    demo.whoami("a-token-from-before").expect(401);
    drop(demo);
    let demo = Demo::on(&database, &[("TOKEN_FORMAT", "any")]);
    demo.whoami("a-token-from-before").expect(200);
}
