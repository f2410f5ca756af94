//! Changes at the same time, on PostgreSQL alone: SQLite has one writer at a time.

use std::time::Duration;

use chrono::Utc;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tower_api_token::{Answer, BearerToken, UnavailableKind};

use crate::world::{World, answer, eventually, issue};

/// Returns a pool of this world, whose tables are found without their schema.
async fn pool(world: &World) -> PgPool {
    let World::Postgres(server, schema) = world else {
        unreachable!()
    };
    let options: sqlx::postgres::PgConnectOptions = server.url().parse().unwrap();
    let options = options.options([("search_path", schema)]);
    PgPool::connect_with(options).await.unwrap()
}

/// Waits until a statement of this world waits for a lock.
async fn someone_waits(world: &World, pool: &PgPool) {
    let World::Postgres(_, schema) = world else {
        unreachable!()
    };
    eventually("a statement waits for a lock", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
        let count = sqlx::query_scalar::<_, i64>(waiting).bind(format!("%{schema}%"));
        count.fetch_one(pool).await.unwrap() > 0
    })
    .await;
}

/// Revokes a tenant's keys while another process has not committed a rotation, which sets these columns too. Returns how
/// many were revoked.
async fn revoke_during_a_rotation(set: &str) -> u64 {
    let world = World::postgres();
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let old = issue(&keys).await;
    let pool = pool(&world).await;
    let successor = BearerToken::new("the-text-of-the-successor-0123");
    let (id, digest) = (&old.key.id, successor.digest());
    let mut rotation = pool.begin().await.unwrap();
    for statement in [
        format!("UPDATE api_token_keys SET successor_id = 'key_x'{set} WHERE id = '{id}'"),
        format!(
            "INSERT INTO api_token_keys (id, tenant_id, digest, created_at) \
             VALUES ('key_x', 'acme', decode('{digest}', 'hex'), now())"
        ),
    ] {
        sqlx::query(&statement)
            .execute(&mut *rotation)
            .await
            .unwrap();
    }
    let revoking = tokio::spawn(keys.revoke_all("acme").into_future());
    someone_waits(&world, &pool).await;
    rotation.commit().await.unwrap();
    let revoked = revoking.await.unwrap().unwrap().into_inner();
    assert_eq!(answer(&cache, &old.token).await, "invalid");
    assert_eq!(answer(&cache, &successor).await, "invalid");
    revoked
}

#[tokio::test(flavor = "multi_thread")]
async fn successor_of_a_rotation_that_is_under_way_is_revoked_with_its_tenant() {
    assert_eq!(revoke_during_a_rotation("").await, 2);
}

/// The statement that waited for the rotated key revokes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn successor_of_a_rotation_without_overlap_is_revoked_with_its_tenant() {
    assert_eq!(revoke_during_a_rotation(", revoked_at = now()").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_keeps_a_key_whose_expiry_is_restored_meanwhile() {
    let world = World::postgres();
    let keys = world.keys().await;
    let id = issue(&keys).await.key.id;
    let pool = pool(&world).await;
    let expire = "UPDATE api_token_keys SET expires_at = now() - interval '1 hour'";
    sqlx::query(expire).execute(&pool).await.unwrap();
    let mut undoing = pool.begin().await.unwrap();
    let restore = "UPDATE api_token_keys SET expires_at = NULL";
    sqlx::query(restore).execute(&mut *undoing).await.unwrap();
    let ended_before = Utc::now() - Duration::from_secs(60);
    let purging = tokio::spawn(keys.purge(ended_before).into_future());
    someone_waits(&world, &pool).await;
    undoing.commit().await.unwrap();
    assert_eq!(*purging.await.unwrap().unwrap(), 0);
    assert!(keys.get(&id).await.unwrap().is_some());
}

/// So that a flood of unknown tokens cannot keep a revocation from the database.
#[tokio::test]
async fn loads_leave_half_of_the_pool() {
    let world = World::postgres();
    let keys = world.keys().await;
    let cache = keys.cache().max_queued_loads(0).build().unwrap();
    let pool = pool(&world).await;
    let mut lock = pool.begin().await.unwrap();
    let statement = "LOCK TABLE api_token_keys IN ACCESS EXCLUSIVE MODE";
    sqlx::query(statement).execute(&mut *lock).await.unwrap();
    let mut lookups = JoinSet::new();
    for number in 0..12 {
        let cache = cache.clone();
        let text = format!("an-invented-token-{number:020}");
        lookups.spawn(async move { cache.authenticate(&text).await });
    }
    for _ in 0..2 {
        let refused = lookups.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.kind(), UnavailableKind::Overloaded);
    }
    keys.database().check().await.expect("a connection is left");
    lock.rollback().await.unwrap();
    while let Some(answered) = lookups.join_next().await {
        assert!(matches!(answered.unwrap(), Ok(Answer::Invalid(_))));
    }
}
