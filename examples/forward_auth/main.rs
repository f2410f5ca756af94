//! Forward authentication: a proxy asks this program about each request, and passes the request on or refuses it as
//! the answer says. The service behind the proxy gets headers that say whose request it is.
//!
//! `DATABASE_URL=postgres://… cargo run -p examples --bin forward_auth --features forward-auth`. The guide
//! `docs/forward-auth.md` has the settings of nginx, Caddy, HAProxy, Traefik and Envoy, and the variables.
//!
//! * Method and path of a request do not matter, and no body is read (`answer.rs`).
//! * The table of tokens is `tokens.sql`, and `tokens.rs` reads it: replace both by your own.
//! * A change of a token or a tenant only has to be committed. A trigger records the invalidation with the change, and
//!   this program performs it (`invalidations.rs`).

mod answer;
mod config;
mod invalidations;
mod serve;
mod tokens;

use std::error::Error;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower_api_token::{ApiTokenCache, RedisStore};

use crate::answer::Verifier;
use crate::config::Config;

/// Shorter than the cache's load timeout of 3 seconds, so that the log names this cause.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

fn cache(database: PgPool, config: &Config) -> Result<ApiTokenCache, Box<dyn Error>> {
    let loader = move |lookup| tokens::load(database.clone(), lookup);
    let mut builder = ApiTokenCache::builder(loader);
    if let Some(url) = &config.redis_url {
        let store = RedisStore::new(url).map_err(|error| format!("REDIS_URL: {error}"))?;
        builder = builder.store(store);
    }
    Ok(builder.build()?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::from_environment()?;
    // Lazily: while the database is away, this program starts and refuses, rather than being away too.
    let pool = PgPoolOptions::new().acquire_timeout(CONNECT_TIMEOUT);
    let database = pool.connect_lazy(&config.database_url);
    let database = database.map_err(|error| format!("DATABASE_URL: {error}"))?;
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let cache = cache(database.clone(), &config)?;
    let verifier = Verifier::new(cache.clone(), config.rules)?;
    tokio::spawn(invalidations::work_off(database, cache));

    let mut terminate = signal(SignalKind::terminate())?;
    println!("listening on http://{address}");
    serve::serve(listener, verifier, async move {
        terminate.recv().await;
    })
    .await;
    Ok(())
}
