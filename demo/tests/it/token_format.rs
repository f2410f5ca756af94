//! `TOKEN_FORMAT`: which tokens are looked up, imported and made.

use serde_json::json;
use test_support::RedisServer;
use tower_api_token::{TokenDigest, TokenFormat};

use super::answer::Answer;
use super::server::{Database, Demo, unknown};

fn import(demo: &Demo, kind: &str, token: &str) -> Answer {
    let body = json!({ "tenant_id": "acme", "type": kind, "token": token }).to_string();
    demo.admin("POST", "/admin/tokens", Some(&body))
}

fn loads(demo: &Demo) -> u64 {
    demo.metric("api_token_loads_total", &[])
}

/// What a client can tell an answer by, but for the date.
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

/// Neither the database nor Redis is asked for it, and the client cannot tell.
#[track_caller]
fn assert_refused_unseen(demo: &Demo, redis: &RedisServer, kind: &str, token: &str) {
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
fn with_the_digest_layout_a_token_that_fails_the_check_is_refused_before_any_look_up() {
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
        assert_refused_unseen(&demo, &redis, "app", &slip);
    }
    assert_refused_unseen(&demo, &redis, "app", "a-token-that-was-never-made");
    // The prefix says the type.
    assert_refused_unseen(&demo, &redis, "app", &dataset);
    assert_refused_unseen(&demo, &redis, "dataset", &app);
}

#[test]
fn tokens_are_made_with_the_prefix_of_their_type_whatever_is_looked_up() {
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
            .find_map(|line| line.strip_prefix("admin token, of this run: "));
        assert!(
            TokenFormat::from_static("demo_admin_").matches(admin.unwrap()),
            "{admin:?}"
        );
    }
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    for kind in ["app", "dataset"] {
        let body = json!({ "tenant_id": "acme", "type": kind }).to_string();
        let made = demo.admin("POST", "/admin/tokens", Some(&body)).expect(201);
        let format = TokenFormat::new(&format!("demo_{kind}_")).unwrap();
        assert!(
            format.matches(made.json()["token"].as_str().unwrap()),
            "{made:?}"
        );
    }
}

#[test]
fn with_checked_an_import_has_to_pass_and_then_works() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("TOKEN_FORMAT", "checked")]);
    for (kind, text) in [
        ("app", "an-imported-token".to_owned()),
        ("dataset", unknown("app")),
        ("app", unknown("app").to_lowercase()),
    ] {
        let refused = import(&demo, kind, &text).expect(422);
        assert!(refused.body.contains("TOKEN_FORMAT"), "{refused:?}");
        assert!(!refused.body.contains(&text), "{refused:?}");
    }
    let text = unknown("dataset");
    import(&demo, "dataset", &text).expect(201);
    demo.get_as("/v1/datasets", &text).expect(200);
}

#[test]
fn with_any_whatever_the_grammar_allows_is_looked_up_and_imported() {
    let any: &[(&str, &str)] = &[("TOKEN_FORMAT", "any")];
    // It is the default with the layout seed.
    let seed: &[(&str, &str)] = &[("KEY_LAYOUT", "seed")];
    for variables in [any, seed] {
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
fn the_seed_layout_can_be_checked_too() {
    let database = Database::sqlite();
    let demo = Demo::on(
        &database,
        &[("KEY_LAYOUT", "seed"), ("TOKEN_FORMAT", "checked")],
    );
    demo.whoami("a-token-that-was-never-made").expect(401);
    assert_eq!(loads(&demo), 0);
    demo.whoami(&demo.token("acme", "app").text).expect(200);
}

/// A database from before the format keeps working with `any`, and its tokens are refused with
/// `checked`.
#[test]
fn older_tokens_need_any() {
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
