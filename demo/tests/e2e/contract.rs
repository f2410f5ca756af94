//! The demo's changes and its loader keep the rules that the cache's promises depend on.

use std::sync::Arc;

use demo::db::{Database as Pool, NewToken, Pending, TenantStatus, Timestamp};
use demo::loader;
use demo::outbox::Outbox;
use std::time::Duration;
use tower_api_token::test_util::contract::Contract;
use tower_api_token::{ApiTokenCache, BearerToken, BoxError, TokenFormat};

use super::server::Database;

async fn create(pool: &Pool, cache: ApiTokenCache) -> Result<BearerToken, BoxError> {
    let token = TokenFormat::from_static("demo_app_").generate()?;
    let (digest, tenant) = (token.digest(), format!("t-{}", token.digest()));
    pool.insert_tenant(&tenant, "one of many").await?;
    let row = NewToken {
        id: format!("tok_{digest}"),
        tenant_id: tenant,
        app_id: None,
        token_type: "app",
        digest,
        text: None,
        created_at: Timestamp::now(),
        expires_at: None,
    };
    let pending = pool.insert_token(&row).await;
    confirm(
        pool,
        cache,
        pending.map_err(|_| "the token was not inserted")?,
    )
    .await?;
    Ok(token)
}

async fn revoke(pool: &Pool, cache: ApiTokenCache, token: &BearerToken) -> Result<(), BoxError> {
    let id = format!("tok_{}", token.digest());
    let pending = pool.revoke_token(&id).await?.ok_or("no such token")?;
    confirm(pool, cache, pending).await
}

async fn suspend(pool: &Pool, cache: ApiTokenCache, token: &BearerToken) -> Result<(), BoxError> {
    let tenant = format!("t-{}", token.digest());
    let status = pool.set_tenant_status(&tenant, TenantStatus::Suspended);
    let pending = status.await?.ok_or("no such tenant")?;
    confirm(pool, cache, pending).await
}

async fn confirm(pool: &Pool, cache: ApiTokenCache, pending: Pending) -> Result<(), BoxError> {
    let outbox = Outbox::new(pool.clone(), cache);
    Ok(outbox.confirm(&pending, true).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_loader_keep_the_contract() {
    for database in [Database::sqlite(), Database::postgres()] {
        let pool = Arc::new(database.open().await);
        let rows = Arc::clone(&pool);
        let builder = ApiTokenCache::builder(move |lookup| {
            loader::load(Pool::clone(&rows), Duration::ZERO, lookup)
        });
        let (created, revoked, suspended) = (Arc::clone(&pool), Arc::clone(&pool), pool);
        let contract = Contract::new(builder)
            .create(move |cache| {
                let pool = Arc::clone(&created);
                async move { create(&pool, cache).await }
            })
            .revoke(move |cache, token| {
                let pool = Arc::clone(&revoked);
                async move { revoke(&pool, cache, &token).await }
            })
            .suspend(move |cache, token| {
                let pool = Arc::clone(&suspended);
                async move { suspend(&pool, cache, &token).await }
            });
        if let Err(violation) = contract.run().await {
            panic!("{violation}");
        }
    }
}
