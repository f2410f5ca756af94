//! Restrictions of managed services that no other module imitates. `docs/deployment.md` lists them all.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Cache, Db, Row, cached, found, grant, is_invalid, nothing_was_denied};
use test_support::RedisServer;
use tower_api_token::store::StoreErrorKind;
use tower_api_token::{Origin, RedisStore};

const TOKEN: &str = "app-0123456789abcdef";

/// Creates a cache that connects as the user of [`grant`].
fn cache(db: &Arc<Db>, server: &RedisServer, database: &str) -> Cache {
    let url = format!("redis://api:secret@{}{database}", server.addr());
    let store = RedisStore::new(&url).unwrap();
    // Longer than the defaults, so that a busy machine does not look like an outage.
    let store = store
        .response_timeout(Duration::from_secs(1))
        .connect_timeout(Duration::from_secs(2));
    let builder = db.cache().store(store).local_capacity(0);
    builder.token_types(["app"]).build().unwrap()
}

#[tokio::test]
async fn without_wait_all_works_but_waiting_for_replicas() {
    let server = RedisServer::start();
    grant(&server, &["-wait"]);
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = cache(&db, &server, "");
    cached(&cache, TOKEN).await;
    cache.check_store().await.unwrap();
    db.revoke(TOKEN);
    let invalidation = cache.invalidate(TOKEN).wait_for_replicas(0);
    invalidation.await.unwrap_err();
    // The deletion was done, and is not confirmed.
    assert_eq!(server.keys("api_token:token:*"), [""; 0]);
    assert!(is_invalid(&cache, TOKEN).await);
    cache.invalidate(TOKEN).await.unwrap();
}

#[tokio::test]
async fn without_select_only_a_url_with_a_database_fails() {
    let server = RedisServer::start();
    grant(&server, &["-select"]);
    let db = Db::with(TOKEN, Row::new("app"));
    let first = cache(&db, &server, "");
    cached(&first, TOKEN).await;
    first.check_store().await.unwrap();
    nothing_was_denied(&server);
    let second = cache(&db, &server, "/1");
    let error = second.check_store().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotConnected);
    assert_eq!(found(&second, TOKEN).await.origin(), Origin::Loaded);
}
