//! Another instance in this process, with which the live page compares: how soon it rejects a token that this one
//! revokes.
//!
//! It has a connection to Redis and a local level of its own, and shares nothing else with the instance that answers
//! requests. It does nothing while no page is open.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tower_api_token::{ApiTokenCache, CachedApiToken, TokenDigest};

use crate::routes::AppState;

/// How many tokens are observed at once.
const MAX_TOKENS: usize = 64;

/// How long a token is observed after a request with it: as long as the page's time line.
const PERIOD: Duration = Duration::from_secs(60);

/// The other instance, and the tokens that it observes.
#[derive(Debug)]
pub(crate) struct Observer {
    cache: ApiTokenCache,
    observed: Arc<Mutex<HashSet<TokenDigest>>>,
}

impl Observer {
    pub(crate) fn new(cache: ApiTokenCache) -> Self {
        Self {
            cache,
            observed: Arc::default(),
        }
    }

    /// Returns `None` if the token is observed already, or too many are.
    fn begin(&self, digest: TokenDigest) -> Option<Observed> {
        let observed = Arc::clone(&self.observed);
        let mut tokens = observed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = tokens.len() < MAX_TOKENS && tokens.insert(digest);
        drop(tokens);
        // Not `then_some`: a place that is dropped is free.
        is_new.then(|| Observed { observed, digest })
    }
}

/// A token's place among the observed ones, which is free when it is dropped.
struct Observed {
    observed: Arc<Mutex<HashSet<TokenDigest>>>,
    digest: TokenDigest,
}

impl Drop for Observed {
    fn drop(&mut self) {
        let tokens = self.observed.lock();
        tokens
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.digest);
    }
}

/// Looks a token of this instance up in the other one, and publishes how long after a change that one rejects it.
pub(crate) fn observe(state: &AppState, token: &CachedApiToken) {
    let Some(observer) = &state.observer else {
        return;
    };
    if !state.live.is_watched() {
        return;
    }
    let Some(observed) = observer.begin(token.token().digest()) else {
        return;
    };
    let (state, cache) = (Arc::clone(state), observer.cache.clone());
    let text = token.token().clone();
    let token_type = token.token_type().unwrap_or_default().to_owned();
    tokio::spawn(async move {
        let _observed = observed;
        let answer = cache.authenticate_typed(text.expose(), &token_type);
        let since = Instant::now();
        if let Ok(answer) = answer.await
            && let Some(held) = answer.valid()
            && tokio::time::timeout(PERIOD, held.revoked()).await.is_ok()
        {
            let (id, tenant_id) = (held.id(), held.tenant_id());
            state.live.rejected_elsewhere(since, id, tenant_id);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower_api_token::{Lookup, TokenRecord};

    use super::*;

    #[test]
    fn a_token_is_observed_once_at_a_time() {
        let cache =
            ApiTokenCache::builder(async |_: Lookup| Ok::<_, Infallible>(None::<TokenRecord>));
        let observer = Observer::new(cache.build().unwrap());
        let digest = TokenDigest::of("a token");
        let observed = observer.begin(digest).unwrap();
        for _ in 0..2 {
            assert!(observer.begin(digest).is_none());
        }
        drop(observed);
        let _again = observer.begin(digest).unwrap();
        let others: Vec<_> = (0..MAX_TOKENS)
            .filter_map(|n| observer.begin(TokenDigest::of(&n.to_string())))
            .collect();
        assert_eq!(others.len(), MAX_TOKENS - 1);
    }
}
