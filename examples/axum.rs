//! The smallest service with axum: `cargo run -p examples --bin axum`.
//!
//! The loader finds a token by its digest. The layer wraps the whole router, so clients without a token cannot
//! find out which routes exist. A handler that takes a [`CachedApiToken`] knows its caller.

use std::convert::Infallible;

use axum::{Router, routing::get};
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, TokenFormat, TokenRecord,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Generated at each start. A service has a table of digests, and shows a token's text once.
    let token = TokenFormat::from_static("demo_").generate()?;
    let known = token.digest();
    let loader = move |lookup: Lookup| async move {
        // SELECT id, type FROM tokens WHERE digest = $1 AND revoked_at IS NULL
        let found = lookup.digest() == known;
        Ok::<_, Infallible>(found.then(|| TokenRecord::new("tok-1").token_type("app")))
    };
    let cache = ApiTokenCache::builder(loader)
        .token_types(["app"])
        .build()?;
    let app = Router::new()
        .route("/", get(whoami))
        .layer(ApiTokenLayer::builder(cache).token_type("app").build()?);

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    let (token, address) = (token.expose(), listener.local_addr()?);
    println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/");
    println!("listening on http://{address}");
    Ok(axum::serve(listener, app).await?)
}

async fn whoami(token: CachedApiToken) -> String {
    format!("{} ({})\n", token.id(), token.origin())
}
