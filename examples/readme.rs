//! The program of the README: `DATABASE_URL=postgres://… cargo run -p examples --bin readme --features postgres`.
//!
//! A test compares it with the README. It expects a table
//! `tokens (id text, digest bytea, tenant_id text, revoked_at timestamptz)`.

#![allow(
    dead_code,
    reason = "the README shows more than one program would call"
)]

use std::error::Error;
use std::time::Duration;

use axum::{Extension, Router, routing::get};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, Lookup, RedisStore, TokenDigest, TokenRecord,
};
use tower_api_token_sqlx::ApiKeys;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let db = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;

    let cache = ApiTokenCache::builder(move |lookup| find_token(db.clone(), lookup)).build()?;
    let app = Router::new()
        .route("/whoami", get(whoami))
        .layer(ApiTokenLayer::new(cache.clone()));
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}

async fn keys(
    app: Router,
    database_url: String,
    redis_url: String,
) -> Result<Router, Box<dyn Error>> {
    let keys = ApiKeys::connect(&database_url).await?;
    let cache = keys.cache().store(RedisStore::new(&redis_url)?).build()?;
    let app = app.layer(ApiTokenLayer::new(cache));
    Ok(app)
}

async fn find_token(db: PgPool, lookup: Lookup) -> Result<Option<TokenRecord>, sqlx::Error> {
    let id: Option<String> =
        sqlx::query_scalar("SELECT id FROM tokens WHERE digest = $1 AND revoked_at IS NULL")
            .bind(lookup.digest().as_bytes().as_slice())
            .fetch_optional(&db)
            .await?;
    Ok(id.map(TokenRecord::new))
}

async fn whoami(Extension(token): Extension<CachedApiToken>) -> String {
    token.id().to_owned()
}

mod with_the_feature_axum {
    use tower_api_token::CachedApiToken;

    async fn whoami(token: CachedApiToken) -> String {
        token.id().to_owned()
    }
}

async fn revoke(
    db: PgPool,
    cache: ApiTokenCache,
    digest: TokenDigest,
) -> Result<(), Box<dyn Error>> {
    sqlx::query("UPDATE tokens SET revoked_at = now() WHERE digest = $1")
        .bind(digest.as_bytes().as_slice())
        .execute(&db)
        .await?;
    // This instance rejects the token now, others within `max_staleness` (1 s). Repeated until it is confirmed.
    let invalidation = cache.invalidate_digest(digest);
    invalidation.retry_for(Duration::from_secs(30)).await?;
    // For records with `.tenant_id("t-42")`: returns when every instance answers from the changed data.
    cache
        .invalidate_tenant("t-42")
        .wait_for_all_instances()
        .await?;
    Ok(())
}
