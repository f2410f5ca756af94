//! A loader on a table of your own in PostgreSQL, and changes with invalidations:
//! `DATABASE_URL=postgres://… cargo run -p examples --bin own_table --features postgres`. With `REDIS_URL`
//! several instances share the cache, and a revocation by one takes effect on all.
//!
//! * The table has the digest of each token, with a unique index. A dump of it contains no usable token.
//! * The loader is one statement, on the primary and outside of any transaction (`tokens.rs`).
//! * A change is committed first and then invalidated, in a task that outlives its request. The response is
//!   a success only after the invalidation was confirmed (`operator.rs`).
//! * An invalidation survives a crash between the commit and the confirmation: its row is committed with the change
//!   (`outbox.rs`).
//! * A test at the end holds all of this against the contract of `tower_api_token::test_util`.

mod operator;
mod outbox;
mod tokens;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::{Router, routing::get};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tower_api_token::{
    ApiTokenCache, ApiTokenCacheBuilder, ApiTokenLayer, BearerToken, CachedApiToken, ConfigError,
    RedisStore, TokenFormat,
};

/// The types of tokens: for users of the service, and for its operators.
const APP: &str = "app";
const OPERATOR: &str = "operator";

async fn whoami(token: CachedApiToken) -> String {
    let (id, tenant) = (token.id(), token.tenant_id().unwrap_or("nobody"));
    format!("{id} of {tenant} ({})\n", token.origin())
}

fn cache(
    database: PgPool,
    redis_url: Option<&str>,
) -> Result<ApiTokenCacheBuilder<()>, ConfigError> {
    let loader = move |lookup| tokens::load(database.clone(), lookup);
    let mut builder = ApiTokenCache::builder(loader).token_types([APP, OPERATOR]);
    if let Some(url) = redis_url {
        builder = builder.store(RedisStore::new(url)?);
    }
    Ok(builder)
}

fn app(database: PgPool, cache: ApiTokenCache) -> Result<Router, ConfigError> {
    let layer = |token_type| {
        ApiTokenLayer::builder(cache.clone())
            .token_type(token_type)
            .build()
    };
    let api = Router::new()
        .route("/whoami", get(whoami))
        .layer(layer(APP)?);
    let operator = operator::routes(database, cache.clone()).layer(layer(OPERATOR)?);
    Ok(Router::new().nest("/v1", api).nest("/operator", operator))
}

/// Tokens to try the example with, which are new at each start and valid for an hour.
struct Issued {
    app: BearerToken,
    app_id: String,
    operator: BearerToken,
}

async fn issue(database: &PgPool) -> Result<Issued, Box<dyn Error>> {
    tokens::add_tenant(database, "acme").await?;
    tokens::add_tenant(database, "us").await?;
    let app = TokenFormat::from_static("demo_app_").generate()?;
    let operator = TokenFormat::from_static("demo_operator_").generate()?;
    let app_id = tokens::add(database, "acme", APP, app.digest()).await?;
    tokens::add(database, "us", OPERATOR, operator.digest()).await?;
    Ok(Issued {
        app,
        app_id,
        operator,
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database_url = std::env::var("DATABASE_URL")
        .map_err(|_| "DATABASE_URL is not set: postgres://user@127.0.0.1/database")?;
    let redis_url = std::env::var("REDIS_URL").ok();

    // Shorter than the cache's load timeout of 3 seconds, so that the log names this cause.
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_secs(2));
    let database = pool.connect(&database_url).await?;
    tokens::migrate(&database).await?;
    let issued = issue(&database).await?;
    let cache = cache(database.clone(), redis_url.as_deref())?.build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    print_usage(&issued, listener.local_addr()?);
    tokio::spawn(outbox::work_off(database.clone(), cache.clone()));
    axum::serve(listener, app(database, cache)?).await?;
    Ok(())
}

fn print_usage(issued: &Issued, address: SocketAddr) {
    let (app, id, operator) = (
        issued.app.expose(),
        &issued.app_id,
        issued.operator.expose(),
    );
    println!("curl -i -H 'Authorization: Bearer {app}' http://{address}/v1/whoami");
    for change in [
        "tenants/acme/suspend",
        "tenants/acme/resume",
        &format!("tokens/{id}/revoke"),
    ] {
        let url = format!("http://{address}/operator/{change}");
        println!("curl -i -X POST -H 'Authorization: Bearer {operator}' {url}");
    }
    println!("listening on http://{address}");
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use test_support::{PostgresServer, RedisServer};
    use tower::ServiceExt as _;
    use tower_api_token::BoxError;
    use tower_api_token::test_util::contract::Contract;

    use super::*;

    /// Adds a token to a tenant of its own, whose name is the token's digest.
    async fn create(database: PgPool) -> Result<BearerToken, BoxError> {
        let token = TokenFormat::from_static("demo_app_").generate()?;
        let tenant = token.digest().to_string();
        tokens::add_tenant(&database, &tenant).await?;
        tokens::add(&database, &tenant, APP, token.digest()).await?;
        Ok(token)
    }

    /// Sends an operator's request.
    async fn post(database: PgPool, cache: ApiTokenCache, path: String) -> Result<(), BoxError> {
        let routes = operator::routes(database, cache);
        let response = routes
            .oneshot(Request::post(path).body(Body::empty())?)
            .await?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(()),
            status => Err(status.to_string().into()),
        }
    }

    #[tokio::test]
    async fn changes_and_loader_keep_the_contract() {
        let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
        let database = PgPool::connect(&postgres.url()).await.unwrap();
        tokens::migrate(&database).await.unwrap();
        let builder = cache(database.clone(), Some(&redis.url())).unwrap();
        let [created, revoked, suspended, owed] = [(); 4].map(|()| database.clone());
        let contract = Contract::new(builder)
            .create(move |_| create(created.clone()))
            .revoke(move |cache, token| {
                let database = revoked.clone();
                async move {
                    let id = sqlx::query_scalar("SELECT id FROM tokens WHERE digest = $1");
                    let id = id.bind(token.digest().as_bytes().to_vec());
                    let id: String = id.fetch_one(&database).await?;
                    post(database, cache, format!("/tokens/{id}/revoke")).await
                }
            })
            .suspend(move |cache, token| {
                let path = format!("/tenants/{}/suspend", token.digest());
                post(suspended.clone(), cache, path)
            })
            .recover(move |cache| {
                let database = owed.clone();
                async move { outbox::round(&database, &cache).await }
            });
        if let Err(violation) = contract.run().await {
            panic!("{violation}");
        }
    }
}
