//! Optional authentication: `cargo run -p examples --bin optional`.
//!
//! `.optional()` lets requests *without* a credential pass, and the handler takes an
//! `Option<CachedApiToken>`. A credential that is sent must still be valid: a client whose token was revoked
//! gets a 401, and does not silently become anonymous.

use std::convert::Infallible;
use std::error::Error;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, TokenDigest, TokenFormat,
    TokenRecord,
};

/// Responds with the price list, which has the caller's own prices for clients with a token.
async fn prices(caller: Option<CachedApiToken>) -> String {
    match caller {
        Some(token) => format!("prices for {}\n", token.id()),
        None => "list prices\n".to_owned(),
    }
}

/// Builds the router. Routes that need a token have a layer that requires one: behind an optional layer, a
/// handler that takes a plain `CachedApiToken` answers anonymous clients with 500.
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

/// Builds the cache. In a service `known` is a table, and the loader a query by `lookup.digest()`.
fn cache(known: TokenDigest) -> Result<ApiTokenCache, ConfigError> {
    let loader = move |lookup: Lookup| async move {
        let found = lookup.digest() == known;
        Ok::<_, Infallible>(found.then(|| TokenRecord::new("tok-1").token_type("app")))
    };
    ApiTokenCache::builder(loader).token_types(["app"]).build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Generated at each start.
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
