//! Lines 37 to 42 and 47: properties of all our answers.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER,
    TRANSFER_ENCODING, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_api_token::rejection::{RequestHead, ResponseForRejection, StatusOnly};
use tower_api_token::{CachedApiToken, Lookup, Origin, Rejection, TokenDigest, TokenSource};

use crate::http_conformance::transport::{Ask, Framework, Transport, send};
use crate::http_conformance::world::*;

/// 38
#[tokio::test]
async fn each_challenge_has_the_quoted_realm_once() {
    let world = World::new().layer(|layer| layer.realm(r#"a "b\c", d"#));
    let realm = r#"Bearer realm="a \"b\\c\", d""#;
    for (status, error, request) in [
        (401, "", get(&[])),
        (401, r#", error="invalid_token""#, bearer(UNKNOWN)),
        (
            400,
            r#", error="invalid_request""#,
            get(&[b"Bearer a", b"x"]),
        ),
        (403, "", bearer(SUSPENDED)),
    ] {
        let reply = world.send(request).await;
        reply.assert_rejected(status, &format!("{realm}{error}"));
    }
}

/// 38, 39, 40, 41
#[tokio::test]
async fn a_closure_makes_the_body_and_the_layer_adds_its_own_headers() {
    let world = World::new().layer(|layer| {
        layer.rejection_response(|rejection: &Rejection, _: &RequestHead<'_>| {
            Response::builder()
                .status(rejection.status())
                .header(WWW_AUTHENTICATE, r#"Basic realm="old""#)
                .header(VARY, "origin")
                .header(CACHE_CONTROL, "public")
                .header(CONTENT_LENGTH, "7")
                .header("x-request-id", "42")
                .body(format!("<p>{}</p>", rejection.detail()))
                .unwrap()
        })
    });
    let reply = world.bearer(UNKNOWN).await;
    assert_eq!(reply.status, 401);
    let challenges = [r#"Basic realm="old""#, INVALID];
    assert_eq!(reply.all(WWW_AUTHENTICATE), challenges);
    assert_eq!(reply.all(VARY), ["origin", "authorization"]);
    assert_eq!(reply.one(CACHE_CONTROL), "no-store");
    assert_eq!(reply.one("x-request-id"), "42");
    assert_eq!(reply.body, "<p>The API token is not valid.</p>");
    assert_eq!(reply.one(CONTENT_LENGTH), reply.body.len().to_string());
    let reply = world.bearer(FAILING).await;
    assert_eq!((reply.status.as_u16(), reply.one(RETRY_AFTER)), (503, "1"));
}

/// 39
#[tokio::test]
async fn the_default_body_is_problem_details() {
    let world = World::new();
    let titles = [
        "Unauthorized",
        "Unauthorized",
        "Bad Request",
        "Forbidden",
        "Service Unavailable",
    ];
    for ((name, request), title) in rejected().into_iter().zip(titles) {
        let reply = world.send(request).await;
        assert_eq!(
            reply.one(CONTENT_TYPE),
            "application/problem+json",
            "{name}"
        );
        let json = reply.json();
        let members = json.as_object().unwrap();
        assert_eq!(members.len(), 4, "{name}: {json}");
        assert_eq!(members["type"], "about:blank", "{name}");
        assert_eq!(members["title"], title, "{name}");
        assert_eq!(members["status"], reply.status.as_u16(), "{name}");
        assert!(members["detail"].as_str().is_some(), "{name}");
    }
}

/// 39, 41
#[tokio::test]
async fn an_empty_body_changes_nothing_else() {
    let full = World::new();
    let empty = World::new().layer(|layer| layer.rejection_response(StatusOnly));
    for ((name, one), (_, other)) in rejected().into_iter().zip(rejected()) {
        let (mut full, empty) = (full.send(one).await, empty.send(other).await);
        assert!(empty.body.is_empty(), "{name}");
        assert_eq!(empty.one(CONTENT_LENGTH), "0", "{name}");
        full.headers.retain(|(key, _)| key != "content-type");
        for (key, value) in &mut full.headers {
            if key == "content-length" {
                "0".clone_into(value);
            }
        }
        full.headers.sort();
        let mut headers = empty.headers.clone();
        headers.sort();
        assert_eq!(
            (full.status, full.headers),
            (empty.status, headers),
            "{name}"
        );
    }
}

/// 40, 41
#[tokio::test]
async fn every_rejection_is_uncacheable_varies_and_has_its_length() {
    let world = World::new();
    for (name, request) in rejected() {
        let reply = world.send(request).await;
        assert_eq!(reply.one(CACHE_CONTROL), "no-store", "{name}");
        assert!(
            reply.one(VARY).eq_ignore_ascii_case("authorization"),
            "{name}"
        );
        let length = reply.body.len().to_string();
        assert_eq!(reply.one(CONTENT_LENGTH), length, "{name}");
    }
    for (name, mut request) in rejected() {
        let grpc = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(CONTENT_TYPE, grpc);
        let reply = world.send(request).await;
        assert_eq!(reply.one(CACHE_CONTROL), "no-store", "{name}");
        assert!(
            reply.one(VARY).eq_ignore_ascii_case("authorization"),
            "{name}"
        );
    }
}

/// 37
#[tokio::test]
async fn a_rejection_is_a_200_only_for_a_grpc_client() {
    let world = World::new();
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS] {
        assert_eq!(world.send(grpc(method)).await.status, 401);
    }
    assert_eq!(world.send(grpc(Method::POST)).await.status, 200);
    let forgetful = World::new().layer(|layer| {
        let layer = layer.grpc_status(false);
        layer.rejection_response(|_: &Rejection, _: &RequestHead<'_>| Response::new("no"))
    });
    assert_eq!(forgetful.send(grpc(Method::POST)).await.status, 401);
    let switching = World::new().layer(|layer| {
        layer.rejection_response(|_: &Rejection, _: &RequestHead<'_>| {
            let mut response = Response::new("no");
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
        })
    });
    assert_eq!(switching.send(get(&[])).await.status, 401);
}

/// 37
#[tokio::test]
async fn without_grpc_status_a_grpc_call_gets_the_http_status() {
    let world = World::new().layer(|layer| layer.grpc_status(false));
    assert_eq!(world.send(grpc(Method::POST)).await.status, 401);
}

fn grpc(method: Method) -> Request<Empty<Bytes>> {
    let mut request = get(&[]);
    *request.method_mut() = method;
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(CONTENT_TYPE, grpc);
    request
}

/// 41
#[tokio::test]
async fn a_forwarded_rejection_has_one_content_length() {
    let world = World::new().layer(|layer| {
        layer.rejection_response(|_: &Rejection, _: &RequestHead<'_>| {
            let mut response = Response::new("no");
            let chunked = HeaderValue::from_static("chunked");
            response.headers_mut().insert(TRANSFER_ENCODING, chunked);
            response
        })
    });
    let reply = world.send(get(&[])).await;
    assert_eq!(reply.one(CONTENT_LENGTH), "2");
    assert_eq!(reply.all(TRANSFER_ENCODING), [""; 0]);
}

/// Redirects, and records everything that it can see of the request.
#[derive(Clone, Default)]
struct Elsewhere(Arc<Mutex<Vec<String>>>);

impl ResponseForRejection for Elsewhere {
    fn response_for_rejection(
        &self,
        rejection: &Rejection,
        request: &RequestHead<'_>,
    ) -> Response<Bytes> {
        let fields = ["accept", "authorization", "COOKIE", "X-Api-Key", "x-other"];
        let fields = fields.map(|name| request.header(name));
        let (method, path, query) = (request.method(), request.path(), request.query());
        let seen = format!("{method} {path} {query:?} {fields:?} {request:?} {request:#?}");
        self.0.lock().unwrap().push(seen);
        let mut response = StatusOnly.response_for_rejection(rejection, request);
        assert_eq!(response.status(), rejection.status());
        *response.status_mut() = StatusCode::SEE_OTHER;
        let there = HeaderValue::from_static("/log-in");
        response.headers_mut().insert(LOCATION, there);
        response
    }
}

/// 39: at once and after a lookup, for every source of a token.
#[tokio::test]
async fn a_rejection_response_cannot_see_credential_fields() {
    let elsewhere = Elsewhere::default();
    let world = World::new().layer(|layer| {
        let layer = layer.sources([
            TokenSource::header("x-api-key"),
            TokenSource::cookie("token"),
            TokenSource::query("access_token"),
        ]);
        layer.rejection_response(elsewhere.clone())
    });
    let cookie = format!("token={UNKNOWN}");
    let query = format!("/a?access_token={UNKNOWN}");
    for (target, name, value) in [
        ("/a", "x-api-key", UNKNOWN),
        ("/a", "cookie", cookie.as_str()),
        (query.as_str(), "x-other", "b"),
    ] {
        for _ in 0..2 {
            let request = Request::put(target)
                .header("accept", "text/html")
                // The layer does not read this header here, but it holds a credential.
                .header(AUTHORIZATION, "Basic YTpi")
                .header(name, value)
                .body(Empty::<Bytes>::new())
                .unwrap();
            let reply = world.send(request).await;
            assert_eq!(
                (reply.status.as_u16(), reply.one(LOCATION)),
                (303, "/log-in")
            );
            assert_eq!(reply.one(WWW_AUTHENTICATE), INVALID);
        }
    }
    assert_eq!(
        world.calls(),
        1,
        "loaded once, and answered at once from then on"
    );
    let other = |there: &str| {
        let debug = r#"RequestHead { method: PUT, path: "/a", .. }"#;
        let fields = format!(r#"[Some("text/html"), None, None, None, {there}]"#);
        format!("PUT /a None {fields} {debug} ")
    };
    let seen = elsewhere.0.lock().unwrap();
    let other = [other("None"), other(r#"Some("b")"#)];
    let expected = [0, 0, 0, 0, 1, 1].map(|which| &other[which]);
    assert_eq!(seen.len(), expected.len());
    for (seen, expected) in seen.iter().zip(expected) {
        assert!(seen.starts_with(expected), "{seen}");
        assert!(!seen.contains(UNKNOWN), "{seen}");
    }
}

/// 41: with the exact size hint a server needs no chunks.
#[tokio::test]
async fn a_rejections_body_knows_its_size_and_its_end() {
    let world = World::new();
    let inner = service_fn(|_: Request<Empty<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::from("served")))
    });
    let response = world.layer.layer(inner).oneshot(get(&[])).await.unwrap();
    let mut body = response.into_body();
    let length = body.size_hint().exact().unwrap();
    assert!(length > 0 && !body.is_end_stream());
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data.len() as u64, length);
    assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
    assert!(body.frame().await.is_none());
}

/// 41
#[tokio::test]
async fn a_rejection_echoes_nothing_of_the_request() {
    const MARK: &str = "zebra-0123456789";
    let world = World::new();
    let authorizations = [
        format!("Bearer {MARK}"),
        format!("Bearer {MARK},"),
        format!("Basic {MARK}"),
        format!("{MARK} {MARK}"),
    ];
    for value in &authorizations {
        let request = Request::builder()
            .method("ZEBRA")
            .uri(format!("http://{MARK}/{MARK}?{MARK}"))
            .header(AUTHORIZATION, value)
            .header("user-agent", MARK)
            .header("x-request-id", MARK)
            .header(CONTENT_TYPE, MARK)
            .header("cookie", MARK)
            .header("accept", MARK)
            .body(Full::<Bytes>::from(MARK))
            .unwrap();
        let reply = world.send(request).await;
        assert!(reply.status == 401, "{reply:?}");
        assert!(
            !format!("{reply:?}").to_lowercase().contains("zebra"),
            "{reply:?}"
        );
    }
    // The presented token decides the answer, but is not part of it.
    let denied = world.bearer(SUSPENDED).await;
    let failed = world.bearer(FAILING).await;
    for (reply, token) in [(denied, SUSPENDED), (failed, FAILING)] {
        assert!(!format!("{reply:?}").contains(token), "{reply:?}");
    }
}

/// 42
#[tokio::test]
async fn the_loader_gets_the_digest_of_the_whole_token() {
    let world = World::new();
    let near = "app-Good-0123456780";
    for token in [GOOD, near] {
        world.bearer(token).await;
    }
    // Both come from memory now. The similar token is still another one.
    world.bearer(GOOD).await.assert_served();
    world.bearer(near).await.assert_rejected(401, INVALID);
    let asked = world.database.asked.lock().unwrap();
    let digests: Vec<_> = asked.iter().map(Lookup::digest).collect();
    assert_eq!(digests, [TokenDigest::of(GOOD), TokenDigest::of(near)]);
    assert!(asked.iter().all(|lookup| lookup.token_type().is_none()));
}

/// A handler gets the record, the token, and the origin of the answer.
#[tokio::test]
async fn a_valid_token_is_in_the_extensions_with_its_origin() {
    let world = World::new();
    world.bearer(GOOD).await.assert_served();
    world.bearer(GOOD).await.assert_served();
    let reached = world.reached.lock().unwrap();
    let seen: Vec<_> = reached
        .iter()
        .map(|parts| {
            let token = parts.extensions.get::<CachedApiToken>().unwrap();
            (token.id(), token.token().expose(), token.origin())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("tok-good", GOOD, Origin::Loaded),
            ("tok-good", GOOD, Origin::Local)
        ]
    );
    assert_eq!(world.calls(), 1);
}

/// 47. Loaded and from memory, over HTTP/1.1, HTTP/2, and as a gRPC call.
#[tokio::test]
async fn an_end_that_is_near_is_announced_with_the_response() {
    const NAME: &str = "api-token-expires";
    let ask = |token: &str, content_type: &str| Ask {
        method: "POST",
        target: "/".to_owned(),
        headers: vec![
            ("authorization", format!("Bearer {token}").into_bytes()),
            ("content-type", content_type.as_bytes().to_vec()),
        ],
    };
    let (json, grpc) = ("application/json", "application/grpc");
    let asks = [ask(ENDING, json), ask(ENDING, json), ask(ENDING, grpc)];
    let hours = |hours: u64| Duration::from_secs(3_600 * hours);
    for transport in [
        Transport::Call,
        Transport::Http1(Framework::Hyper),
        Transport::Http2(Framework::Axum),
    ] {
        let world = World::new().layer(|layer| layer.expiry_notice(hours(2)));
        for reply in send(transport, &world, &asks.each_ref()).await {
            reply.assert_served();
            let reached = world.reached.lock().unwrap();
            let token = reached[0].extensions.get::<CachedApiToken>().unwrap();
            let end = token.expires_at().unwrap();
            let date = end.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            assert_eq!(reply.one(NAME), date, "{transport:?}");
        }
        // It does not expire, or the request is rejected.
        for token in [GOOD, UNKNOWN, EXPIRED, SUSPENDED, FAILING] {
            let replies = send(transport, &world, &[&ask(token, json)]).await;
            assert!(replies[0].all(NAME).is_empty(), "{token}, {transport:?}");
        }
    }
    // It expires later, or nothing is to be announced, or there is no token.
    for before in [Duration::from_secs(3_500), Duration::ZERO] {
        let world = World::new().layer(|layer| layer.expiry_notice(before));
        assert!(world.bearer(ENDING).await.all(NAME).is_empty());
    }
    let world = World::new().layer(|layer| layer.expiry_notice(hours(2)).optional());
    assert!(world.send(get(&[])).await.all(NAME).is_empty());
    // The inner service's own header stays.
    let mut world = World::new().layer(|layer| layer.expiry_notice(hours(2)));
    world.served.insert(NAME, HeaderValue::from_static("soon"));
    assert_eq!(world.bearer(ENDING).await.one(NAME), "soon");
}
