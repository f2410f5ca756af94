//! Tests of a service's part of the protocol.
//!
//! The crate's promises hold if the service keeps a few rules: commit a change, then invalidate it, repeat that until it
//! is `Ok`, and load what was committed. [`Contract`] takes the service's cache and its functions that change tokens, and
//! makes happen what breaks each rule. See [`Rule`].

mod stage;
mod violation;

use std::fmt;
use std::future::Future;
use std::time::Duration;

pub use violation::{Rule, Violation};

use crate::cache::{ApiTokenCache, ApiTokenCacheBuilder};
use crate::error::BoxError;
use crate::metrics::Origin;
use crate::token::BearerToken;
use crate::util::BoxFuture;
use stage::Stage;

/// How long a change may repeat an invalidation by itself while the store refuses it, by the real time.
const PATIENCE: Duration = Duration::from_secs(2);

type Done = Result<(), BoxError>;
type Create<M> = Box<
    dyn Fn(ApiTokenCache<M>) -> BoxFuture<'static, Result<BearerToken, BoxError>> + Send + Sync,
>;
type Change<M> =
    Box<dyn Fn(ApiTokenCache<M>, BearerToken) -> BoxFuture<'static, Done> + Send + Sync>;
type Recover<M> = Box<dyn Fn(ApiTokenCache<M>) -> BoxFuture<'static, Done> + Send + Sync>;

/// A test of a service's functions that change tokens, and of its loader.
///
/// Each function gets the cache, and returns `Ok` when the change is in force: committed, and its invalidation confirmed.
/// It is called several times, for new tokens, and
///
/// | what happens | rule |
/// |---|---|
/// | as soon as the invalidation is confirmed, another request loads the token | [`CommitBeforeInvalidation`](Rule::CommitBeforeInvalidation), [`LoadCommittedState`](Rule::LoadCommittedState) |
/// | after the change, the token is presented again | [`InvalidateAfterChange`](Rule::InvalidateAfterChange) |
/// | the store confirms no invalidation for a while | [`ReportUnconfirmed`](Rule::ReportUnconfirmed) |
/// | the process ends between the commit and the invalidation | [`RepeatUntilConfirmed`](Rule::RepeatUntilConfirmed) |
///
/// The kit sets the clock and the [sync points](super::SyncPoints) of the cache, so that waits of an invalidation
/// (`wait_for_all_instances`, `retry_for`) take no time. It needs a real database if the service's functions do, and uses
/// the store of the builder.
///
/// # Examples
///
/// ```
/// use std::collections::HashSet;
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use tower_api_token::test_util::contract::{Contract, Rule};
/// use tower_api_token::{ApiTokenCache, BoxError, Lookup, TokenDigest, TokenFormat, TokenRecord};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// // In a service: a database.
/// let table = Arc::new(Mutex::new(HashSet::<TokenDigest>::new()));
/// let rows = Arc::clone(&table);
/// let builder = ApiTokenCache::builder(move |lookup: Lookup| {
///     let found = rows.lock().unwrap().contains(&lookup.digest());
///     async move { Ok::<_, BoxError>(found.then(|| TokenRecord::new("tok-1"))) }
/// });
/// let (insert, remove) = (Arc::clone(&table), table);
///
/// let contract = Contract::new(builder)
///     .create(move |_| {
///         let table = Arc::clone(&insert);
///         async move {
///             let token = TokenFormat::from_static("acme_").generate()?;
///             table.lock().unwrap().insert(token.digest());
///             Ok(token)
///         }
///     })
///     .revoke(move |cache, token| {
///         remove.lock().unwrap().remove(&token.digest());
///         async move {
///             let invalidation = cache.invalidate_digest(token.digest());
///             invalidation.retry_for(Duration::from_secs(30)).await?;
///             Ok(())
///         }
///     });
/// contract.run().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a contract is tested by `run`"]
pub struct Contract<M> {
    builder: ApiTokenCacheBuilder<M>,
    create: Option<Create<M>>,
    revoke: Option<Change<M>>,
    suspend: Option<Change<M>>,
    recover: Option<Recover<M>>,
}

impl<M: Send + Sync + 'static> Contract<M> {
    /// Begins a contract for the cache that `builder` builds.
    pub fn new(builder: ApiTokenCacheBuilder<M>) -> Self {
        Self {
            builder,
            create: None,
            revoke: None,
            suspend: None,
            recover: None,
        }
    }

    /// Sets how the service creates a token. Each call creates another one, for [`suspend`](Self::suspend) of another
    /// tenant.
    pub fn create<F, Fut>(mut self, create: F) -> Self
    where
        F: Fn(ApiTokenCache<M>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<BearerToken, BoxError>> + Send + 'static,
    {
        self.create = Some(Box::new(move |cache| Box::pin(create(cache))));
        self
    }

    /// Sets how the service revokes a token. Defaults to not testing it.
    pub fn revoke<F, Fut>(mut self, revoke: F) -> Self
    where
        F: Fn(ApiTokenCache<M>, BearerToken) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.revoke = Some(Box::new(move |cache, token| Box::pin(revoke(cache, token))));
        self
    }

    /// Sets how the service suspends the tenant of a token. Defaults to not testing it.
    pub fn suspend<F, Fut>(mut self, suspend: F) -> Self
    where
        F: Fn(ApiTokenCache<M>, BearerToken) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.suspend = Some(Box::new(move |cache, token| {
            Box::pin(suspend(cache, token))
        }));
        self
    }

    /// Sets how the service performs what a crash left undone: one round of its outbox.
    ///
    /// Defaults to none: then the change itself is repeated after a crash, as an operator would.
    pub fn recover<F, Fut>(mut self, recover: F) -> Self
    where
        F: Fn(ApiTokenCache<M>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.recover = Some(Box::new(move |cache| Box::pin(recover(cache))));
        self
    }

    /// Tests the contract.
    ///
    /// # Errors
    /// Returns the first rule that is broken.
    ///
    /// # Panics
    /// Panics if the builder's settings are invalid, or without [`create`](Self::create) and one of the changes.
    pub async fn run(self) -> Result<(), Violation> {
        let create = self.create.expect("create is set");
        let changes = [("revoke", self.revoke), ("suspend", self.suspend)];
        assert!(changes.iter().any(|it| it.1.is_some()), "a change is set");
        let stage = Stage::new(self.builder);
        for (name, change) in changes {
            let Some(change) = change else { continue };
            let case = Case {
                stage: &stage,
                name,
                create: &create,
                change: &change,
                recover: self.recover.as_ref(),
            };
            case.takes_effect().await?;
            case.is_not_confirmed_while_the_store_fails().await?;
            case.survives_a_crash().await?;
        }
        Ok(())
    }
}

impl<M> fmt::Debug for Contract<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract").finish_non_exhaustive()
    }
}

/// The tests of one change.
struct Case<'a, M> {
    stage: &'a Stage<M>,
    name: &'static str,
    create: &'a Create<M>,
    change: &'a Change<M>,
    recover: Option<&'a Recover<M>>,
}

impl<M: Send + Sync + 'static> Case<'_, M> {
    fn violation(&self, rule: Rule, found: &'static str) -> Violation {
        Violation::new(rule, self.name, found)
    }

    fn change(&self, token: &BearerToken) -> BoxFuture<'static, Done> {
        (self.change)(self.stage.cache.clone(), token.clone())
    }

    /// Creates a token, and presents it, so that it is cached.
    async fn cached_token(&self) -> Result<BearerToken, Violation> {
        let failed = |found| Violation::new(Rule::Succeeds, "create", found);
        let created = (self.create)(self.stage.cache.clone()).await;
        let token = created.map_err(|error| failed("it failed").because(error))?;
        for _ in 0..2 {
            match self.stage.accepts(&token).await {
                Ok(Some(_)) => {}
                Ok(None) => return Err(failed("the new token is rejected")),
                Err(error) => return Err(failed("the loader failed").because(error)),
            }
        }
        Ok(token)
    }

    /// Checks that the cache refuses the token now.
    async fn refuses(
        &self,
        token: &BearerToken,
        rule: Rule,
        found: &'static str,
    ) -> Result<(), Violation> {
        match self.stage.accepts(token).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(self.violation(rule, found)),
            Err(error) => {
                let failed = self.violation(Rule::Succeeds, "the loader failed after it");
                Err(failed.because(error))
            }
        }
    }

    /// Without a fault, and with a request that comes as soon as the invalidation is confirmed.
    async fn takes_effect(&self) -> Result<(), Violation> {
        let (stage, token) = (self.stage, self.cached_token().await?);
        let before = stage.confirmed();
        stage.ask_at_invalidation(Some(&token));
        let changed = self.change(&token).await;
        let meanwhile = stage.answer_at_invalidation();
        stage.ask_at_invalidation(None);
        changed.map_err(|error| self.violation(Rule::Succeeds, "it failed").because(error))?;
        if stage.confirmed() == before {
            let found = "it returned `Ok`, and no invalidation was confirmed";
            return Err(self.violation(Rule::InvalidateAfterChange, found));
        }
        let still = stage.loader_accepts(&token).await.map_err(|error| {
            self.violation(Rule::Succeeds, "the loader failed after it")
                .because(error)
        })?;
        if still {
            let found = "it returned `Ok`, and the loader still returns the token as valid";
            return Err(self.violation(Rule::LoadCommittedState, found));
        }
        let early = "a request right after the invalidation loaded the token as valid, so that it is accepted from the cache (the same happens if the loader reads a replica)";
        match meanwhile {
            Some(Ok(Some(Origin::Loaded))) => {
                Err(self.violation(Rule::CommitBeforeInvalidation, early))
            }
            Some(Err(error)) => {
                let blocked = "the loader did not answer right after the invalidation: is the change's transaction still open?";
                let violation = self.violation(Rule::CommitBeforeInvalidation, blocked);
                Err(violation.because(error))
            }
            _ => {
                let found = "another token or tenant was invalidated: this token is accepted from the cache";
                self.refuses(&token, Rule::InvalidateAfterChange, found)
                    .await
            }
        }
    }

    /// While the store refuses, the change returns an error or does not return. Then it is repeated.
    async fn is_not_confirmed_while_the_store_fails(&self) -> Result<(), Violation> {
        let (stage, token) = (self.stage, self.cached_token().await?);
        stage.refuse(true);
        let mut changing = self.change(&token);
        let result = tokio::time::timeout(PATIENCE, &mut changing).await;
        stage.refuse(false);
        let repeated = match result {
            Ok(Ok(())) => {
                let found = "it returned `Ok`, although no invalidation was confirmed";
                return Err(self.violation(Rule::ReportUnconfirmed, found));
            }
            Ok(Err(_)) => self.change(&token).await,
            Err(_) => changing.await,
        };
        self.repeated(&token, repeated).await
    }

    /// The process ends before the invalidation. Then it is recovered, or the change is repeated.
    async fn survives_a_crash(&self) -> Result<(), Violation> {
        let (stage, token) = (self.stage, self.cached_token().await?);
        stage.begin_crash();
        let changing = self.change(&token);
        tokio::select! {
            biased;
            () = stage.crashed() => {}
            _ = changing => {
                stage.end_crash();
                let found = "it returned before its invalidation";
                return Err(self.violation(Rule::InvalidateAfterChange, found));
            }
        }
        stage.end_crash();
        let repeated = match self.recover {
            Some(recover) => recover(stage.cache.clone()).await,
            None => self.change(&token).await,
        };
        self.repeated(&token, repeated).await
    }

    async fn repeated(&self, token: &BearerToken, result: Done) -> Result<(), Violation> {
        let rule = Rule::RepeatUntilConfirmed;
        result.map_err(|error| {
            let found = "it failed once more when it was repeated";
            self.violation(rule, found).because(error)
        })?;
        let found = "it was repeated, and the token is still accepted from the cache";
        self.refuses(token, rule, found).await
    }
}
