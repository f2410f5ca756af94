//! Changes by users, who send ids that may be another tenant's.

use std::time::Duration;

use chrono::Utc;
use tower_api_token_sqlx::{ChangeError, Error, NewKey};

use crate::world::{World, answer, issue};

crate::on_both!(change_of_another_tenant_fails);

async fn change_of_another_tenant_fails(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    let id = &issued.key.id;
    let foreign = keys.revoke(id).of_tenant("globex").await.unwrap_err();
    assert!(matches!(foreign, ChangeError::Failed(Error::UnknownKey)));
    let foreign = keys.rotate(id, Duration::ZERO).of_tenant("globex").await;
    assert!(matches!(
        foreign.unwrap_err(),
        ChangeError::Failed(Error::UnknownKey)
    ));
    let foreign = keys.revoke_all("acme").of_tenant("globex").await;
    assert!(matches!(
        foreign.unwrap_err(),
        ChangeError::Failed(Error::UnknownTenant)
    ));
    let foreign = keys.issue(NewKey::new("acme")).of_tenant("globex").await;
    assert!(matches!(
        foreign.unwrap_err(),
        ChangeError::Failed(Error::UnknownTenant)
    ));
    let all = keys.purge(Utc::now()).of_tenant("acme").await.unwrap_err();
    assert!(matches!(all, ChangeError::Failed(Error::Invalid { .. })));
    assert_eq!(answer(&cache, &issued.token).await, "valid");

    keys.revoke(id).of_tenant("acme").await.unwrap();
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
    let other = issue(&keys).await;
    let all = keys.revoke_all("acme").of_tenant("acme").await.unwrap();
    assert_eq!(*all, 1);
    assert_eq!(answer(&cache, &other.token).await, "invalid");
}
