//! Requests to `/admin`: valid and invalid ones, and their responses.

use serde_json::{Value, json};
use test_support::RedisServer;

use super::answer::Answer;
use super::server::{ADMIN, Database, Demo, rfc3339, unknown};

#[test]
fn new_tenant_can_have_tokens() {
    for database in [Database::sqlite(), Database::postgres()] {
        let demo = Demo::on(&database, &[]);
        let token = json!({ "tenant_id": "initech", "token_type": "app" });
        create(&demo, &token).expect(422);
        let tenant = |body: Value| demo.admin("POST", "/admin/tenants", Some(&body.to_string()));
        let made = tenant(json!({ "id": "initech", "name": "Initech" })).expect(201);
        assert_eq!(
            made.json(),
            json!({ "id": "initech", "name": "Initech", "status": "active" })
        );
        let made = create(&demo, &token).expect(201).json();
        demo.whoami(made["token"].as_str().unwrap()).expect(200);
        tenant(json!({ "id": "initech" })).expect(409);
        assert_eq!(
            tenant(json!({ "id": "hooli" })).expect(201).json()["name"],
            "hooli"
        );
        for bad in [
            json!({ "name": "nobody" }),
            json!({ "id": "" }),
            json!({ "id": "a\u{0}b" }),
            json!({ "id": 7 }),
            json!({ "id": "x", "status": "suspended" }),
        ] {
            tenant(bad).expect(422);
        }
    }
}

fn create(demo: &Demo, body: &Value) -> Answer {
    demo.admin("POST", "/admin/tokens", Some(&body.to_string()))
}

#[test]
fn admin_routes_require_the_admin_token() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let token = demo.token("acme", "app");
    let delete = format!("/admin/tokens/{}", token.id);
    let rotate = format!("{delete}/rotate");
    let routes = [
        ("POST", rotate.as_str()),
        ("GET", "/admin/tokens"),
        ("POST", "/admin/tokens"),
        ("DELETE", delete.as_str()),
        ("POST", "/admin/tenants/acme/suspend"),
        ("POST", "/admin/tenants/acme/resume"),
        ("GET", "/admin/no-such-route"),
    ];
    for (method, path) in routes {
        let body = (method == "POST").then_some("");
        let missing = demo.send(method, path, &[], body).expect(401);
        assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"admin\"");
        assert_eq!(missing.header("content-type"), "application/problem+json");
        let basic = [("authorization", "Basic YTpi")];
        assert_eq!(
            demo.send(method, path, &basic, body)
                .expect(401)
                .header("www-authenticate"),
            "Bearer realm=\"admin\""
        );
        // Neither a client's token nor a prefix of the admin token is the admin token.
        for wrong in [
            token.text.as_str(),
            &ADMIN[..ADMIN.len() - 1],
            &format!("{ADMIN}x"),
        ] {
            let wrong = format!("Bearer {wrong}");
            let refused = demo
                .send(method, path, &[("authorization", &wrong)], body)
                .expect(401);
            assert_eq!(
                refused.header("www-authenticate"),
                "Bearer realm=\"admin\", error=\"invalid_token\""
            );
        }
    }
    demo.whoami(&token.text).expect(200);
    demo.admin("GET", "/admin/no-such-route", None).expect(404);
}

/// Asserts that a created token works immediately, even if its text was rejected just before.
fn create_after_a_negative_entry(database: &Database, layout: &str, redis: Option<&RedisServer>) {
    let demo = Demo::with(database, layout, redis);
    // With the Dify layout every text that the grammar allows is looked up.
    let text = match layout {
        "dify" => "imported/0123456789+_~.-==".to_owned(),
        _ => unknown("app"),
    };
    let text = text.as_str();
    demo.whoami(text).expect(401);
    demo.whoami(text).expect(401);
    assert_eq!(
        demo.metric("api_token_loads_total", &[]),
        1,
        "the null was cached"
    );

    let body =
        json!({ "tenant_id": "globex", "app_id": "billing", "token_type": "app", "token": text });
    let created = create(&demo, &body).expect(201);
    assert_eq!(created.header("cache-control"), "no-store");
    assert_eq!(created.json()["token"], text);
    let seen = demo.whoami(text).expect_origin("loaded").json();
    assert_eq!(seen["id"], created.json()["id"]);
    assert_eq!(seen["app_id"], "billing");

    let duplicate = create(&demo, &body).expect(409);
    assert!(!duplicate.body.contains(text), "{duplicate:?}");
    // The text of a revoked token cannot be used again.
    demo.delete(seen["id"].as_str().unwrap()).expect(200);
    create(&demo, &body).expect(409);
}

#[test]
fn created_token_works_after_a_negative_entry_in_memory() {
    create_after_a_negative_entry(&Database::sqlite(), "digest", None);
}

#[test]
fn created_token_works_after_a_negative_entry_in_redis() {
    create_after_a_negative_entry(&Database::sqlite(), "digest", Some(&RedisServer::start()));
}

#[test]
fn created_token_works_after_a_negative_entry_on_postgres() {
    create_after_a_negative_entry(&Database::postgres(), "digest", None);
}

#[test]
fn created_token_works_after_a_negative_entry_in_dify_layout() {
    create_after_a_negative_entry(&Database::sqlite(), "dify", None);
    create_after_a_negative_entry(&Database::postgres(), "dify", Some(&RedisServer::start()));
}

#[test]
fn random_token_works_only_for_its_type() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let created = create(
        &demo,
        &json!({ "tenant_id": "acme", "token_type": "dataset" }),
    )
    .expect(201)
    .json();
    let text = created["token"].as_str().unwrap();
    assert_eq!(text.len(), "demo_dataset_".len() + 30 + 6);
    assert!(created["expires_at"].is_null() && created["app_id"].is_null());
    demo.get_as("/v1/datasets", text).expect(200);
    demo.whoami(text).expect(401);
}

#[test]
fn expired_token_is_rejected() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let soon = chrono::Utc::now() + std::time::Duration::from_millis(1500);
    let soon = rfc3339(soon);
    let created = create(
        &demo,
        &json!({ "tenant_id": "acme", "token_type": "app", "expires_at": soon }),
    )
    .expect(201)
    .json();
    assert_eq!(created["expires_at"], soon.as_str());
    let text = created["token"].as_str().unwrap();
    demo.whoami(text).expect(200);
    // Nothing is invalidated: the token expires.
    super::server::eventually("the token expires", || demo.whoami(text).status == 401);
}

#[test]
fn invalid_requests_change_nothing_and_are_not_shown() {
    let database = Database::postgres();
    let demo = Demo::on(&database, &[]);
    let refused = [
        (422, json!({ "token_type": "app" })),
        (422, json!({ "tenant_id": "acme" })),
        (
            422,
            json!({ "tenant_id": "hunter22hunter22", "token_type": "app" }),
        ),
        (
            422,
            json!({ "tenant_id": "acme\u{0}", "token_type": "app" }),
        ),
        (
            422,
            json!({ "tenant_id": "acme", "token_type": "hunter22hunter22" }),
        ),
        (
            422,
            json!({ "tenant_id": "acme", "token_type": "app", "token": "hunter22" }),
        ),
        (
            422,
            json!({ "tenant_id": "acme", "token_type": "app", "token": "hunter22 hunter22" }),
        ),
        (
            422,
            json!({ "tenant_id": "acme", "token_type": "app", "token": "x".repeat(513) }),
        ),
        (
            422,
            json!({ "tenant_id": "acme", "token_type": "app", "expires_at": "2001-01-01T00:00:00Z" }),
        ),
        (
            422,
            json!({ "tenant_id": "acme", "token_type": "app", "expires_at": "tomorrow" }),
        ),
        (
            422,
            json!({ "tenant_id": "acme", "token_type": "app", "hunter22": 1 }),
        ),
        (400, json!("hunter22hunter22")),
    ];
    for (status, body) in refused {
        let answer = create(&demo, &body).expect(status);
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{body}"
        );
        assert!(!answer.body.contains("hunter22"), "{answer:?}");
    }
    demo.admin("POST", "/admin/tokens", Some("{")).expect(400);
    demo.admin("POST", "/admin/tokens", Some(&"x".repeat(20_000)))
        .expect(413);
    for id in ["tok_none", "%00", "%F0%9F", &"x".repeat(300)] {
        let answer = demo.delete(id);
        assert!([400, 404].contains(&answer.status), "{id}: {answer:?}");
    }
    demo.admin("DELETE", "/admin/tokens/tok_none?wait=perhaps", None)
        .expect(400);
    demo.admin("POST", "/admin/tenants/nobody/suspend", None)
        .expect(404);
    demo.admin("POST", "/admin/tenants/%00/resume", None)
        .expect(404);
    assert_eq!(demo.metric("demo_pending_invalidations", &[]), 0);
}

/// Asserts that a suspension denies all tokens of the tenant, and no others, until the tenant is resumed.
fn suspension(database: &Database, layout: &str, redis: Option<&RedisServer>) {
    let demo = Demo::with(database, layout, redis);
    let (app, dataset) = (
        demo.token("acme", "app").text,
        demo.token("acme", "dataset").text,
    );
    let other = demo.token("globex", "app").text;
    demo.whoami(&app).expect(200);
    demo.whoami(&other).expect(200);

    // Twice, because requests may be repeated.
    for _ in 0..2 {
        let answer = demo
            .admin("POST", "/admin/tenants/acme/suspend?wait=true", None)
            .expect(200);
        assert_eq!(answer.json(), json!({ "confirmed": true }));
        for _ in 0..2 {
            let denied = demo.whoami(&app).expect(403);
            assert!(denied.body.contains("tenant suspended"), "{denied:?}");
            demo.get_as("/v1/datasets", &dataset).expect(403);
            // The type is checked before the denial.
            demo.whoami(&dataset).expect(401);
            demo.whoami(&other).expect(200);
        }
    }
    for _ in 0..2 {
        demo.admin("POST", "/admin/tenants/acme/resume?wait=true", None)
            .expect(200);
        demo.whoami(&app).expect(200);
        demo.get_as("/v1/datasets", &dataset).expect(200);
    }
}

#[test]
fn suspend_and_resume_take_effect_immediately_in_memory() {
    suspension(&Database::sqlite(), "digest", None);
}

#[test]
fn suspend_and_resume_take_effect_immediately_in_redis() {
    suspension(&Database::postgres(), "digest", Some(&RedisServer::start()));
}

#[test]
fn suspend_and_resume_take_effect_immediately_in_dify_layout() {
    suspension(&Database::postgres(), "dify", None);
    suspension(&Database::sqlite(), "dify", Some(&RedisServer::start()));
}
