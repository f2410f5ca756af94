//! Two types of tokens, two routers, one cache: `cargo run -p examples --bin token_types`.
//!
//! A layer accepts tokens of one *type*, and rejects those of the other type like unknown ones (401). The
//! loader does not compare types: the cache compares that of the record on each request.
//!
//! `ApiTokenLayerBuilder::policy` decides what a valid token may do.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, BearerToken, CachedApiToken, ConfigError, Lookup, TokenDigest,
    TokenFormat, TokenRecord,
};

/// The types of tokens. The cache declares them, so that a layer with a misspelt type is an error at start.
const TYPES: [&str; 2] = ["app", "dataset"];

async fn whoami(token: CachedApiToken) -> String {
    format!(
        "{}, of type {}\n",
        token.id(),
        token.token_type().unwrap_or("none")
    )
}

fn app(cache: &ApiTokenCache) -> Result<Router, ConfigError> {
    let layer = |token_type| {
        ApiTokenLayer::builder(cache.clone())
            .token_type(token_type)
            .build()
    };
    let chat = Router::new()
        .route("/whoami", get(whoami))
        .layer(layer("app")?);
    let datasets = Router::new()
        .route("/whoami", get(whoami))
        .layer(layer("dataset")?);
    Ok(Router::new()
        .nest("/chat", chat)
        .nest("/datasets", datasets)
        // Outside of both layers, so it is public.
        .route("/health", get(async || "ok\n")))
}

/// The id and type of each token by its digest. In a service: a table with a unique column `digest`.
type Table = HashMap<TokenDigest, (String, &'static str)>;

fn cache(table: Table) -> Result<ApiTokenCache, ConfigError> {
    let table = Arc::new(table);
    let loader = move |lookup: Lookup| {
        let row = table.get(&lookup.digest()).cloned();
        async move { Ok::<_, Infallible>(row.map(|(id, kind)| TokenRecord::new(id).token_type(kind))) }
    };
    ApiTokenCache::builder(loader).token_types(TYPES).build()
}

/// Generates a token of each type. The prefix shows what a leaked token gives access to.
fn issue() -> Result<(Table, Vec<BearerToken>), Box<dyn Error>> {
    let (mut table, mut tokens) = (Table::new(), Vec::new());
    for kind in TYPES {
        let token = TokenFormat::new(&format!("demo_{kind}_"))?.generate()?;
        table.insert(token.digest(), (format!("tok-{kind}"), kind));
        tokens.push(token);
    }
    Ok((table, tokens))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (table, tokens) = issue()?;
    let app = app(&cache(table)?)?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    for (token, path) in tokens.iter().zip(["chat", "datasets"]) {
        let token = token.expose();
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/{path}/whoami");
    }
    println!("listening on http://{address}");
    axum::serve(listener, app).await?;
    Ok(())
}
