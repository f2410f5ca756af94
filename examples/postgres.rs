//! Keys in PostgreSQL, by `tower-api-token-sqlx`:
//! `DATABASE_URL=postgres://… cargo run -p examples --bin postgres --features postgres`. With `REDIS_URL` several instances
//! share the cache, and a revocation by one takes effect on all.
//!
//! The crate creates its tables, has the loader, and invalidates what changes. `own_table` is for a table of your own.

use std::error::Error;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_api_token::{ApiTokenLayer, CachedApiToken, RedisStore};
use tower_api_token_sqlx::{ApiKeys, NewKey};

async fn whoami(token: CachedApiToken) -> String {
    let (id, tenant) = (token.id(), token.tenant_id().unwrap_or("nobody"));
    format!("{id} of {tenant} ({})\n", token.origin())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database_url = std::env::var("DATABASE_URL")
        .map_err(|_| "DATABASE_URL is not set: postgres://user@127.0.0.1/database")?;
    let keys = ApiKeys::connect(&database_url).await?;
    let mut cache = keys.cache();
    if let Ok(url) = std::env::var("REDIS_URL") {
        cache = cache.store(RedisStore::new(&url)?);
    }
    let layer = ApiTokenLayer::new(cache.build()?);
    let app = Router::new().route("/whoami", get(whoami)).layer(layer);

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let issued = keys.issue(NewKey::new("acme").name("a try")).await?;
    let token = issued.token.expose();
    println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/whoami");
    println!("listening on http://{address}");
    axum::serve(listener, app).await?;
    Ok(())
}
