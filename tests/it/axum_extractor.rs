//! Tests of `CachedApiToken` as an axum extractor (http.md line 30).
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::{Request, StatusCode, header::WWW_AUTHENTICATE};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_api_token::middleware::Verification;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, ApiTokenLayerBuilder, CachedApiToken, Lookup, TokenFormat,
    TokenRecord,
};

const GOOD: &str = "app-0123456789abcdef";

#[derive(Debug, Clone, PartialEq)]
struct Plan(&'static str);

fn layer() -> ApiTokenLayer<Plan> {
    build(builder())
}

fn build(builder: ApiTokenLayerBuilder<Plan>) -> ApiTokenLayer<Plan> {
    builder.build().unwrap()
}

fn builder() -> ApiTokenLayerBuilder<Plan> {
    let loader = |lookup: Lookup| async move {
        let known = lookup.token().expose() == GOOD;
        let record = TokenRecord::new("tok-1")
            .token_type("app")
            .metadata(Plan("gold"));
        Ok::<_, Infallible>(known.then_some(record))
    };
    ApiTokenLayer::builder(ApiTokenCache::builder(loader).build().unwrap()).token_type("app")
}

fn router() -> Router {
    async fn required(token: CachedApiToken<Plan>) -> String {
        format!("{} {}", token.id(), token.metadata().0)
    }
    async fn optional(token: Option<CachedApiToken<Plan>>) -> String {
        token.map_or("anonymous".to_owned(), |token| token.id().to_owned())
    }
    async fn other_required(_: CachedApiToken<()>) -> &'static str {
        "somebody"
    }
    async fn other_optional(token: Option<CachedApiToken<()>>) -> String {
        format!("anonymous: {}", token.is_none())
    }
    Router::new()
        .route("/required", any(required))
        .route("/optional", any(optional))
        .route("/other/required", any(other_required))
        .route("/other/optional", any(other_optional))
}

async fn send(app: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.into()).unwrap())
}

fn request(path: &str, token: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::empty()).unwrap()
}

fn ok(text: &str) -> (StatusCode, String) {
    (StatusCode::OK, text.to_owned())
}

fn missing() -> (StatusCode, String) {
    let text = "no verified API token in the request: is ApiTokenLayer installed on this route, with the same metadata type?";
    (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
}

#[tokio::test]
async fn a_handler_gets_the_verified_token_with_its_metadata() {
    let app = router().layer(layer());
    // Loaded, then from memory.
    for _ in 0..2 {
        let reply = send(&app, request("/required", Some(GOOD))).await;
        assert_eq!(reply, ok("tok-1 gold"));
        let reply = send(&app, request("/optional", Some(GOOD))).await;
        assert_eq!(reply, ok("tok-1"));
    }
}

#[tokio::test]
async fn a_rejected_request_reaches_no_handler() {
    let required = router().layer(layer());
    let optional = router().layer(build(builder().optional()));
    for path in ["/required", "/optional"] {
        for app in [&required, &optional] {
            let (status, body) = send(app, request(path, Some("app-unknown"))).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(body.contains("not valid"), "{body}");
        }
        let (status, _) = send(&required, request(path, None)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn in_optional_mode_an_anonymous_request_is_none() {
    let app = router().layer(build(builder().optional()));
    let mut basic = request("/optional", None);
    let value = http::HeaderValue::from_static("Basic YTpi");
    basic.headers_mut().insert("authorization", value);
    for request in [request("/optional", None), basic] {
        assert_eq!(send(&app, request).await, ok("anonymous"));
    }
}

#[tokio::test]
async fn in_optional_mode_an_extractor_that_requires_a_token_fails() {
    let app = router().layer(build(builder().optional()));
    assert_eq!(send(&app, request("/required", None)).await, missing());
}

#[tokio::test]
async fn a_preflight_that_the_layer_let_pass_is_anonymous() {
    let app = router().layer(build(builder().allow_cors_preflight()));
    let mut preflight = request("/optional", None);
    *preflight.method_mut() = http::Method::OPTIONS;
    for name in ["origin", "access-control-request-method"] {
        let value = http::HeaderValue::from_static("x");
        preflight.headers_mut().insert(name, value);
    }
    assert_eq!(send(&app, preflight).await, ok("anonymous"));
}

#[tokio::test]
async fn without_the_layer_both_extractors_fail() {
    let app = router();
    for path in ["/required", "/optional"] {
        for token in [None, Some(GOOD)] {
            assert_eq!(send(&app, request(path, token)).await, missing(), "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_with_other_metadata_is_missing_not_anonymous() {
    for app in [
        router().layer(layer()),
        router().layer(build(builder().optional())),
    ] {
        for path in ["/other/required", "/other/optional"] {
            let reply = send(&app, request(path, Some(GOOD))).await;
            assert_eq!(reply, missing(), "{path}");
        }
    }
    let app = router().layer(build(builder().optional()));
    let reply = send(&app, request("/other/optional", None)).await;
    assert_eq!(reply, missing());
}

/// Of the format `acme_`.
const KEY: &str = "acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";
const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

#[tokio::test]
async fn extractors_tell_own_other_and_no_tokens_apart() {
    async fn which(verification: Verification) -> String {
        match verification {
            Verification::Verified(token) => format!("verified {}", token.id()),
            Verification::Unverified(other) => format!("other {}", other.token().expose()),
            Verification::Anonymous => "anonymous".to_owned(),
        }
    }
    async fn required(token: CachedApiToken) -> String {
        token.id().to_owned()
    }
    async fn optional(token: Option<CachedApiToken>) -> String {
        token.map_or("anonymous".to_owned(), |token| token.id().to_owned())
    }
    async fn of_another_layer(_: Verification<Plan>) -> &'static str {
        "somebody"
    }
    let routes = || {
        Router::new()
            .route("/which", any(which))
            .route("/required", any(required))
            .route("/optional", any(optional))
            .route("/of-another-layer", any(of_another_layer))
    };
    let loader = |lookup: Lookup| async move {
        let known = lookup.token().expose() == KEY;
        Ok::<_, Infallible>(known.then(|| TokenRecord::new("tok-1")))
    };
    let cache = ApiTokenCache::builder(loader).build().unwrap();
    let passing = || {
        ApiTokenLayer::builder(cache.clone())
            .token_format(TokenFormat::from_static("acme_"))
            .realm("shop")
            .pass_other_tokens()
    };
    let app = routes().layer(passing().optional().build().unwrap());
    let reply = async |path, token| send(&app, request(path, token)).await;
    assert_eq!(reply("/which", Some(KEY)).await, ok("verified tok-1"));
    let other = ok(&format!("other {JWT}"));
    assert_eq!(reply("/which", Some(JWT)).await, other);
    assert_eq!(reply("/which", None).await, ok("anonymous"));
    assert_eq!(reply("/required", Some(KEY)).await, ok("tok-1"));
    assert_eq!(reply("/optional", Some(KEY)).await, ok("tok-1"));
    assert_eq!(reply("/optional", None).await, ok("anonymous"));
    for token in [Some(KEY), Some(JWT), None] {
        assert_eq!(reply("/of-another-layer", token).await, missing());
    }
    assert_eq!(reply("/required", None).await, missing());
    // The extractors of a verified token answer another kind as the layer answers an invalid one.
    for path in ["/required", "/optional"] {
        let layered = |token| app.clone().oneshot(request(path, Some(token)));
        let refused = layered(JWT).await.unwrap();
        let invalid = layered("acme_unknown").await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(refused.headers(), invalid.headers());
        let challenge = r#"Bearer realm="shop", error="invalid_token""#;
        assert_eq!(refused.headers()[WWW_AUTHENTICATE], challenge);
        let body = async |response: axum::response::Response| {
            response.into_body().collect().await.unwrap().to_bytes()
        };
        assert_eq!(body(refused).await, body(invalid).await);
    }
    // A layer inside verifies what the one outside let pass, or finds the request anonymous.
    let strict = |source| {
        let layer = ApiTokenLayer::builder(cache.clone()).optional();
        layer.sources([source]).build().unwrap()
    };
    let key = tower_api_token::TokenSource::header("x-api-key");
    let app = routes()
        .layer(strict(key))
        .layer(passing().build().unwrap());
    let mut both = request("/which", Some(JWT));
    both.headers_mut().insert("x-api-key", KEY.parse().unwrap());
    assert_eq!(send(&app, both).await, ok("verified tok-1"));
    let one = request("/which", Some(JWT));
    assert_eq!(send(&app, one).await, ok("anonymous"));
}

#[tokio::test]
async fn an_error_type_of_the_service_is_the_response_to_a_rejection() {
    use axum::response::IntoResponse;
    struct AppError(tower_api_token::Rejection);
    impl IntoResponse for AppError {
        fn into_response(self) -> axum::response::Response {
            let kind = [("x-error", "authentication")];
            (kind, self.0.detail().to_owned()).into_response()
        }
    }
    let errors = builder().rejection_into_response(|rejection| AppError(rejection.clone()));
    let app = router().layer(build(errors));
    let refused = app.clone().oneshot(request("/required", None));
    let refused = refused.await.unwrap();
    // The type has no status of its own.
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers()["x-error"], "authentication");
    assert_eq!(refused.headers()["cache-control"], "no-store");
    assert_eq!(refused.headers()["content-length"], "25");
    assert_eq!(refused.headers()[WWW_AUTHENTICATE], r#"Bearer realm="api""#);
    let (status, body) = send(&app, request("/required", Some("app-unknown"))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body, "The API token is not valid.");
    // A status of its own is kept, and of a body what is there at once.
    let teapot = builder().rejection_into_response(|_| {
        let body = Body::new(NeverEnding(Some("at once")));
        (StatusCode::IM_A_TEAPOT, body)
    });
    let app = router().layer(build(teapot));
    let reply = send(&app, request("/required", None)).await;
    assert_eq!(reply, (StatusCode::IM_A_TEAPOT, "at once".to_owned()));
}

/// A body with a frame, after which nothing comes.
struct NeverEnding(Option<&'static str>);

impl http_body::Body for NeverEnding {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        match self.0.take() {
            Some(text) => Poll::Ready(Some(Ok(http_body::Frame::data(text.into())))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_route_outside_the_layer_is_not_covered_by_it() {
    async fn open(token: Option<CachedApiToken<Plan>>) -> String {
        format!("anonymous: {}", token.is_none())
    }
    let app = router().layer(layer()).route("/open", any(open));
    assert_eq!(send(&app, request("/open", Some(GOOD))).await, missing());
}
