//! Lines 12, 14 to 16, 28 and 34: other sources of a token, in addition to the table.

use axum::Router;
use axum::extract::OriginalUri;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty};
use tower::{Layer, Service, ServiceExt};
use tower_api_token::{ApiTokenLayerBuilder, TokenSource};

use crate::http_conformance::world::*;

fn ask(target: &str, headers: &[(&'static str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.parse().unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(*name, value);
    }
    request
}

/// 34
#[tokio::test]
async fn only_headers_that_may_hold_a_token_are_marked_sensitive() {
    let world = World::new().layer(|layer| {
        layer.optional().sources([
            TokenSource::header("x-api-key"),
            TokenSource::cookie("token"),
        ])
    });
    let token = format!("token={GOOD}");
    for headers in [
        // Loaded, then from memory.
        &[("x-api-key", GOOD), ("cookie", "a=1")][..],
        &[("x-api-key", GOOD)],
        // In two lines, either of which may hold the token.
        &[("cookie", "a=1"), ("cookie", &token)],
        &[("authorization", "Bearer other-0123456789")],
    ] {
        let mut request = ask("/", headers);
        let other = HeaderValue::from_static("other");
        request.headers_mut().insert("x-other", other);
        world.send(request).await.assert_served();
    }
    for parts in &*world.reached.lock().unwrap() {
        for (name, value) in &parts.headers {
            let credential = *name == "x-api-key" || name == COOKIE || name == AUTHORIZATION;
            assert_eq!(value.is_sensitive(), credential, "{name}");
        }
        let printed = format!("{:?}", parts.headers);
        assert!(!printed.contains(GOOD), "{printed}");
    }
}

/// 28: the rest of a line that was marked stays marked.
#[tokio::test]
async fn cookies_that_stay_when_the_token_is_removed_stay_sensitive() {
    let world = World::new().layer(|layer| {
        let layer = layer.sources([TokenSource::cookie("token")]);
        layer.strip_credentials()
    });
    let cookies = format!("session=1; token={GOOD}; b=2");
    world
        .send(ask("/", &[("cookie", &cookies)]))
        .await
        .assert_served();
    let reached = world.reached.lock().unwrap();
    let left = &reached[0].headers[COOKIE];
    assert_eq!(
        (left.to_str().unwrap(), left.is_sensitive()),
        ("session=1; b=2", true)
    );
}

/// 14: the rest of an absolute URI is kept.
#[tokio::test]
async fn only_the_parameter_of_an_absolute_uri_is_removed() {
    let source = TokenSource::query("access_token");
    let world = World::new().layer(|layer| layer.sources([source]));
    let target = format!("https://user@h:8443/a%20b?x=%41&access_token={GOOD}&y");
    world.send(ask(&target, &[])).await.assert_served();
    let expected: Uri = "https://user@h:8443/a%20b?x=%41&y".parse().unwrap();
    assert_eq!(world.reached.lock().unwrap()[0].uri, expected);
}

async fn original_uri<S>(service: S) -> String
where
    S: Service<Request<axum::body::Body>, Response: axum::response::IntoResponse>,
    S::Error: std::fmt::Debug,
{
    use axum::response::IntoResponse;
    let request = Request::get(format!("/?b=1&access_token={GOOD}"));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = service.oneshot(request).await.unwrap().into_response();
    let body = response.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().into()).unwrap()
}

/// 14: as the documentation warns, axum copies the URI before it calls a layer of its router.
#[tokio::test]
async fn axums_original_uri_is_clean_only_with_the_layer_around_it() {
    async fn handler(OriginalUri(original): OriginalUri, uri: Uri) -> String {
        format!("{original} {uri}")
    }
    let source = TokenSource::query("access_token");
    let layer = World::new().layer(|layer| layer.sources([source])).layer;
    let router = Router::new().route("/", axum::routing::get(handler));
    let around = original_uri(layer.layer(router.clone())).await;
    assert_eq!(around, "/?b=1 /?b=1");
    let inside = original_uri(router.layer(layer)).await;
    assert_eq!(inside, format!("/?b=1&access_token={GOOD} /?b=1"));
}

/// 28, 21: an inner layer finds only what the outer one leaves.
#[tokio::test]
async fn a_layer_inside_one_that_removes_the_credential_finds_none() {
    let world = World::new();
    let outer = |layer: ApiTokenLayerBuilder<()>| {
        let inner = world.layer.layer(tower::service_fn(world.inner()));
        layer.build().unwrap().layer(inner)
    };
    let kept = outer(world.builder());
    Reply::read(kept.oneshot(bearer(GOOD)).await.unwrap())
        .await
        .assert_served();
    let removed = outer(world.builder().strip_credentials());
    let reply = Reply::read(removed.oneshot(bearer(GOOD)).await.unwrap()).await;
    reply.assert_rejected(401, BARE);
}
