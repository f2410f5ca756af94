//! Tests of the contract kit: each half of a service that breaks a rule is found, and a correct one passes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::redis;
use test_support::RedisServer;
use tower_api_token::store::KeyLayout;
use tower_api_token::test_util::contract::{Contract, Rule, Violation};
use tower_api_token::{
    ApiTokenCache, ApiTokenCacheBuilder, BearerToken, BoxError, Lookup, TokenDigest, TokenFormat,
    TokenRecord,
};

type Cache = ApiTokenCache;

#[derive(Default)]
struct Database {
    /// The tenants of tokens.
    tokens: Mutex<HashMap<TokenDigest, String>>,
    revoked: Mutex<HashSet<TokenDigest>>,
    suspended: Mutex<HashSet<String>>,
    outbox: Mutex<Vec<BearerToken>>,
}

impl Database {
    fn find(&self, digest: TokenDigest) -> Option<TokenRecord> {
        let tenant = self.tokens.lock().unwrap().get(&digest)?.clone();
        if self.revoked.lock().unwrap().contains(&digest) {
            return None;
        }
        let record = TokenRecord::new("tok-1")
            .token_type("app")
            .tenant_id(tenant.as_str());
        Some(if self.suspended.lock().unwrap().contains(&tenant) {
            record.denied("suspended")
        } else {
            record
        })
    }

    fn create(&self) -> BearerToken {
        let token = TokenFormat::from_static("acme_").generate().unwrap();
        let mut tokens = self.tokens.lock().unwrap();
        let tenant = format!("t-{}", tokens.len());
        tokens.insert(token.digest(), tenant);
        token
    }

    fn tenant(&self, token: &BearerToken) -> String {
        self.tokens.lock().unwrap()[&token.digest()].clone()
    }

    /// Commits a revocation. Returns whether it was none before.
    fn revoke(&self, token: &BearerToken) -> bool {
        self.revoked.lock().unwrap().insert(token.digest())
    }

    fn suspend(&self, token: &BearerToken) {
        let tenant = self.tenant(token);
        self.suspended.lock().unwrap().insert(tenant);
    }
}

fn builder(database: &Arc<Database>) -> ApiTokenCacheBuilder<()> {
    let database = Arc::clone(database);
    ApiTokenCache::builder(move |lookup: Lookup| {
        let found = database.find(lookup.digest());
        async { Ok::<_, BoxError>(found) }
    })
}

fn contract(database: &Arc<Database>, builder: ApiTokenCacheBuilder<()>) -> Contract<()> {
    let database = Arc::clone(database);
    Contract::new(builder).create(move |_| {
        let token = database.create();
        async { Ok(token) }
    })
}

/// Tests a half that revokes by `revoke`, with the in-memory store.
async fn revoking<Fut>(
    revoke: impl Fn(Arc<Database>, Cache, BearerToken) -> Fut + Send + Sync + 'static,
) -> Result<(), Violation>
where
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let database = Arc::<Database>::default();
    let contract = contract(&database, builder(&database));
    let revoke = move |cache, token| revoke(Arc::clone(&database), cache, token);
    contract.revoke(revoke).run().await
}

#[track_caller]
fn breaks(result: Result<(), Violation>, rule: Rule) {
    let violation = result.expect_err("a rule is broken");
    assert_eq!(violation.rule(), rule, "{violation}");
}

/// With each store, waits and repetitions, and with an outbox.
#[tokio::test]
async fn a_correct_half_passes() {
    let server = RedisServer::start();
    let dify = || {
        let store = redis(&server).key_layout(KeyLayout::dify());
        move |builder: ApiTokenCacheBuilder<()>| builder.store(store).token_types(["app"])
    };
    let shared = redis(&server);
    type Configure = Box<dyn FnOnce(ApiTokenCacheBuilder<()>) -> ApiTokenCacheBuilder<()>>;
    let configures: [Configure; 4] = [
        Box::new(|builder| builder),
        Box::new(move |builder| builder.store(shared)),
        Box::new(dify()),
        Box::new(|builder| builder.local_capacity(0)),
    ];
    for (nth, configure) in configures.into_iter().enumerate() {
        let database = Arc::<Database>::default();
        let (revoked, suspended, owed) = (database.clone(), database.clone(), database.clone());
        let contract = contract(&database, configure(builder(&database)))
            .revoke(move |cache, token| {
                revoked.revoke(&token);
                revoked.outbox.lock().unwrap().push(token.clone());
                async move {
                    let invalidation = cache.invalidate(token.expose());
                    let invalidation = invalidation.wait_for_all_instances();
                    invalidation.retry_for(Duration::from_secs(30)).await?;
                    Ok(())
                }
            })
            .suspend(move |cache, token| {
                suspended.suspend(&token);
                suspended.outbox.lock().unwrap().push(token.clone());
                let tenant = suspended.tenant(&token);
                async move {
                    // By hand, and for as long as it takes.
                    while cache.invalidate_tenant(&tenant).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Ok(())
                }
            });
        let contract = if nth == 0 {
            contract
        } else {
            contract.recover(move |cache| {
                let database = Arc::clone(&owed);
                async move {
                    let owed = std::mem::take(&mut *database.outbox.lock().unwrap());
                    for token in owed {
                        cache.invalidate(token.expose()).await?;
                        cache.invalidate_tenant(&database.tenant(&token)).await?;
                    }
                    Ok(())
                }
            })
        };
        if let Err(violation) = contract.run().await {
            panic!("{nth}: {violation}");
        }
    }
}

#[tokio::test]
async fn a_forgotten_invalidation_is_found() {
    let result = revoking(|database, _, token| async move {
        database.revoke(&token);
        Ok(())
    });
    breaks(result.await, Rule::InvalidateAfterChange);
    // The client is told before it is done.
    let result = revoking(|database, cache, token| async move {
        database.revoke(&token);
        tokio::spawn(async move { cache.invalidate(token.expose()).await });
        Ok(())
    });
    breaks(result.await, Rule::InvalidateAfterChange);
}

#[tokio::test]
async fn an_invalidation_of_another_token_is_found() {
    let result = revoking(|database, cache, token| async move {
        database.revoke(&token);
        // The digest of the digest, for example.
        let wrong = TokenDigest::of(&token.digest().to_string());
        cache.invalidate_digest(wrong).await?;
        Ok(())
    });
    breaks(result.await, Rule::InvalidateAfterChange);

    let database = Arc::<Database>::default();
    let suspended = Arc::clone(&database);
    let contract = contract(&database, builder(&database)).suspend(move |cache, token| {
        suspended.suspend(&token);
        async move {
            cache.invalidate_tenant("t-typo").await?;
            Ok(())
        }
    });
    breaks(contract.run().await, Rule::InvalidateAfterChange);
}

#[tokio::test]
async fn an_invalidation_before_the_commit_is_found() {
    let result = revoking(|database, cache, token| async move {
        cache.invalidate(token.expose()).await?;
        database.revoke(&token);
        Ok(())
    });
    breaks(result.await, Rule::CommitBeforeInvalidation);
}

#[tokio::test]
async fn a_swallowed_error_is_found() {
    let result = revoking(|database, cache, token| async move {
        database.revoke(&token);
        if let Err(error) = cache.invalidate(token.expose()).await {
            eprintln!("{error}");
        }
        Ok(())
    });
    breaks(result.await, Rule::ReportUnconfirmed);
}

/// What is revoked already is not invalidated again.
#[tokio::test]
async fn a_change_that_cannot_be_repeated_is_found() {
    let result = revoking(|database, cache, token| async move {
        if database.revoke(&token) {
            cache.invalidate(token.expose()).await?;
        }
        Ok(())
    });
    breaks(result.await, Rule::RepeatUntilConfirmed);
    // It repeats by itself, so that only a crash shows it.
    let result = revoking(|database, cache, token| async move {
        if database.revoke(&token) {
            while cache.invalidate(token.expose()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    });
    breaks(result.await, Rule::RepeatUntilConfirmed);
    let result = revoking(|database, cache, token| async move {
        if !database.revoke(&token) {
            return Err("there is no such token".into());
        }
        cache.invalidate(token.expose()).await?;
        Ok(())
    });
    breaks(result.await, Rule::RepeatUntilConfirmed);
}

/// The outbox's row is not committed with the change.
#[tokio::test]
async fn an_outbox_that_a_crash_leaves_empty_is_found() {
    let database = Arc::<Database>::default();
    let revoked = Arc::clone(&database);
    let contract = contract(&database, builder(&database))
        .revoke(move |cache, token| {
            revoked.revoke(&token);
            let database = Arc::clone(&revoked);
            async move {
                if let Err(error) = cache.invalidate(token.expose()).await {
                    database.outbox.lock().unwrap().push(token);
                    return Err(error.into());
                }
                Ok(())
            }
        })
        .recover(|_| async { Ok(()) });
    breaks(contract.run().await, Rule::RepeatUntilConfirmed);
}

/// A snapshot, a replica that lags, or a cache of the loader's own; or a commit that is missing.
#[tokio::test]
async fn a_loader_inside_an_old_snapshot_is_found() {
    let database = Arc::<Database>::default();
    let (live, snapshot) = (Arc::clone(&database), Mutex::new(HashMap::new()));
    let builder = ApiTokenCache::builder(move |lookup: Lookup| {
        let digest = lookup.digest();
        let mut snapshot = snapshot.lock().unwrap();
        let found = snapshot.entry(digest).or_insert_with(|| live.find(digest));
        let found = found.clone();
        async { Ok::<_, BoxError>(found) }
    });
    let revoked = Arc::clone(&database);
    let contract = contract(&database, builder).revoke(move |cache, token| {
        revoked.revoke(&token);
        async move {
            cache.invalidate(token.expose()).await?;
            Ok(())
        }
    });
    breaks(contract.run().await, Rule::LoadCommittedState);

    let result = revoking(|_, cache, token| async move {
        cache.invalidate(token.expose()).await?;
        Ok(())
    });
    breaks(result.await, Rule::LoadCommittedState);
}

#[tokio::test]
async fn a_change_that_fails_is_named_with_its_cause() {
    let result = revoking(|_, _, _| async { Err("no such table: tokens".into()) }).await;
    let violation = result.unwrap_err();
    assert_eq!(violation.rule(), Rule::Succeeds);
    let text = violation.to_string();
    assert!(
        text.starts_with("revoke: it failed.") && text.ends_with("no such table: tokens"),
        "{text}"
    );
    let database = Arc::<Database>::default();
    let contract = Contract::new(builder(&database))
        .create(|_| async { Ok(BearerToken::new("app-0123456789abcdef")) })
        .revoke(|_, _| async { Ok(()) });
    breaks(contract.run().await, Rule::Succeeds);
}
