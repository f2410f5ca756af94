//! Tokens of an OAuth authorization server, which is asked about each one (RFC 7662):
//! `INTROSPECTION_URL=https://… CLIENT_ID=… CLIENT_SECRET=… AUDIENCE=… cargo run -p examples --bin introspection --features introspection`.
//!
//! * The loader sends the token in the body of a POST with this service's own credentials (`loader.rs`), and maps the
//!   answer to a record. `active: false` is an unknown token, 401. All else is an error, 503: an outage of the server,
//!   or a wrong secret of this service, never tells a client that its token is invalid.
//! * `exp` is kept, so that an entry never outlives its token. `sub` is the record's tenant, `client_id` its app.
//! * A token for another `aud`, or one that is bound to a key (`cnf`), is refused.
//! * While the server is away, tokens in the cache go on working until their entries end.
//!   [`stale_if_error`](tower_api_token::ApiTokenCacheBuilder::stale_if_error) would prolong that.
//!
//! **Revocations**: introspection without a cache sees one at the next request. Here an entry lives for 30 seconds
//! (`ttl`), and that is how long a revoked token may still be accepted, unless the authorization server tells this
//! service: by an event or a hook upon which it calls `cache.invalidate(&token)`, or `cache.invalidate_tenant(sub)` for
//! all tokens of a user. With Redis as the store one instance has to be told. Then `ttl` can be longer.
//!
//! A service needs TLS to the server: the feature `rustls` of `reqwest`.

mod loader;

use std::error::Error;
use std::str::FromStr;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError};
use tracing_subscriber::filter::LevelFilter;

use crate::loader::Introspection;

async fn orders(token: CachedApiToken) -> String {
    let (user, app) = (token.tenant_id(), token.app_id());
    let (user, app) = (user.unwrap_or("nobody"), app.unwrap_or("no client"));
    format!("orders of {user} for {app} ({})\n", token.origin())
}

fn app(cache: ApiTokenCache) -> Result<Router, ConfigError> {
    let layer = ApiTokenLayer::builder(cache)
        .require_scopes("orders:read")
        // JWTs are longer than most opaque tokens.
        .token_length(8..=4_096)
        .build()?;
    Ok(Router::new().route("/orders", get(orders)).layer(layer))
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let level = std::env::var("LOG").unwrap_or_else(|_| "warn".to_owned());
    let level = LevelFilter::from_str(&level)?;
    tracing_subscriber::fmt().with_max_level(level).init();
    let introspection = Introspection {
        endpoint: variable("INTROSPECTION_URL")?,
        client_id: variable("CLIENT_ID")?,
        client_secret: variable("CLIENT_SECRET")?,
        audience: variable("AUDIENCE")?,
        client: loader::client()?,
    };
    let cache = loader::cache(introspection).build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    println!("curl -i -H \"Authorization: Bearer $TOKEN\" http://{address}/orders");
    println!("listening on http://{address}");
    axum::serve(listener, app(cache)?).await?;
    Ok(())
}
