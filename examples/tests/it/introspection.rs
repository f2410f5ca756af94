//! The example `introspection`, with an authorization server that answers as a test says.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use test_support::{Example, Needles};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_api_token::metrics::Origin;
use tower_api_token::test_util::ManualClock;
use tower_api_token::{Answer, InvalidReason, UnavailableKind};

#[path = "../../introspection/loader.rs"]
mod loader;

use loader::Introspection;

const TOKEN: &str = "tok-7hQ2mXv9LpT4wZ8kRb3N";
const OTHER: &str = "tok-Yt5rEw3qPl9oKj2hGf7D";
const SECRET: &str = "Qf8nWi2oKx7tHr4yBv6c";

/// 2100 and 2001.
const FUTURE: u64 = 4_102_444_800;
const PAST: u64 = 1_000_000_000;

/// What the server does when it is asked about a token.
#[derive(Clone)]
enum Reply {
    Json(Value),
    Text(u16, String),
    Redirected,
    Never,
}

#[derive(Default)]
struct State {
    replies: HashMap<String, Reply>,
    /// Method, URI, headers and body of each request.
    requests: Vec<(Method, Uri, HeaderMap, String)>,
}

type Shared = Arc<Mutex<State>>;

/// An authorization server. Dropping it closes its port and its connections.
struct Server {
    runtime: Runtime,
    endpoint: String,
    state: Shared,
}

impl Server {
    fn start() -> Self {
        Self::on("127.0.0.1:0")
    }

    fn on(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let endpoint = format!("http://{}/introspect", listener.local_addr().unwrap());
        let state = Shared::default();
        let replies = Arc::clone(&state);
        let answer = move |method, uri, headers, body| {
            let replies = Arc::clone(&replies);
            async move { answer(&replies, (method, uri, headers, body)).await }
        };
        let app = Router::new().fallback(answer);
        runtime.spawn(async { axum::serve(listener, app).await });
        Self {
            runtime,
            endpoint,
            state,
        }
    }

    fn reply(&self, token: &str, reply: Reply) {
        let mut state = self.state.lock().unwrap();
        state.replies.insert(token.to_owned(), reply);
    }

    fn json(&self, token: &str, answer: Value) {
        self.reply(token, Reply::Json(answer));
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    fn start_example(&self) -> Example {
        let variables = [
            ("INTROSPECTION_URL", self.endpoint.as_str()),
            ("CLIENT_ID", "orders"),
            ("CLIENT_SECRET", SECRET),
            ("AUDIENCE", "https://orders.example"),
            ("LOG", "trace"),
        ];
        Example::start(Path::new(env!("CARGO_BIN_EXE_introspection")), &variables)
    }

    fn loader(&self, client: reqwest::Client) -> Introspection {
        Introspection {
            endpoint: self.endpoint.clone(),
            client_id: "orders".to_owned(),
            client_secret: SECRET.to_owned(),
            audience: "https://orders.example".to_owned(),
            client,
        }
    }
}

async fn answer(state: &Shared, request: (Method, Uri, HeaderMap, String)) -> Response {
    let token = request.3.strip_prefix("token=");
    let token = token.and_then(|rest| rest.split('&').next()).unwrap_or("");
    let reply = {
        let mut state = state.lock().unwrap();
        let reply = state.replies.get(token).cloned();
        state.requests.push(request);
        reply.unwrap_or(Reply::Json(json!({ "active": false })))
    };
    match reply {
        Reply::Json(answer) => answer.to_string().into_response(),
        Reply::Text(status, text) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, text).into_response()
        }
        Reply::Redirected => Redirect::temporary("/elsewhere").into_response(),
        Reply::Never => std::future::pending().await,
    }
}

/// A token that may read orders, with these changes.
fn active(changes: Value) -> Value {
    let mut answer = json!({
        "active": true,
        "scope": "orders:write orders:read",
        "client_id": "shop",
        "sub": "alice",
        "aud": "https://orders.example",
        "token_type": "Bearer",
        "exp": FUTURE,
        "username": "ignored",
    });
    for (name, value) in changes.as_object().unwrap() {
        answer[name] = value.clone();
    }
    answer
}

fn orders(example: &Example, token: &str) -> test_support::Answer {
    example.curl_as(token, "/orders", &[])
}

#[test]
fn an_active_token_is_accepted_and_asked_about_once() {
    let server = Server::start();
    server.json(TOKEN, active(json!({})));
    let example = server.start_example();
    let loaded = orders(&example, TOKEN).expect(200);
    assert_eq!(loaded.body, "orders of alice for shop (loaded)\n");
    let cached = orders(&example, TOKEN).expect(200);
    assert_eq!(cached.body, "orders of alice for shop (local)\n");
    example.curl("/orders", &[]).expect(401);
    assert_eq!(server.asked(), 1);

    let state = server.state.lock().unwrap();
    let (method, uri, headers, body) = &state.requests[0];
    assert_eq!(
        (method, uri.to_string().as_str()),
        (&Method::POST, "/introspect")
    );
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(headers["accept"], "application/json");
    // `orders` and the secret.
    let credentials = "Basic b3JkZXJzOlFmOG5XaTJvS3g3dEhyNHlCdjZj";
    assert_eq!(headers["authorization"], credentials);
    assert_eq!(*body, format!("token={TOKEN}&token_type_hint=access_token"));
}

#[test]
fn what_is_not_a_valid_token_of_this_service_is_401() {
    let server = Server::start();
    let example = server.start_example();
    let refused = [
        json!({ "active": false }),
        json!({ "active": false, "exp": FUTURE, "aud": "https://orders.example" }),
        active(json!({ "exp": PAST })),
        active(json!({ "aud": "https://billing.example" })),
        active(json!({ "aud": ["https://billing.example"] })),
        active(json!({ "aud": null })),
        // They need a proof of a key.
        active(json!({ "token_type": "DPoP" })),
        active(json!({ "cnf": { "jkt": "0ZcOCORZNYy" } })),
    ];
    for (nth, answer) in refused.into_iter().enumerate() {
        let token = format!("tok-refused-{nth}");
        server.json(&token, answer.clone());
        let refused = orders(&example, &token);
        assert_eq!(refused.status, 401, "{answer}");
        let challenge = "Bearer realm=\"api\", error=\"invalid_token\"";
        assert_eq!(refused.header("www-authenticate"), challenge);
        let asked = server.asked();
        orders(&example, &token).expect(401);
        assert_eq!(server.asked(), asked, "{answer}");
    }
    for (nth, changes) in [
        json!({ "aud": ["https://billing.example", "https://orders.example"] }),
        json!({ "token_type": null, "exp": null }),
        json!({ "token_type": "bearer", "sub": null, "jti": "7" }),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("tok-accepted-{nth}");
        server.json(&token, active(changes.clone()));
        assert_eq!(orders(&example, &token).status, 200, "{changes}");
    }
}

#[test]
fn a_token_without_the_scope_is_403() {
    let server = Server::start();
    let example = server.start_example();
    for (nth, scope) in [json!("orders:write"), json!(""), json!(null)]
        .into_iter()
        .enumerate()
    {
        let token = format!("tok-narrow-{nth}");
        server.json(&token, active(json!({ "scope": scope })));
        let refused = orders(&example, &token).expect(403);
        let challenge = "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"orders:read\"";
        assert_eq!(refused.header("www-authenticate"), challenge);
    }
}

/// Neither is kept: the next request asks again.
#[test]
fn what_is_not_an_answer_about_the_token_is_503() {
    let server = Server::start();
    let example = server.start_example();
    let text = |status, text: &str| Reply::Text(status, text.to_owned());
    let long = format!("{{\"active\": false}}{}", " ".repeat(100_000));
    for reply in [
        text(500, ""),
        text(503, "{\"active\": false}"),
        // Our own credentials are wrong.
        text(401, "{\"error\": \"invalid_client\"}"),
        text(403, ""),
        text(404, ""),
        text(204, ""),
        text(200, ""),
        text(200, "{\"active\": tr"),
        text(200, "{}"),
        text(200, "[]"),
        text(200, "{\"active\": \"false\"}"),
        text(
            200,
            "{\"active\": true, \"aud\": \"https://orders.example\"}",
        ),
        text(200, &active(json!({ "exp": "soon" })).to_string()),
        text(200, &active(json!({ "exp": u64::MAX })).to_string()),
        text(200, &long),
        Reply::Redirected,
    ] {
        let asked = server.asked();
        server.reply(TOKEN, reply);
        let unknown = orders(&example, TOKEN).expect(503);
        assert_eq!(unknown.header("retry-after"), "1");
        assert_eq!(unknown.header("www-authenticate"), "");
        // And only once: not a second request to where it points.
        assert_eq!(server.asked(), asked + 1);
    }
    server.json(TOKEN, active(json!({})));
    orders(&example, TOKEN).expect(200);
}

#[test]
fn an_outage_of_the_server_is_503_and_spares_what_is_cached() {
    let server = Server::start();
    server.json(TOKEN, active(json!({})));
    let example = server.start_example();
    orders(&example, TOKEN).expect(200);
    let address = server.endpoint.trim_start_matches("http://");
    let address = address.trim_end_matches("/introspect").to_owned();
    server.runtime.shutdown_timeout(Duration::from_secs(30));

    orders(&example, OTHER).expect(503);
    let cached = orders(&example, TOKEN).expect(200);
    assert_eq!(cached.body, "orders of alice for shop (local)\n");

    let again = Server::on(&address);
    again.json(OTHER, active(json!({})));
    orders(&example, OTHER).expect(200);
}

#[test]
fn a_server_that_does_not_answer_is_unavailable() {
    let server = Server::start();
    server.reply(TOKEN, Reply::Never);
    server.runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_millis(100));
        let cache = loader::cache(server.loader(client.build().unwrap()));
        let error = cache
            .build()
            .unwrap()
            .authenticate(TOKEN)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), UnavailableKind::LoaderFailed);
    });
    assert_eq!(server.asked(), 1);
}

#[test]
fn a_revocation_takes_effect_with_the_ttl_or_an_invalidation() {
    let server = Server::start();
    let clock = ManualClock::new();
    let cache = loader::cache(server.loader(loader::client().unwrap()));
    let cache = cache.clock(clock.clone()).build().unwrap();
    let valid = |token: &str| {
        let answer = server.runtime.block_on(cache.authenticate(token)).unwrap();
        match answer.into_result() {
            Ok(token) => Some(token.scopes().map(str::to_owned).collect::<Vec<_>>()),
            Err(_) => None,
        }
    };
    for token in [TOKEN, OTHER] {
        server.json(token, active(json!({})));
        assert_eq!(valid(token).unwrap(), ["orders:write", "orders:read"]);
        server.json(token, json!({ "active": false }));
        assert!(valid(token).is_some());
    }
    // The server tells of this one.
    server
        .runtime
        .block_on(async { cache.invalidate(TOKEN).await })
        .unwrap();
    assert_eq!((valid(TOKEN), valid(OTHER).is_some()), (None, true));
    clock.advance(Duration::from_secs(30));
    assert_eq!(valid(OTHER), None);
}

/// An entry does not outlive the token, whatever `ttl` is and the server says.
#[test]
fn a_cached_token_ends_with_exp() {
    let server = Server::start();
    let clock = ManualClock::new();
    let cache = loader::cache(server.loader(loader::client().unwrap()));
    let cache = cache.clock(clock.clone()).build().unwrap();
    let end = u64::try_from(clock.now().timestamp()).unwrap() + 10;
    server.json(TOKEN, active(json!({ "exp": end })));
    server.runtime.block_on(async {
        assert!(cache.authenticate(TOKEN).await.unwrap().valid().is_some());
        clock.advance(Duration::from_secs(10));
        let answer = cache.authenticate(TOKEN).await.unwrap();
        let is_expired = matches!(answer, Answer::Invalid(InvalidReason::Expired));
        assert!(is_expired, "{answer:?}");
    });
}

/// Off by default, and never for long.
#[test]
fn stale_if_error_bridges_an_outage_of_the_server() {
    let server = Server::start();
    let clock = ManualClock::new();
    let cache = loader::cache(server.loader(loader::client().unwrap()));
    let cache = cache.stale_if_error(Duration::from_secs(60));
    let cache = cache.clock(clock.clone()).build().unwrap();
    server.json(TOKEN, active(json!({})));
    server.runtime.block_on(async {
        cache.warm(TOKEN).await.unwrap();
        server.reply(TOKEN, Reply::Text(500, String::new()));
        clock.advance(Duration::from_secs(30));
        let stale = cache.authenticate(TOKEN).await.unwrap().valid().unwrap();
        assert_eq!(stale.origin(), Origin::Stale);
        clock.advance(Duration::from_secs(60));
        cache.authenticate(TOKEN).await.unwrap_err();
    });
}

/// At the level of traces, also of what went wrong. A broken server even sends the token back.
#[test]
fn neither_token_nor_secret_is_logged() {
    let server = Server::start();
    let example = server.start_example();
    server.json(TOKEN, active(json!({})));
    server.reply(
        OTHER,
        Reply::Text(200, format!("{{\"active\": \"{OTHER}\"}}")),
    );
    orders(&example, TOKEN).expect(200);
    orders(&example, OTHER).expect(503);
    server.reply(OTHER, Reply::Text(500, OTHER.to_owned()));
    orders(&example, OTHER).expect(503);
    let output = example.output();
    for part in [
        "TRACE",
        "reqwest",
        "hyper_util",
        "not an introspection response",
    ] {
        assert!(output.contains(part), "no {part} in {output}");
    }
    let mut needles = Needles::new();
    needles.add("a token", TOKEN);
    needles.add("a token", OTHER);
    needles.add("the secret", SECRET);
    assert_eq!(needles.find(output.as_bytes()), None);
}
