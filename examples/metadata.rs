//! Typed metadata: the loader says what plan a token is on, the plan is cached with it, and a handler
//! decides by it. `cargo run --example metadata --features axum`; with `REDIS_URL` the plan lies in
//! Redis too.

use std::error::Error;

use axum::extract::Path;
use axum::routing::get;
use axum::{Router, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, RedisStore, TokenRecord,
    loader_fn,
};

const FREE: &str = "app-free-0123456789abcdef";
const TEAM: &str = "app-team-0123456789abcdef";

/// What the service wants to know of a token, beside who it is. JSON in Redis; what is added later
/// has a default, so that entries of the release before can still be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    name: String,
    /// The largest export, in rows.
    max_rows: u32,
    #[serde(default)]
    beta: bool,
}

impl Plan {
    fn new(name: &str, max_rows: u32) -> Self {
        Self {
            name: name.to_owned(),
            max_rows,
            beta: false,
        }
    }
}

/// The row's token and its plan. In a service: a query by `lookup.digest()`, joined with the plans.
async fn load(lookup: Lookup) -> Result<Option<TokenRecord<Plan>>, std::io::Error> {
    let (id, plan) = match lookup.token().expose() {
        FREE => ("tok-1", Plan::new("free", 100)),
        TEAM => ("tok-2", Plan::new("team", 100_000)),
        _ => return Ok(None),
    };
    Ok(Some(TokenRecord::new(id, "app").metadata(plan)))
}

async fn plan(token: CachedApiToken<Plan>) -> String {
    let Plan { name, max_rows, .. } = token.metadata();
    format!("{} is on {name}: {max_rows} rows\n", token.id())
}

/// Decided by what was cached: no second query.
async fn export(
    token: CachedApiToken<Plan>,
    Path(rows): Path<u32>,
) -> Result<String, (StatusCode, String)> {
    let plan = token.metadata();
    if rows > plan.max_rows {
        let detail = format!("the plan {} exports {} rows\n", plan.name, plan.max_rows);
        return Err((StatusCode::FORBIDDEN, detail));
    }
    Ok(format!("{rows} rows for {}\n", token.id()))
}

fn cache(redis_url: Option<&str>) -> Result<ApiTokenCache<Plan>, ConfigError> {
    let mut builder = ApiTokenCache::builder(loader_fn(load)).scopes(["app"]);
    if let Some(url) = redis_url {
        builder = builder.store(RedisStore::connect(url)?);
    }
    builder.build()
}

fn app(cache: ApiTokenCache<Plan>) -> Router {
    Router::new()
        .route("/plan", get(plan))
        .route("/export/{rows}", get(export))
        .layer(ApiTokenLayer::new(cache).with_scope("app"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let redis_url = std::env::var("REDIS_URL").ok();
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3002".to_owned());
    let listener = TcpListener::bind(&address).await?;
    let address = listener.local_addr()?;
    for token in [FREE, TEAM] {
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/export/5000");
    }
    axum::serve(listener, app(cache(redis_url.as_deref())?)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use test_support::RedisServer;
    use tower::ServiceExt;

    use super::*;

    async fn ask(app: &Router, path: &str, token: &str) -> (u16, String) {
        let request = Request::builder()
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn a_handler_decides_by_the_plan_from_loader_memory_and_redis() {
        let server = RedisServer::start();
        let first = cache(Some(&server.url())).unwrap();
        let second = cache(Some(&server.url())).unwrap();
        for cache in [cache(None).unwrap(), first, second.clone()] {
            let app = app(cache);
            for _ in 0..2 {
                let answer = ask(&app, "/export/5000", FREE).await;
                assert_eq!(answer, (403, "the plan free exports 100 rows\n".to_owned()));
                let answer = ask(&app, "/export/5000", TEAM).await;
                assert_eq!(answer, (200, "5000 rows for tok-2\n".to_owned()));
                let answer = ask(&app, "/plan", FREE).await;
                assert_eq!(answer, (200, "tok-1 is on free: 100 rows\n".to_owned()));
            }
            assert_eq!(ask(&app, "/plan", "app-unknown").await.0, 401);
        }
        assert_eq!(
            second.stats().loads,
            0,
            "the other instance's plans were read"
        );
    }
}
