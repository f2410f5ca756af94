//! The changes and the loader keep the rules that the cache's promises depend on, and the kit finds a half that is broken.

use tower_api_token::test_util::contract::{Contract, Rule};
use tower_api_token::{BearerToken, BoxError};
use tower_api_token_sqlx::{ApiKeys, ChangeError, NewKey};

use crate::world::World;

crate::on_both!(
    changes_and_loader_keep_the_contract,
    contract_finds_a_change_whose_error_is_ignored,
    contract_finds_an_outbox_that_is_not_worked,
);

/// Returns keys whose outbox is worked by the contract alone, so that no task mends what a change leaves undone.
async fn keys(world: &World) -> ApiKeys {
    let builder = world.builder().await.outbox_interval(None);
    builder.build().await.unwrap()
}

async fn create(keys: ApiKeys) -> Result<BearerToken, BoxError> {
    let tenant = format!("t-{:?}", std::time::Instant::now());
    let issued = keys.issue(NewKey::new(tenant)).await?.into_inner();
    Ok(issued.token)
}

async fn id_of(keys: &ApiKeys, token: &BearerToken) -> Result<String, BoxError> {
    let key = keys.find(token.digest()).await?.ok_or("no such key")?;
    Ok(key.id)
}

async fn tenant_of(keys: &ApiKeys, token: &BearerToken) -> Result<String, BoxError> {
    let key = keys.find(token.digest()).await?.ok_or("no such key")?;
    Ok(key.tenant_id)
}

/// Begins a contract for a cache of these keys, with an outbox that is worked if `recovers`.
fn contract(keys: &ApiKeys, recovers: bool) -> Contract<()> {
    let [created, recovered] = [(); 2].map(|()| keys.clone());
    Contract::new(keys.cache())
        .create(move |_| create(created.clone()))
        .recover(move |_| {
            let keys = recovered.clone();
            async move {
                if recovers {
                    keys.work_outbox().await?;
                }
                Ok(())
            }
        })
}

async fn changes_and_loader_keep_the_contract(world: World) {
    let keys = keys(&world).await;
    let [revoking, suspending] = [(); 2].map(|()| keys.clone());
    let contract = contract(&keys, true)
        .revoke(move |_, token| {
            let keys = revoking.clone();
            async move {
                keys.revoke(id_of(&keys, &token).await?).await?;
                Ok(())
            }
        })
        .suspend(move |_, token| {
            let keys = suspending.clone();
            async move {
                keys.suspend(tenant_of(&keys, &token).await?).await?;
                Ok(())
            }
        });
    if let Err(violation) = contract.run().await {
        panic!("{violation}");
    }
    let [all, rotating] = [(); 2].map(|()| keys.clone());
    let contract = self::contract(&keys, true)
        .revoke(move |_, token| {
            let keys = rotating.clone();
            async move {
                let id = id_of(&keys, &token).await?;
                match keys.rotate(id, std::time::Duration::ZERO).await {
                    // A rotation is not repeated: the outbox does what is left.
                    Err(ChangeError::Failed(_)) => Ok(keys.work_outbox().await.map(drop)?),
                    rotated => Ok(rotated.map(drop)?),
                }
            }
        })
        .suspend(move |_, token| {
            let keys = all.clone();
            async move {
                keys.revoke_all(tenant_of(&keys, &token).await?).await?;
                Ok(())
            }
        });
    if let Err(violation) = contract.run().await {
        panic!("{violation}");
    }
}

async fn contract_finds_a_change_whose_error_is_ignored(world: World) {
    let keys = keys(&world).await;
    let revoking = keys.clone();
    let contract = contract(&keys, true).revoke(move |_, token| {
        let keys = revoking.clone();
        async move {
            let _ = keys.revoke(id_of(&keys, &token).await?).await;
            Ok(())
        }
    });
    let violation = contract.run().await.expect_err("a rule is broken");
    assert_eq!(violation.rule(), Rule::ReportUnconfirmed, "{violation}");
}

async fn contract_finds_an_outbox_that_is_not_worked(world: World) {
    let keys = keys(&world).await;
    let revoking = keys.clone();
    let contract = contract(&keys, false).revoke(move |_, token| {
        let keys = revoking.clone();
        async move {
            keys.revoke(id_of(&keys, &token).await?).await?;
            Ok(())
        }
    });
    let violation = contract.run().await.expect_err("a rule is broken");
    assert_eq!(violation.rule(), Rule::RepeatUntilConfirmed, "{violation}");
}
