//! Tokens that are all valid, without a tenant.

use std::convert::Infallible;

use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, Lookup, TokenRecord};

pub(crate) fn token(n: usize) -> String {
    format!("app-{n:024}")
}

/// Returns the builder of a cache whose loader knows every token, and answers immediately.
pub(crate) fn builder() -> ApiTokenCacheBuilder<()> {
    let loader = |_: Lookup| async {
        Ok::<_, Infallible>(Some(TokenRecord::new("tok-1").token_type("app")))
    };
    ApiTokenCache::builder(loader).token_types(["app"])
}
