//! Lines 31 to 37: methods and protocols.

use bytes::Bytes;
use http::header::{AUTHORIZATION, ORIGIN};
use http::{HeaderValue, Method, Request, request};
use http_body_util::Empty;
use tower_api_token::TokenSource;

use crate::http_conformance::world::*;

/// 31
#[tokio::test]
async fn a_cors_preflight_is_rejected_unless_the_service_allows_it() {
    let world = World::new();
    world.send(preflight()).await.assert_rejected(401, BARE);
    let allowing = world.builder().allow_cors_preflight().build().unwrap();
    let reply = world.send_through(&allowing, preflight()).await;
    reply.assert_served();
    world.assert_no_lookup();
    let reached = world.reached.lock().unwrap();
    let expected = preflight().into_parts().0;
    assert_eq!(reached.len(), 1);
    assert_eq!(reached[0].headers, expected.headers, "untouched");
    assert_eq!(
        (&reached[0].method, &reached[0].uri),
        (&Method::OPTIONS, &expected.uri)
    );
}

/// 31
#[tokio::test]
async fn a_request_that_resembles_a_preflight_is_authenticated() {
    let world = World::new().layer(|layer| layer.allow_cors_preflight());
    let requests = [
        "GET",
        "HEAD",
        "POST",
        "options",
        "OPTIONS ORIGIN",
        "OPTIONS ACRM",
    ];
    for name in requests {
        let mut request = preflight();
        match name {
            "OPTIONS ORIGIN" => drop(
                request
                    .headers_mut()
                    .remove("access-control-request-method"),
            ),
            "OPTIONS ACRM" => drop(request.headers_mut().remove(ORIGIN)),
            method => *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap(),
        }
        let reply = world.send(request).await;
        reply.assert_rejected(401, BARE);
    }
    for (name, value) in [("content-length", "6"), ("transfer-encoding", "chunked")] {
        let mut request = preflight().map(|_| Untouchable);
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(name, value);
        world.send(request).await.assert_rejected(401, BARE);
    }
    let plain = Request::options("/").body(Empty::<Bytes>::new()).unwrap();
    world.send(plain).await.assert_rejected(401, BARE);
    assert!(world.reached().is_empty());
}

/// 33
#[tokio::test]
async fn head_gets_status_and_headers_of_get_and_no_body() {
    let world = World::new();
    for ((name, get), (_, mut head)) in rejected().into_iter().zip(rejected()) {
        *head.method_mut() = Method::HEAD;
        let (get, head) = (world.send(get).await, world.send(head).await);
        assert_eq!(
            (head.status, &head.headers),
            (get.status, &get.headers),
            "{name}"
        );
        assert!(!get.body.is_empty() && head.body.is_empty(), "{name}");
    }
}

/// 34
#[tokio::test]
async fn no_rejection_has_a_connection_specific_header() {
    let world = World::new();
    for (name, request) in rejected() {
        let reply = world.send(request).await;
        for header in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "te",
            "trailer",
        ] {
            assert_eq!(reply.all(header), [""; 0], "{name}");
        }
    }
}

/// 34
#[tokio::test]
async fn the_inner_service_sees_authorization_marked_sensitive() {
    let world = World::new().layer(|layer| layer.optional());
    let good = format!("Bearer {GOOD}");
    // Loaded, from memory, and of another scheme.
    world.authorization(&good).await.assert_served();
    world.authorization(&good).await.assert_served();
    world.authorization("Basic YTpi").await.assert_served();
    // Two values, while the layer reads another header.
    let elsewhere = world.builder().optional();
    let elsewhere = elsewhere.sources([TokenSource::header("x-api-key")]);
    let elsewhere = elsewhere.build().unwrap();
    let request = get(&[b"Basic YTpi", b"Basic Yzpk"]);
    let reply = world.send_through(&elsewhere, request).await;
    reply.assert_served();
    let reached = world.reached.lock().unwrap();
    let values = |parts: &request::Parts| -> Vec<HeaderValue> {
        parts
            .headers
            .get_all(AUTHORIZATION)
            .iter()
            .cloned()
            .collect()
    };
    let seen: Vec<_> = reached.iter().map(values).collect();
    assert_eq!(
        seen,
        [
            vec![good.as_str()],
            vec![good.as_str()],
            vec!["Basic YTpi"],
            vec!["Basic YTpi", "Basic Yzpk"],
        ]
    );
    assert!(seen.iter().flatten().all(HeaderValue::is_sensitive));
    assert!(!format!("{:?}", reached[0].headers).contains(GOOD));
}

/// 35
#[tokio::test]
async fn a_rejection_polls_no_body() {
    let world = World::new();
    for (name, request) in rejected() {
        let (mut parts, _) = request.into_parts();
        parts.method = Method::POST;
        let reply = world.send(Request::from_parts(parts, Untouchable)).await;
        assert!(reply.status.as_u16() >= 400, "{name}");
    }
}
