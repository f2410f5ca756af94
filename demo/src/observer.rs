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
        is_new.then_some(Observed { observed, digest })
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
    let (state, token, cache) = (Arc::clone(state), token.clone(), observer.cache.clone());
    tokio::spawn(async move {
        let _observed = observed;
        let (text, token_type) = (token.token().expose(), token.token_type());
        let answer = cache.authenticate_typed(text, token_type.unwrap_or_default());
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
