//! Tokens that are all good, of no tenant.

use std::convert::Infallible;

use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, Lookup, TokenRecord};

pub(crate) fn token(n: usize) -> String {
    format!("app-{n:024}")
}

/// In front of a loader that knows every token, at once.
pub(crate) fn builder() -> ApiTokenCacheBuilder<()> {
    let loader = |_: Lookup| async {
        Ok::<_, Infallible>(Some(TokenRecord::new("tok-1").token_type("app")))
    };
    ApiTokenCache::builder(loader).token_types(["app"])
}
