//! The router of the administration.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request};
use axum::middleware::{Next, from_fn};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_api_token::{BearerToken, TokenDigest, TokenFormat};
use tower_api_token_sqlx::{Actor, AdminSettings, ApiKeys, AuditQuery, admin_openapi};

use crate::world::{World, answer};

crate::on_both!(
    every_route_has_every_status_of_the_document_and_no_other,
    key_is_made_rotated_and_revoked_in_the_name_of_the_operator,
    unconfirmed_change_is_committed_and_its_answer_has_the_only_text,
    pages_have_every_key_once,
    errors_show_no_value_of_the_request,
    settings_limit_new_keys_and_report_commits,
    texts_are_stored_before_their_keys,
);

/// A response.
pub(crate) struct Answer {
    status: u16,
    media_type: String,
    retry_after: Option<HeaderValue>,
    body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        let error = status >= 400 && status != 413;
        assert_eq!(self.media_type == "application/problem+json", error);
        assert_eq!(self.retry_after.is_some(), status == 503);
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

pub(crate) async fn send(router: &Router, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap())
        .uri(path)
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let media_type = response.headers().get("content-type");
    let media_type = media_type.map_or("", |value| value.to_str().unwrap());
    if !media_type.starts_with("text/plain") {
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
    let (status, media_type) = (response.status().as_u16(), media_type.to_owned());
    let retry_after = response.headers().get("retry-after").cloned();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    Answer {
        status,
        media_type,
        retry_after,
        body: String::from_utf8(body.unwrap().to_vec()).unwrap(),
    }
}

/// Creates a key of `acme`, and returns its id and its text.
async fn create(router: &Router) -> (String, BearerToken) {
    let made = send(router, "post", "/tokens", r#"{"tenant_id":"acme"}"#).await;
    let made = made.expect(201);
    let text = BearerToken::new(made["token"].as_str().unwrap());
    (made["id"].as_str().unwrap().to_owned(), text)
}

/// The statuses of each route, as `get /tokens 200`.
fn described() -> BTreeSet<String> {
    let document = admin_openapi();
    let mut all = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(responses) = operation["responses"].as_object() else {
                continue;
            };
            all.extend(
                responses
                    .keys()
                    .map(|status| format!("{method} {path} {status}")),
            );
        }
    }
    all
}

async fn every_route_has_every_status_of_the_document_and_no_other(world: World) {
    let keys = world
        .builder()
        .await
        .outbox_interval(None)
        .build()
        .await
        .unwrap();
    let router = keys.admin_router();
    let large = "x".repeat(20_000);
    let mut seen = BTreeSet::new();
    let mut ask = async |method: &str, path: &str, id: &str, body: &str| {
        let (route, query) = path.split_once('?').unwrap_or((path, ""));
        let uri = format!("{}?{query}", route.replace("{id}", id));
        let answer = send(&router, method, &uri, body).await;
        seen.insert(format!("{method} {route} {}", answer.status));
        answer
    };
    let (tokens, token) = ("/tokens", "/tokens/{id}");
    let (rotate, rotation) = ("/tokens/{id}/rotate", "/tokens/{id}/rotation");
    let all = "/tenants/{id}/tokens";
    let tenants = ["/tenants/{id}/suspend", "/tenants/{id}/resume"];
    let import = r#"{"tenant_id":"acme","token":"a-text-that-exists-already"}"#;

    // Without a cache nothing is confirmed.
    ask("post", tokens, "", import).await.expect(503);
    let cache = keys.cache().build().unwrap();
    ask("post", tokens, "", import).await.expect(409);
    for (status, body) in [
        (201, r#"{"tenant_id":"acme"}"#),
        (400, "["),
        (422, "{}"),
        (413, &large),
    ] {
        ask("post", tokens, "", body).await.expect(status);
    }
    let (id, _) = create(&router).await;
    ask("get", tokens, "", "").await.expect(200);
    ask("get", "/tokens?limit=0", "", "").await.expect(400);
    ask("get", token, &id, "").await.expect(200);
    ask("get", token, "none", "").await.expect(404);
    ask("get", rotation, &id, "").await.expect(404);
    ask("delete", rotation, &id, "").await.expect(409);
    for (status, body) in [
        (400, "["),
        (422, r#"{"x":1}"#),
        (413, large.as_str()),
        (201, ""),
    ] {
        ask("post", rotate, &id, body).await.expect(status);
    }
    ask("post", rotate, &id, "").await.expect(409);
    ask("post", rotate, "none", "").await.expect(404);
    ask("get", rotation, &id, "").await.expect(200);
    ask("delete", "/tokens/{id}/rotation?wait=maybe", &id, "")
        .await
        .expect(400);
    ask("delete", rotation, "none", "").await.expect(404);
    ask("delete", rotation, &id, "").await.expect(200);
    ask("delete", "/tokens/{id}?wait=maybe", &id, "")
        .await
        .expect(400);
    ask("delete", token, "none", "").await.expect(404);
    ask("delete", token, &id, "").await.expect(200);
    for (method, path) in [("delete", all), ("post", tenants[0]), ("post", tenants[1])] {
        ask(method, path, "acme", "").await.expect(200);
        ask(method, path, "nobody", "").await.expect(404);
        ask(method, &format!("{path}?wait=maybe"), "acme", "")
            .await
            .expect(400);
    }
    for path in ["/audit", "/pending"] {
        ask("get", path, "", "").await.expect(200);
        ask("get", &format!("{path}?limit=0"), "", "")
            .await
            .expect(400);
    }

    keys.database().close().await;
    for route in described() {
        if let Some((method, path)) = route.strip_suffix(" 503").and_then(|it| it.split_once(' ')) {
            let body = if path == tokens {
                r#"{"tenant_id":"acme"}"#
            } else {
                ""
            };
            ask(method, path, "any", body).await.expect(503);
        }
    }
    drop(cache);
    assert_eq!(seen, described());
}

/// Nests the router as the documentation says: behind an authentication, which names the operator.
fn behind_an_authentication(keys: &ApiKeys) -> Router {
    let authenticate = async |mut request: axum::extract::Request, next: Next| {
        request.extensions_mut().insert(Actor::new("alice"));
        next.run(request).await
    };
    Router::new().nest("/admin", keys.admin_router().layer(from_fn(authenticate)))
}

async fn key_is_made_rotated_and_revoked_in_the_name_of_the_operator(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let router = behind_an_authentication(&keys);
    let body = json!({
        "tenant_id": "acme", "app_id": "chat", "token_type": "app", "name": "ci", "scopes": ["a:read"],
        "metadata": { "plan": "gold" }, "expires_at": "2100-01-01T02:00:01+01:00",
    });
    let made = send(&router, "post", "/admin/tokens", &body.to_string()).await;
    let mut made = made.expect(201);
    let text = made.as_object_mut().unwrap().remove("token").unwrap();
    let text = BearerToken::new(text.as_str().unwrap());
    assert_eq!(answer(&cache, &text).await, "valid");
    for member in [
        "tenant_id",
        "app_id",
        "token_type",
        "name",
        "scopes",
        "metadata",
    ] {
        assert_eq!(made[member], body[member], "{member}");
    }
    assert_eq!(made["expires_at"], "2100-01-01T01:00:01Z");
    let id = made["id"].as_str().unwrap();
    let path = format!("/admin/tokens/{id}");
    let mut read = send(&router, "get", &path, "").await.expect(200);
    // The authentication above used it.
    assert!(read["last_used_at"].take().is_string());
    assert_eq!(read, made);

    let rotated = send(&router, "post", &format!("{path}/rotate"), "")
        .await
        .expect(201);
    let successor = BearerToken::new(rotated["token"].as_str().unwrap());
    assert_eq!(answer(&cache, &successor).await, "valid");
    let rotation = format!("{path}/rotation");
    let state = send(&router, "get", &rotation, "").await.expect(200);
    assert_eq!(state["successor"]["id"], rotated["id"]);
    assert_eq!(state["still_used_at"], Value::Null);
    send(&router, "delete", &rotation, "").await.expect(200);
    assert_eq!(answer(&cache, &successor).await, "invalid");
    assert_eq!(answer(&cache, &text).await, "valid");
    send(&router, "delete", &path, "").await.expect(200);
    assert_eq!(answer(&cache, &text).await, "invalid");

    let audit = keys.audit(AuditQuery::new().key(id)).await.unwrap();
    let actions: Vec<_> = audit.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["issued", "rotated", "rotation_undone", "revoked"]);
    assert!(
        audit
            .iter()
            .all(|entry| entry.actor.as_deref() == Some("alice"))
    );
    let shown = send(
        &router,
        "get",
        &format!("/admin/audit?token_id={id}&limit=3"),
        "",
    )
    .await;
    let shown = shown.expect(200);
    assert_eq!(shown["next"], audit[2].id);
    assert_eq!(shown["entries"][0]["actor"], "alice");
}

async fn unconfirmed_change_is_committed_and_its_answer_has_the_only_text(world: World) {
    let keys = world
        .builder()
        .await
        .outbox_interval(None)
        .build()
        .await
        .unwrap();
    let router = keys.admin_router();
    let (id, old) = create(&router).await;
    let rotate = format!("/tokens/{id}/rotate");
    let rotated = send(&router, "post", &rotate, r#"{"overlap_seconds":0}"#).await;
    let rotated = rotated.expect(503);
    assert_eq!(rotated["confirmed"], false);
    assert!(rotated["predecessor"]["revoked_at"].is_string());
    let pending = send(&router, "get", "/pending", "").await.expect(200);
    assert_eq!(
        (&pending["count"], &pending["pending"][0]["token_id"]),
        (&json!(1), &json!(id))
    );

    let cache = keys.cache().build().unwrap();
    assert_eq!(keys.work_outbox().await.unwrap(), 1);
    let new = BearerToken::new(rotated["token"].as_str().unwrap());
    assert_eq!(answer(&cache, &new).await, "valid");
    assert_eq!(answer(&cache, &old).await, "invalid");
    let pending = send(&router, "get", "/pending", "").await.expect(200);
    assert_eq!(pending, json!({ "count": 0, "pending": [] }));
}

async fn pages_have_every_key_once(world: World) {
    let keys = world.keys().await;
    let router = keys.admin_router();
    let mut made = BTreeSet::new();
    for _ in 0..5 {
        made.insert(create(&router).await.0);
    }
    send(&router, "post", "/tokens", r#"{"tenant_id":"globex"}"#)
        .await
        .expect(201);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/tokens?tenant_id=acme&limit=2{after}");
        let page = send(&router, "get", &path, "").await.expect(200);
        let ids = page["tokens"].as_array().unwrap().iter();
        seen.extend(ids.map(|token| token["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(seen.len(), 5);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), made);
}

async fn errors_show_no_value_of_the_request(world: World) {
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    let router = keys.admin_router();
    let long = "hunter22".repeat(65);
    for (status, member, body) in [
        (400, "JSON", json!(["hunter22"])),
        (422, "tenant_id", json!({})),
        (422, "tenant_id", json!({ "tenant_id": "hunter22\0" })),
        (422, "tenant_id", json!({ "tenant_id": ["hunter22"] })),
        (
            422,
            "token_type",
            json!({ "tenant_id": "acme", "token_type": "hunter22\n" }),
        ),
        (422, "app_id", json!({ "tenant_id": "acme", "app_id": "" })),
        (422, "name", json!({ "tenant_id": "acme", "name": long })),
        (
            422,
            "scopes",
            json!({ "tenant_id": "acme", "scopes": "hunter22" }),
        ),
        (
            422,
            "scopes",
            json!({ "tenant_id": "acme", "scopes": ["hunter22 x"] }),
        ),
        (
            422,
            "token",
            json!({ "tenant_id": "acme", "token": "hunter22" }),
        ),
        (
            422,
            "token",
            json!({ "tenant_id": "acme", "token": "hunter22 hunter22" }),
        ),
        (
            422,
            "token",
            json!({ "tenant_id": "acme", "token": "================" }),
        ),
        (
            422,
            "token",
            json!({ "tenant_id": "acme", "token": "hunter22=hunter22" }),
        ),
        (422, "token", json!({ "tenant_id": "acme", "token": long })),
        (
            422,
            "expires_at",
            json!({ "tenant_id": "acme", "expires_at": "hunter22" }),
        ),
        (
            422,
            "expires_at",
            json!({ "tenant_id": "acme", "expires_at": "2001-01-01T00:00:00Z" }),
        ),
        (
            422,
            "unknown member",
            json!({ "tenant_id": "acme", "expire_at": "hunter22" }),
        ),
    ] {
        let answer = send(&router, "post", "/tokens", &body.to_string()).await;
        let shown = answer.expect(status).to_string();
        assert!(
            shown.contains(member) && !shown.contains("hunter22"),
            "{shown}"
        );
    }
    let text = "hunter22-hunter22";
    let import = json!({ "tenant_id": "acme", "token": text }).to_string();
    send(&router, "post", "/tokens", &import).await.expect(201);
    let again = send(&router, "post", "/tokens", &import).await.expect(409);
    assert!(!again.to_string().contains(text));
    for path in [
        "/tokens/hunter22",
        "/tokens/%00hunter22",
        "/tokens?hunter22=1",
        "/audit?after=hunter22",
    ] {
        let answer = send(&router, "get", path, "").await;
        assert!([400, 404].contains(&answer.status) && !answer.body.contains("hunter22"));
    }
    assert_eq!(keys.pending_count().await.unwrap(), 0);
}

async fn settings_limit_new_keys_and_report_commits(world: World) {
    let keys = world
        .builder()
        .await
        .format(TokenFormat::from_static("acme_"));
    let keys = keys.build().await.unwrap();
    let _cache = keys.cache().build().unwrap();
    let commits = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&commits);
    let settings = AdminSettings::new()
        .token_types(["app", "dataset"])
        .imports_have_format(true)
        .known_tenants(async |tenant| Ok(tenant == "acme"))
        .on_commit(move |change| {
            let id = change
                .key_id
                .clone()
                .unwrap_or_else(|| change.tenant_id.clone());
            sink.lock().unwrap().push((change.action, id));
        });
    let router = keys.admin_router_with(settings);
    let text = TokenFormat::from_static("acme_").generate().unwrap();
    for (member, body) in [
        (
            "tenant_id",
            json!({ "tenant_id": "globex", "token_type": "app" }),
        ),
        ("token_type", json!({ "tenant_id": "acme" })),
        (
            "token_type",
            json!({ "tenant_id": "acme", "token_type": "operator" }),
        ),
        (
            "token",
            json!({ "tenant_id": "acme", "token_type": "app", "token": "a-text-without-checksum" }),
        ),
    ] {
        let answer = send(&router, "post", "/tokens", &body.to_string()).await;
        let detail = answer.expect(422)["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(member), "{detail}");
    }
    let body = json!({ "tenant_id": "acme", "token_type": "app", "token": text.expose() });
    let made = send(&router, "post", "/tokens", &body.to_string())
        .await
        .expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    send(&router, "delete", &format!("/tokens/{id}"), "")
        .await
        .expect(200);
    send(&router, "post", "/tenants/acme/suspend", "")
        .await
        .expect(200);
    let acme = "acme".to_owned();
    assert_eq!(
        *commits.lock().unwrap(),
        [
            ("imported", id.clone()),
            ("revoked", id),
            ("suspended", acme)
        ]
    );
}

async fn texts_are_stored_before_their_keys(world: World) {
    let texts: Arc<Mutex<HashMap<TokenDigest, BearerToken>>> = Arc::default();
    let (stored, found) = (Arc::clone(&texts), Arc::clone(&texts));
    let builder = world.builder().await.outbox_interval(None);
    let builder = builder.store_texts(move |token| {
        let stored = Arc::clone(&stored);
        async move {
            let mut stored = stored.lock().unwrap();
            if stored.len() == 3 {
                return Err("full".into());
            }
            stored.insert(token.digest(), token);
            Ok(())
        }
    });
    let builder = builder.texts(move |digest| {
        let text = found.lock().unwrap().get(&digest).cloned();
        async move { Ok(text) }
    });
    let keys = builder.build().await.unwrap();
    let _cache = keys.cache().build().unwrap();
    let router = keys.admin_router();
    let (id, issued) = create(&router).await;
    let import = r#"{"tenant_id":"acme","token":"a-text-that-exists-already"}"#;
    send(&router, "post", "/tokens", import).await.expect(201);
    let rotate = format!("/tokens/{id}/rotate");
    let rotated = send(&router, "post", &rotate, "").await.expect(201);
    let kept: BTreeSet<String> = texts
        .lock()
        .unwrap()
        .values()
        .map(|it| it.expose().to_owned())
        .collect();
    let successor = rotated["token"].as_str().unwrap().to_owned();
    let expected = [
        issued.expose().to_owned(),
        "a-text-that-exists-already".to_owned(),
        successor,
    ];
    assert_eq!(kept, BTreeSet::from(expected));

    // If a text cannot be stored, there is no key.
    let path = format!("/tokens/{}/rotate", rotated["id"].as_str().unwrap());
    send(&router, "post", &path, "").await.expect(503);
    send(&router, "post", "/tokens", r#"{"tenant_id":"acme"}"#)
        .await
        .expect(503);
    let page = send(&router, "get", "/tokens", "").await.expect(200);
    assert_eq!(page["tokens"].as_array().unwrap().len(), 3);
}
