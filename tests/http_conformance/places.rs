//! Lines 12, 14 to 16, 28 and 34: places that the token can be in, beside the table.

use axum::Router;
use axum::extract::OriginalUri;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty};
use tower::{Layer, Service, ServiceExt};
use tower_api_token::{ApiTokenLayer, TokenSource};

use crate::world::*;

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
async fn whatever_the_token_is_in_is_marked_as_sensitive_and_nothing_else_is() {
    let world = World::new().layer(|layer| {
        layer.optional().with_sources([
            TokenSource::header("x-api-key"),
            TokenSource::cookie("token"),
        ])
    });
    let token = format!("token={GOOD}");
    for headers in [
        // Loaded, and from memory.
        &[("x-api-key", GOOD), ("cookie", "a=1")][..],
        &[("x-api-key", GOOD)],
        // In two lines, of which either may have it.
        &[("cookie", "a=1"), ("cookie", &token)],
        &[("authorization", "Bearer other-0123456789")],
    ] {
        let mut request = ask("/", headers);
        let other = HeaderValue::from_static("other");
        request.headers_mut().insert("x-other", other);
        world.send(request).await.assert_served();
    }
    let mut preflight = preflight();
    for (name, value) in [
        ("x-api-key", "one"),
        ("x-api-key", "two"),
        ("cookie", "a=1"),
    ] {
        let value = HeaderValue::from_static(value);
        preflight.headers_mut().append(name, value);
    }
    world.send(preflight).await.assert_served();
    for parts in &*world.reached.lock().unwrap() {
        for (name, value) in &parts.headers {
            let credential = *name == "x-api-key" || name == COOKIE || name == AUTHORIZATION;
            assert_eq!(value.is_sensitive(), credential, "{name}");
        }
        let printed = format!("{:?}", parts.headers);
        assert!(!printed.contains(GOOD), "{printed}");
    }
}

/// 28: what is left of a line that was marked stays so.
#[tokio::test]
async fn cookies_that_stay_when_the_token_is_removed_stay_sensitive() {
    let world = World::new().layer(|layer| {
        let layer = layer.with_source(TokenSource::cookie("token"));
        layer.without_credentials()
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

/// 14: the rest of an absolute URI stays too.
#[tokio::test]
async fn of_an_absolute_uri_only_the_parameter_is_removed() {
    let source = TokenSource::query("access_token");
    let world = World::new().layer(|layer| layer.with_source(source));
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

/// 14, and what the documentation warns of: axum copies the URI before a layer of its router is called.
#[tokio::test]
async fn axums_original_uri_is_without_the_token_only_with_the_layer_around_the_router() {
    async fn handler(OriginalUri(original): OriginalUri, uri: Uri) -> String {
        format!("{original} {uri}")
    }
    let source = TokenSource::query("access_token");
    let layer = World::new().layer(|layer| layer.with_source(source)).layer;
    let router = Router::new().route("/", axum::routing::get(handler));
    let around = original_uri(layer.layer(router.clone())).await;
    assert_eq!(around, "/?b=1 /?b=1");
    let inside = original_uri(router.layer(layer)).await;
    assert_eq!(inside, format!("/?b=1&access_token={GOOD} /?b=1"));
}

/// 28, 21: of two layers the inner one finds what the outer one leaves.
#[tokio::test]
async fn a_layer_inside_of_one_that_removes_the_credential_finds_none() {
    let world = World::new();
    let outer =
        |layer: ApiTokenLayer| layer.layer(world.layer.layer(tower::service_fn(world.inner())));
    let kept = outer(ApiTokenLayer::new(world.cache.clone()).with_scope("app"));
    Reply::read(kept.oneshot(bearer(GOOD)).await.unwrap())
        .await
        .assert_served();
    let removed = ApiTokenLayer::new(world.cache.clone()).with_scope("app");
    let removed = outer(removed.without_credentials());
    let reply = Reply::read(removed.oneshot(bearer(GOOD)).await.unwrap()).await;
    reply.assert_refused(401, BARE);
}

#[test]
fn what_is_no_name_is_an_error_from_a_configuration() {
    for bad in ["", "a b", "é", "a:b", "authorization", "Cookie"] {
        assert!(TokenSource::try_header(bad).is_err(), "{bad:?}");
    }
    for bad in ["", "a b", "a=b", "a;b", "é", "\"a\""] {
        assert!(TokenSource::try_cookie(bad).is_err(), "{bad:?}");
        let scheme = TokenSource::authorization().try_with_scheme(bad);
        assert!(scheme.is_err(), "{bad:?}");
    }
    assert!(TokenSource::try_query("").is_err());
    for good in ["x-api-key", "X-API-KEY"] {
        assert_eq!(
            TokenSource::try_header(good),
            Ok(TokenSource::header("x-api-key"))
        );
    }
    assert!(TokenSource::try_cookie("__Host-token").is_ok());
    assert!(TokenSource::try_query("api key").is_ok());
    for nowhere in [TokenSource::cookie("a"), TokenSource::query("a")] {
        assert!(nowhere.try_with_scheme("Token").is_err());
    }
}

#[test]
fn what_is_no_name_panics_where_the_program_writes_it() {
    let panics = |make: fn() -> TokenSource| std::panic::catch_unwind(make).is_err();
    assert!(panics(|| TokenSource::header("a b")));
    assert!(panics(|| TokenSource::cookie("a b")));
    assert!(panics(|| TokenSource::query("")));
    assert!(panics(|| TokenSource::authorization().with_scheme("a b")));
    assert!(!panics(|| TokenSource::header("a").with_scheme("b")));
}

/// 12: which would make every request ambiguous, or none be looked at.
#[test]
fn no_place_and_a_place_twice_are_an_error() {
    let layer = World::new().layer;
    let refuses = |sources: &[TokenSource]| {
        let sources = sources.iter().cloned();
        layer.clone().try_with_sources(sources).is_err()
    };
    assert!(refuses(&[]));
    let (authorization, header) = (TokenSource::authorization(), TokenSource::header("x-a"));
    assert!(refuses(&[authorization.clone(), authorization.clone()]));
    assert!(refuses(&[
        authorization.clone(),
        authorization.clone().with_scheme("bearer")
    ]));
    assert!(refuses(&[
        header.clone(),
        header.clone().with_scheme("Token")
    ]));
    assert!(refuses(&[
        TokenSource::query("a"),
        header.clone(),
        TokenSource::query("a")
    ]));
    assert!(!refuses(&[
        authorization.clone().with_scheme("Token"),
        authorization,
        header
    ]));
    assert!(!refuses(&[
        TokenSource::cookie("a"),
        TokenSource::query("a")
    ]));
}

/// 38
#[test]
fn what_no_challenge_can_say_is_an_error() {
    let layer = || World::new().layer;
    for bad in ["", "a\nb", "a\tb", "é"] {
        assert!(layer().try_with_realm(bad).is_err(), "{bad:?}");
    }
    assert!(layer().try_with_realm(r#"a "b\c""#).is_ok());
    for bad in ["", "a  b", "a\"b", "a\nb", "é"] {
        assert!(layer().try_with_challenge_scope(bad).is_err(), "{bad:?}");
    }
    for bad in [
        "",
        "/path",
        "api.example.org",
        "ftp://h/a",
        "https://h/a b",
        "https://h/a\"b",
        "https://h/é",
        "https:///a",
    ] {
        assert!(layer().try_with_resource_metadata(bad).is_err(), "{bad:?}");
    }
    for good in ["https://h/.well-known/a?b=c", "http://127.0.0.1:1/a"] {
        assert!(layer().try_with_resource_metadata(good).is_ok(), "{good:?}");
    }
}
