//! Typed metadata: `cargo run -p examples --bin metadata`.
//!
//! The loader returns a token's plan, which is cached with the token, also in Redis with `REDIS_URL`. The
//! metadata of a record can have any type that serde can serialize. The layer and the extractor pass it on as
//! `CachedApiToken<Plan>`, so a handler needs no second query.
//!
//! At the end are tests of a handler and of the whole router, without a loader (feature `test-util`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use axum::extract::Path;
use axum::routing::get;
use axum::{Router, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, RedisStore, TokenDigest,
    TokenFormat, TokenRecord,
};

/// The plan of a token. Redis stores it as JSON. Fields that are added later need a default, so that entries
/// of the previous release can still be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    name: String,
    /// The maximum size of an export, in rows.
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

/// The records by the digests of their tokens. In a service: a query by `lookup.digest()`, joined with the
/// plans.
type Table = HashMap<TokenDigest, (&'static str, Plan)>;

async fn plan(token: CachedApiToken<Plan>) -> String {
    let Plan { name, max_rows, .. } = token.metadata();
    format!("{} is on {name}: {max_rows} rows\n", token.id())
}

/// Uses the cached plan, without a second query.
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

fn cache(table: Table, redis_url: Option<&str>) -> Result<ApiTokenCache<Plan>, ConfigError> {
    let table = Arc::new(table);
    let loader = move |lookup: Lookup| {
        let row = table.get(&lookup.digest()).cloned();
        let record = row.map(|(id, plan)| TokenRecord::new(id).token_type("app").metadata(plan));
        async { Ok::<_, Infallible>(record) }
    };
    let mut builder = ApiTokenCache::builder(loader).token_types(["app"]);
    if let Some(url) = redis_url {
        builder = builder.store(RedisStore::new(url)?);
    }
    builder.build()
}

fn app(cache: ApiTokenCache<Plan>) -> Result<Router, ConfigError> {
    let layer = ApiTokenLayer::builder(cache).token_type("app").build()?;
    Ok(Router::new()
        .route("/plan", get(plan))
        .route("/export/{rows}", get(export))
        .layer(layer))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let redis_url = std::env::var("REDIS_URL").ok();
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;

    let format = TokenFormat::from_static("demo_");
    let mut table = Table::new();
    for (id, plan) in [
        ("tok-1", Plan::new("free", 100)),
        ("tok-2", Plan::new("team", 100_000)),
    ] {
        // Generated at each start.
        let token = format.generate()?;
        table.insert(token.digest(), (id, plan));
        let token = token.expose();
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/export/5000");
    }
    println!("listening on http://{address}");
    let cache = cache(table, redis_url.as_deref())?;
    axum::serve(listener, app(cache)?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;
    use tower_api_token::test_util::{fixed_cache, verified};

    use super::*;

    fn free() -> TokenRecord<Plan> {
        TokenRecord::new("tok-1")
            .token_type("app")
            .metadata(Plan::new("free", 100))
    }

    #[tokio::test]
    async fn an_export_is_as_large_as_the_plan_allows() {
        let rows = async |rows| export(verified(free()), Path(rows)).await;
        assert_eq!(rows(100).await.unwrap(), "100 rows for tok-1\n");
        assert_eq!(rows(101).await.unwrap_err().0, StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn only_tokens_of_the_routes_type_are_let_in() {
        let other = free().token_type("dataset");
        let cache = fixed_cache([
            ("app-0123456789abcdef", free()),
            ("app-fedcba9876543210", other),
        ]);
        let app = app(cache).unwrap();
        for (token, status) in [
            ("app-0123456789abcdef", StatusCode::OK),
            ("app-fedcba9876543210", StatusCode::UNAUTHORIZED),
            ("app-somebody-made-up", StatusCode::UNAUTHORIZED),
        ] {
            let request = Request::get("/plan").header("authorization", format!("Bearer {token}"));
            let request = request.body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{token}");
        }
    }
}
