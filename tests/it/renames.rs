//! The new names of the changelog's table *Renames*, in code that compiles. `tests/docs.rs` checks that every word of
//! that column is in this file.

#![allow(dead_code, reason = "most of it is compiled and never called")]

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Request, Response};
use tower_api_token::last_use::{LastUse, LastUseRecorder, LastUseSink};
use tower_api_token::metrics::{Outcome, Stats};
use tower_api_token::middleware::{ApiTokenService, MissingApiToken, ResponseBody, ResponseFuture};
use tower_api_token::rejection::{self, ProblemDetails, RequestHead, ResponseForRejection};
use tower_api_token::store::{self, IntoStore, KeyLayout, RedisTls, StoreError, StoreErrorKind};
use tower_api_token::test_util::{ManualClock, SyncPoint, SyncPoints};
use tower_api_token::{
    Answer, ApiTokenCache, ApiTokenCacheBuilder, ApiTokenLayer, ApiTokenLayerBuilder, BoxError,
    CachedApiToken, ConfigError, InvalidReason, InvalidateError, InvalidateErrorKind,
    InvalidationReceipt, Lookup, MemoryStore, RedisStore, Rejection, TokenDigest, TokenFormat,
    TokenRecord, TokenSource, UnavailableKind,
};

fn tokens(found: &CachedApiToken, last: &LastUse, lookup: &Lookup) -> [Option<String>; 3] {
    let _: TokenRecord = TokenRecord::new("id").token_type("app");
    let typed: [Option<&str>; 3] = [
        CachedApiToken::token_type(found),
        LastUse::token_type(last),
        Lookup::token_type(lookup),
    ];
    typed.map(|name| name.map(str::to_owned))
}

fn formats(prefix: &str, token: &str, n: usize) -> Result<bool, ConfigError> {
    const FORMAT: TokenFormat = TokenFormat::from_static("acme_");
    let format = TokenFormat::new(prefix)?.random_length(n)?;
    Ok(format.matches(token) || FORMAT.matches(token))
}

fn builders(builder: ApiTokenCacheBuilder<()>, sink: impl LastUseSink) -> ApiTokenCacheBuilder<()> {
    let second = Duration::from_secs(1);
    let recorder = LastUseRecorder::new(sink)
        .write_timeout(second)
        .shutdown_timeout(second);
    ApiTokenCacheBuilder::last_use(builder, recorder)
        .token_types(["app"])
        .negative_ttl(second)
        .local_capacity(0)
        .local_negative_capacity(1)
        .negative_writes_per_second(1)
        .store(MemoryStore::new().negative_capacity(1))
        .max_staleness(second)
        .load_timeout(second)
        .max_concurrent_loads(1)
        .max_queued_loads(1)
        .load_queue_timeout(second)
        .sync_points(SyncPoints::new(async |_: SyncPoint| ()))
}

async fn lookups(
    cache: &ApiTokenCache,
    token: &str,
    digests: Vec<TokenDigest>,
) -> Result<Option<CachedApiToken>, BoxError> {
    let _: Answer = cache.authenticate_typed(token, "app").await?;
    let (Answer::Valid(_) | Answer::Invalid(InvalidReason::WrongTokenType)) =
        cache.authenticate(token).await?
    else {
        return Ok(None);
    };
    let _: Option<Answer> = cache.peek(token).await?;
    cache.warm(token).await?;
    let _: Option<DateTime<Utc>> = cache.last_used_at(token).await?;
    let _: Vec<Option<DateTime<Utc>>> = cache.last_uses(digests).await?;
    Ok(Answer::valid(cache.authenticate(token).await?))
}

async fn invalidations(
    cache: &ApiTokenCache,
    n: usize,
) -> Result<DateTime<Utc>, InvalidateErrorKind> {
    let invalidation = cache.invalidate("token").wait_for_all_instances();
    #[cfg(feature = "dify")]
    let invalidation = tower_api_token::Invalidation::of_type(invalidation, "app");
    let done: Result<InvalidationReceipt, InvalidateError> =
        invalidation.wait_for_replicas(n).await;
    let receipt = done.map_err(|error| InvalidateError::kind(&error))?;
    Ok(receipt.confirmed_at().max(receipt.effective_at()))
}

fn layers(cache: &ApiTokenCache) -> Result<[ApiTokenLayer; 3], &'static str> {
    let of_type = ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .build();
    let with_all = ApiTokenLayer::builder(cache.clone())
        .sources([
            TokenSource::bearer(),
            TokenSource::authorization("Token"),
            TokenSource::header("x-token").scheme("Bearer"),
        ])
        .realm("api")
        .challenge_scope("read")
        .resource_metadata("https://api.example/.well-known/oauth-protected-resource")
        .policy(|_, request: &RequestHead<'_>| {
            let _ = (request.header("x-debug"), request.query());
            Err(Rejection::insufficient_scope("read").unwrap_or(Rejection::INSUFFICIENT_SCOPE))
        })
        .token_length(1..=100)
        .token_format(TokenFormat::from_static("acme_"))
        .visible_ascii_tokens()
        .error_descriptions()
        .grpc_status(false)
        .rejection_response(rejection::StatusOnly)
        .strip_credentials();
    let with_all = ApiTokenLayerBuilder::build(with_all);
    let both =
        of_type.and_then(|of_type| Ok([ApiTokenLayer::new(cache.clone()), of_type, with_all?]));
    both.map_err(|error: ConfigError| error.setting())
}

fn rejections(rejection: &Rejection, head: &rejection::RequestHead<'_>) -> Response<Bytes> {
    match rejection {
        Rejection::MissingToken | Rejection::MultipleTokens => {}
        Rejection::InsufficientScope { scope: Some(_), .. } => {}
        _ => return rejection::StatusOnly.response_for_rejection(rejection, head),
    }
    rejection::ResponseForRejection::response_for_rejection(&ProblemDetails::new(), rejection, head)
}

fn stores(url: &str, certificate: Vec<u8>, error: &StoreError) -> Result<RedisStore, ConfigError> {
    fn is_store(_: &impl IntoStore<()>) {}
    let second = Duration::from_secs(1);
    let layout: store::KeyLayout = KeyLayout::peppered("current").previous_peppers(["previous"]);
    #[cfg(feature = "dify")]
    let layout = [layout, KeyLayout::dify().key_prefix("prefix")][1].clone();
    let kind: store::StoreErrorKind = StoreError::kind(error);
    assert_ne!(kind, StoreErrorKind::Unsupported);
    let store = RedisStore::new(url)?.tls(RedisTls::new().ca_certificate(certificate));
    let store = store
        .response_timeout(second)
        .connect_timeout(second)
        .circuit_breaker(5, second);
    is_store(&store);
    Ok(RedisStore::key_layout(store, layout))
}

fn clocks(clock: &ManualClock) {
    clock.set(clock.now());
}

/// Names types that have no constructor.
#[derive(Debug)]
struct Named<S: tower::Service<Request<()>>> {
    service: ApiTokenService<S>,
    future: ResponseFuture<S, (), ()>,
    body: ResponseBody<()>,
    missing: MissingApiToken,
}

const KINDS: [(UnavailableKind, &str); 2] = [
    (UnavailableKind::LoaderMismatch, "loader_mismatch"),
    (UnavailableKind::UnknownTokenType, "token_type"),
];

#[tokio::test]
async fn new_names_of_labels_are_used() {
    let cache = ApiTokenCache::builder(async |_: Lookup| Ok::<_, BoxError>(None::<TokenRecord>))
        .build()
        .unwrap();
    let stats: Stats = cache.stats();
    let labels: Vec<_> = Stats::rejections(&stats).map(|(label, _)| label).collect();
    for label in ["missing_token", "multiple_tokens"] {
        assert!(labels.contains(&label), "{label}");
    }
    assert_eq!(Outcome::Valid.as_str(), "valid");
    assert_eq!(Outcome::Invalid.as_str(), "invalid");
    let counted = stats.last_uses_recorded
        + stats.local_records
        + stats.local_negatives
        + stats.negative_writes_skipped
        + stats.evicted_negatives
        + stats.wrong_token_type;
    assert_eq!(counted, 0);
}
