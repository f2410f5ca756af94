//! A cache of fixed tokens, and a token without a cache.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};

use crate::cache::ApiTokenCache;
use crate::cache::cached_token::{CacheRef, CachedApiToken, EntryMeta, Principal};
use crate::cache::engine::Engine;
use crate::clock::Tick;
use crate::loader::Lookup;
use crate::metrics::Origin;
use crate::store::entry::Entry;
use crate::token::{BearerToken, TokenDigest, TokenRecord};

/// The text of a token that [`verified`] returns.
const TEXT: &str = "verified-in-a-test";

/// Creates a cache that knows `tokens`, each with its record, and no other token.
///
/// It has the default settings and no store of its own, so that a test needs neither a loader nor Redis. Everything
/// else is as in a service: the layer checks the token's syntax, type and expiry, and a
/// [denied](TokenRecord::denied) record is a 403.
///
/// The layer's default limits apply: a token of fewer than 8 bytes is rejected before it is looked up.
///
/// # Examples
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_api_token::test_util::fixed_cache;
/// use tower_api_token::{ApiTokenLayer, CachedApiToken, TokenRecord};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = fixed_cache([
///     ("app-0123456789abcdef", TokenRecord::new("tok-1").tenant_id("t-42")),
///     ("app-fedcba9876543210", TokenRecord::new("tok-2").denied("The account is suspended.")),
/// ]);
/// let service = ApiTokenLayer::new(cache).layer(service_fn(async |request: Request<String>| {
///     let caller = request.extensions().get::<CachedApiToken>().map(|token| token.id().to_owned());
///     Ok::<_, std::convert::Infallible>(Response::new(caller.unwrap_or_default()))
/// }));
///
/// let request = |token: &str| {
///     Request::get("/").header("authorization", format!("Bearer {token}")).body(String::new())
/// };
/// for (token, status) in [
///     ("app-0123456789abcdef", StatusCode::OK),
///     ("app-fedcba9876543210", StatusCode::FORBIDDEN),
///     ("app-somebody-made-up", StatusCode::UNAUTHORIZED),
/// ] {
///     let response = service.clone().oneshot(request(token)?).await?;
///     assert_eq!(response.status(), status);
/// }
/// # Ok(())
/// # }
/// ```
#[expect(clippy::missing_panics_doc, reason = "the default settings are valid")]
pub fn fixed_cache<M, T>(tokens: impl IntoIterator<Item = (T, TokenRecord<M>)>) -> ApiTokenCache<M>
where
    M: Clone + Send + Sync + 'static,
    T: Into<String>,
{
    let by_digest = |(token, record): (T, TokenRecord<M>)| {
        let text: String = token.into();
        (TokenDigest::of(&text), record)
    };
    let records: HashMap<TokenDigest, TokenRecord<M>> = tokens.into_iter().map(by_digest).collect();
    let loader = move |lookup: Lookup| {
        let record = records.get(&lookup.digest()).cloned();
        async { Ok::<_, Infallible>(record) }
    };
    let cache = ApiTokenCache::builder(loader).build();
    cache.expect("the default settings are valid")
}

/// Returns a token as a handler gets it, made from `record` without a cache or a request.
///
/// Its [`origin`](CachedApiToken::origin) is [`Origin::Loaded`](crate::Origin::Loaded), its
/// [`token`](CachedApiToken::token) a text that no service uses, and
/// [`revoked`](CachedApiToken::revoked) completes when it expires.
///
/// # Panics
/// Panics if the record has an empty id or is [denied](TokenRecord::denied): a handler never gets such a token.
///
/// # Examples
///
/// ```
/// use tower_api_token::test_util::verified;
/// use tower_api_token::{CachedApiToken, TokenRecord};
///
/// /// A handler.
/// async fn greeting(token: CachedApiToken<u32>) -> String {
///     format!("{} may ask {} times", token.id(), token.metadata())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let token = verified(TokenRecord::new("tok-1").metadata(3));
/// assert_eq!(greeting(token).await, "tok-1 may ask 3 times");
/// # }
/// ```
#[track_caller]
pub fn verified<M: Send + Sync + 'static>(record: TokenRecord<M>) -> CachedApiToken<M> {
    assert!(!record.id.is_empty(), "the record's id is empty");
    assert!(!record.is_denied(), "the record is denied");
    let token = BearerToken::new(TEXT);
    let principal = Principal {
        meta: EntryMeta {
            digest: record.digest.unwrap_or_else(|| token.digest()),
            as_of: Tick::ZERO,
            watch: None,
            tenant: None,
            size: 0,
            stale: false,
            stored: false,
            refreshing: AtomicBool::new(false),
        },
        entry: Arc::new(Entry::new(record, None)),
        token,
        noted: AtomicU64::new(0),
        cache: Arc::new(CacheRef::new(Weak::<Engine<M>>::new())),
    };
    CachedApiToken::new(Arc::new(principal), Origin::Loaded)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::Utc;

    use super::*;
    use crate::cache::Answer;

    #[tokio::test]
    async fn a_fixed_cache_knows_its_tokens_and_no_other() {
        let cache = fixed_cache([(
            "app-0123456789abcdef",
            TokenRecord::new("tok-1").metadata(7),
        )]);
        let known = cache.authenticate("app-0123456789abcdef").await.unwrap();
        let known = known.valid().unwrap();
        assert_eq!((known.id(), known.metadata()), ("tok-1", &7));
        let other = cache.authenticate("app-fedcba9876543210").await.unwrap();
        assert!(matches!(other, Answer::Invalid(_)));
        // A second load, after an invalidation, has the same answer.
        cache.invalidate("app-0123456789abcdef").await.unwrap();
        let again = cache.authenticate("app-0123456789abcdef").await.unwrap();
        assert_eq!(again.valid().unwrap().origin(), Origin::Loaded);
    }

    #[tokio::test]
    async fn a_verified_token_has_its_records_values_and_ends_with_them() {
        let end = Utc::now() + Duration::from_millis(20);
        let digest = TokenDigest::of("app-0123456789abcdef");
        let record = TokenRecord::new("tok-1")
            .token_type("app")
            .tenant_id("t-42");
        let token = verified(record.digest(digest).expires_at(end));
        assert_eq!(token.token_type(), Some("app"));
        assert_eq!(token.tenant_id(), Some("t-42"));
        assert_eq!(token.expires_at(), Some(end));
        token.revoked().await;
        assert!(Utc::now() >= end);
    }

    #[test]
    #[should_panic(expected = "the record is denied")]
    fn a_denied_record_is_no_verified_token() {
        verified(TokenRecord::new("tok-1").denied("suspended"));
    }
}
