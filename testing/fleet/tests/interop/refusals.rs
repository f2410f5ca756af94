//! Requests, from the header to the bytes of a rejection, as clients of both sides see them.

use crate::common::{APP, TOKEN, World};
use fleet::interop::database::Row;
use fleet::interop::python::Version;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_api_token::rejection::RequestHead;
use tower_api_token::{ApiTokenLayer, CachedApiToken, Rejection};

/// The response of the guide, for 401 only.
fn as_dify_rejects(rejection: &Rejection, _: &RequestHead<'_>) -> Response<String> {
    let message = match rejection {
        Rejection::MissingToken => "Authorization header must be provided and start with 'Bearer'",
        _ => "Access token is invalid",
    };
    let body = format!(
        "{{\"code\": \"unauthorized\", \"message\": {}, \"status\": 401}}\n",
        Value::from(message)
    );
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Returns our response to a request with this header, in the form of the Python program's.
async fn ours(world: &World, authorization: Option<&str>) -> Value {
    let layer = ApiTokenLayer::builder(world.rust())
        .token_type("app")
        .rejection_response(as_dify_rejects)
        .build()
        .unwrap();
    let service = layer.layer(tower::service_fn(async |request: Request<()>| {
        let token: &CachedApiToken = request.extensions().get().unwrap();
        Ok::<_, std::convert::Infallible>(Response::new(token.id().to_owned()))
    }));
    let mut request = Request::new(());
    if let Some(authorization) = authorization {
        let value = HeaderValue::from_str(authorization).unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let response = service.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    if head.status == StatusCode::OK {
        return json!({ "id": body });
    }
    assert_eq!(head.status, StatusCode::UNAUTHORIZED);
    assert_eq!(head.headers[CONTENT_TYPE], "application/json");
    let challenge = head.headers[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.starts_with("Bearer realm=\"api\""), "{challenge}");
    json!({ "refusal": body })
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_guides_rejection_a_401_is_byte_for_byte_difys() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::Current);
    let good = format!("Bearer {TOKEN}");
    for authorization in [
        None,
        Some("Bearer app-unknown-token"),
        Some("bearer app-unknown-token"),
        Some(good.as_str()),
    ] {
        // Our side first, so that Python reads what we wrote.
        let ours = ours(&world, authorization).await;
        python.start(&json!({ "do": "request", "authorization": authorization, "scope": APP }));
        let mut theirs = python.hear();
        if matches!(theirs, fleet::interop::python::Message::Query(_)) {
            // Python treats a null as a miss.
            python.answer(&Value::Null);
            theirs = python.hear();
        }
        let fleet::interop::python::Message::Done(theirs) = theirs else {
            panic!("{theirs:?}");
        };
        assert_eq!(ours, theirs, "{authorization:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_tabs_missing_tokens_and_other_schemes() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::Current);
    let tab = format!("Bearer\t{TOKEN}");
    for (authorization, their_part, our_part) in [
        (tab.as_str(), "tok-1", "Access token is invalid"),
        ("Bearer", "must be provided", "Access token is invalid"),
        ("Basic YTpi", "scheme must be", "must be provided"),
    ] {
        let ours = ours(&world, Some(authorization)).await;
        world.redis.flushall();
        python.set(APP, &crate::common::record("tok-1", TOKEN));
        let theirs = python
            .try_run(&json!({ "do": "request", "authorization": authorization, "scope": APP }))
            .unwrap();
        assert!(theirs.to_string().contains(their_part), "{theirs}");
        assert!(ours.to_string().contains(our_part), "{ours}");
    }
}
