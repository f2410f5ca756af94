//! A token is welcome and not required: `cargo run -p examples --bin optional`.
//!
//! What to take from it: `.optional()` lets a request *without* a credential pass, and the handler asks
//! for `Option<CachedApiToken>`. A credential that is presented still has to be good: a client whose
//! token was revoked is told so (401) and does not silently become a stranger.

use std::convert::Infallible;
use std::error::Error;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, TokenDigest, TokenFormat,
    TokenRecord,
};

/// The price list, and the caller's own prices for whoever says who they are.
async fn prices(caller: Option<CachedApiToken>) -> String {
    match caller {
        Some(token) => format!("prices for {}\n", token.id()),
        None => "list prices\n".to_owned(),
    }
}

/// A handler that takes a plain `CachedApiToken` below an optional layer answers a stranger with 500: a
/// mistake of the service, which shows. Routes that need a token get a layer that requires one.
fn app(cache: &ApiTokenCache) -> Result<Router, ConfigError> {
    let layer = || ApiTokenLayer::builder(cache.clone()).token_type("app");
    let open = Router::new()
        .route("/prices", get(prices))
        .layer(layer().optional().build()?);
    let closed = Router::new()
        .route("/orders", get(orders))
        .layer(layer().build()?);
    Ok(open.merge(closed))
}

async fn orders(token: CachedApiToken) -> String {
    format!("orders of {}\n", token.id())
}

/// In a service `known` is a table, and this is a query by `lookup.digest()`.
fn cache(known: TokenDigest) -> Result<ApiTokenCache, ConfigError> {
    let loader = move |lookup: Lookup| async move {
        let found = lookup.digest() == known;
        Ok::<_, Infallible>(found.then(|| TokenRecord::new("tok-1").token_type("app")))
    };
    ApiTokenCache::builder(loader).token_types(["app"]).build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A new one at each start.
    let token = TokenFormat::from_static("demo_").generate()?;
    let cache = cache(token.digest())?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let (token, address) = (token.expose(), listener.local_addr()?);
    println!("curl -i http://{address}/prices");
    println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/prices");
    println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/orders");
    println!("listening on http://{address}");
    axum::serve(listener, app(&cache)?).await?;
    Ok(())
}
