//! Limits for each token: `cargo run -p examples --bin limits --features limits`.
//!
//! The layer says who calls; counting is another crate's task, here `tower_governor`'s. Its layer is **inside**, where
//! the token is in the request's extensions, and counts by the token's id. One caller then slows down no other, and an
//! invented token costs nobody's share. Limits by address, against floods of such tokens, are outside.
//!
//! The counts are in this process's memory. Those of tokens that are no longer used stay there until
//! `config.limiter().retain_recent()` is called, for example by a task once a minute. Limits for several instances are
//! in Redis, where asking takes time: that is such a layer too, and not a policy, which must not wait.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::{Router, routing::get};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenDigest, TokenFormat, TokenRecord,
};
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

/// Counts by the token that the layer verified.
#[derive(Clone)]
struct ByToken;

impl KeyExtractor for ByToken {
    type Key = String;

    fn extract<T>(&self, request: &Request<T>) -> Result<String, GovernorError> {
        let token = request.extensions().get::<CachedApiToken>();
        let id = token.map(|token| token.id().to_owned());
        // Only if the layer is missing.
        id.ok_or(GovernorError::UnableToExtractKey)
    }
}

/// Creates the response to a caller that is too fast, like those of the layer.
fn too_many(error: GovernorError) -> Response<Body> {
    let GovernorError::TooManyRequests { wait_time, .. } = error else {
        return error.into_response().map(Body::from);
    };
    let body = json!({
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Too many requests with this API token.",
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, wait_time.max(1).into());
    let json = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, json);
    response
}

async fn whoami(token: CachedApiToken) -> String {
    format!("{}\n", token.id())
}

fn app(cache: ApiTokenCache) -> Result<Router, Box<dyn Error>> {
    // Two requests at once, and then one per minute.
    let config = GovernorConfigBuilder::default()
        .period(Duration::from_secs(60))
        .burst_size(2)
        .key_extractor(ByToken)
        .finish()
        .ok_or("a period and a burst above zero")?;
    let limits = GovernorLayer::new(Arc::new(config)).error_handler(too_many);
    Ok(Router::new()
        .route("/", get(whoami))
        .layer(limits)
        // Added later, so it is outside.
        .layer(ApiTokenLayer::new(cache)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let format = TokenFormat::from_static("demo_");
    let tokens = [format.generate()?, format.generate()?];
    let digests: [TokenDigest; 2] = [tokens[0].digest(), tokens[1].digest()];
    let cache = ApiTokenCache::builder(move |lookup: Lookup| {
        let at = digests.iter().position(|digest| *digest == lookup.digest());
        let record = at.map(|at| TokenRecord::new(format!("tok-{}", at + 1)));
        async { Ok::<_, Infallible>(record) }
    })
    .build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    for token in &tokens {
        let token = token.expose();
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/");
    }
    println!("listening on http://{address}");
    axum::serve(listener, app(cache)?).await?;
    Ok(())
}
