//! Suspending tenants.

use tower_api_token_sqlx::{ChangeError, Error, KeyQuery, NewKey};

use crate::world::{World, answer, issue};

crate::on_both!(
    suspended_tenant_is_denied_until_it_is_resumed,
    unknown_tenant_is_not_suspended,
    concurrent_changes_of_one_tenant_all_succeed,
);

async fn suspended_tenant_is_denied_until_it_is_resumed(world: World) {
    let builder = world.builder().await.suspension_message("pay first");
    let keys = builder.build().await.unwrap();
    let cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    let other = keys.issue(NewKey::new("globex")).await.unwrap();
    for token in [&issued.token, &other.token] {
        assert_eq!(answer(&cache, token).await, "valid");
    }
    for _ in 0..2 {
        keys.suspend("acme").await.unwrap();
        assert_eq!(answer(&cache, &issued.token).await, "denied");
    }
    assert!(keys.is_suspended("acme").await.unwrap());
    assert_eq!(answer(&cache, &other.token).await, "valid");
    // A key that is created later is denied too.
    let later = issue(&keys).await;
    assert!(later.key.tenant_suspended);
    let answered = cache.authenticate(later.token.expose()).await.unwrap();
    let denied = answered.into_result().unwrap_err();
    assert_eq!(denied.detail(), "pay first");
    let listed = keys.list(KeyQuery::new()).await.unwrap().keys;
    let suspended = listed.iter().filter(|key| key.tenant_suspended);
    assert_eq!(suspended.count(), 2);

    keys.resume("acme").await.unwrap();
    assert_eq!(answer(&cache, &issued.token).await, "valid");
    assert_eq!(answer(&cache, &later.token).await, "valid");
    assert!(!keys.is_suspended("acme").await.unwrap());
}

async fn unknown_tenant_is_not_suspended(world: World) {
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    issue(&keys).await;
    for tenant in ["acmee", "", "\0"] {
        let error = keys.suspend(tenant).await.unwrap_err();
        let unknown = matches!(error, ChangeError::Failed(Error::UnknownTenant));
        assert!(unknown, "{tenant:?}: {error}");
    }
    // Never suspended, and resumed all the same.
    keys.resume("acme").await.unwrap();
}

async fn concurrent_changes_of_one_tenant_all_succeed(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    let changes: Vec<_> = (0..20)
        .map(|number| {
            let keys = keys.clone();
            tokio::spawn(async move {
                if number % 2 == 0 {
                    keys.suspend("acme").await.map(drop)
                } else {
                    keys.resume("acme").await.map(drop)
                }
            })
        })
        .collect();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    // Otherwise the row of the last commit would still exist.
    assert_eq!(keys.pending_count().await.unwrap(), 0);
    let suspended = keys.is_suspended("acme").await.unwrap();
    let expected = if suspended { "denied" } else { "valid" };
    assert_eq!(answer(&cache, &issued.token).await, expected);
}
