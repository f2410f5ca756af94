//! Requests to the layer around a service that does nothing, which are answered within one poll. The benches
//! and the tests that count allocations use it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each of those who include it uses its own part"
)]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use http::{Request, Response};
use tower::{Layer, Service};
use tower_api_token::middleware::{ApiTokenService, Decision, ResponseBody};
use tower_api_token::{
    ApiTokenCache, ApiTokenCacheBuilder, ApiTokenLayer, Lookup, TokenFormat, TokenRecord,
};

/// The inner service.
#[derive(Clone)]
pub struct Nothing;

impl Service<Request<()>> for Nothing {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        // Uses the request, so that the compiler cannot optimize away what the layer adds to it.
        std::hint::black_box(&request);
        ready(Ok(Response::new(())))
    }
}

pub type Layered = ApiTokenService<Nothing>;

/// Stands for what axum's router inserts into the extensions before it calls a layer of its routes, which
/// allocates the map.
#[derive(Clone)]
struct MatchedPath;

pub fn format() -> TokenFormat {
    TokenFormat::from_static("acme_")
}

pub const TYPE: &str = "app";
pub const TENANT: &str = "tenant-1";

/// Returns a token of 41 bytes, the length of the tokens of [`format`].
pub fn token(n: usize) -> String {
    format!("app-{}", id(n))
}

/// Returns the id of the token's record.
pub fn id(n: usize) -> String {
    format!("{n:037}")
}

/// Returns the builder of a cache in which exactly the tokens that begin with `app-` are valid.
pub fn builder() -> ApiTokenCacheBuilder<()> {
    builder_of(Some(TENANT))
}

/// Returns such a builder for tokens without a tenant: a lookup in Redis then reads one key, as in a
/// hand-written cache.
pub fn builder_without_tenant() -> ApiTokenCacheBuilder<()> {
    builder_of(None)
}

fn builder_of(tenant: Option<&'static str>) -> ApiTokenCacheBuilder<()> {
    ApiTokenCache::builder(move |lookup: Lookup| async move {
        let text = lookup.token().expose();
        let good = text.strip_prefix("app-").map(|id| {
            TokenRecord::new(id)
                .token_type(TYPE)
                .tenant_id(tenant.map(str::to_owned))
        });
        Ok::<_, Infallible>(good)
    })
}

pub fn layered(cache: &ApiTokenCache) -> Layered {
    ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .build()
        .unwrap()
        .layer(Nothing)
}

/// Returns a service behind a layer that checks the format of tokens.
pub fn checked(cache: &ApiTokenCache) -> Layered {
    ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .token_format(format())
        .build()
        .unwrap()
        .layer(Nothing)
}

/// Returns a service behind a layer whose decisions somebody reads, and does nothing else.
pub fn audited(cache: &ApiTokenCache) -> Layered {
    ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .on_decision(|decision: &Decision<'_>| {
            let caller = (decision.token_id(), decision.tenant_id());
            std::hint::black_box((caller, decision.origin(), decision.reason()));
        })
        .build()
        .unwrap()
        .layer(Nothing)
}

pub fn bare_request(credential: Option<&HeaderValue>) -> Request<()> {
    let mut request = Request::new(());
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("api.example.com"));
    headers.insert(USER_AGENT, HeaderValue::from_static("example/1.0"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if let Some(credential) = credential {
        headers.insert(AUTHORIZATION, credential.clone());
    }
    request
}

/// Returns a request as a layer of an axum route gets it.
pub fn routed_request(credential: Option<&HeaderValue>) -> Request<()> {
    let mut request = bare_request(credential);
    request.extensions_mut().insert(MatchedPath);
    request
}

pub fn credential(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).expect("a field's value")
}

/// Returns a token of [`format`] with one character of the random part changed.
pub fn mistyped() -> HeaderValue {
    credential("acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkK0mLq17")
}

/// Returns the response, which must be ready at the first poll.
pub fn answer<S>(service: &mut S, request: Request<()>) -> S::Response
where
    S: Service<Request<()>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Ready(Err(never)) => match never {},
        Poll::Pending => panic!("the request waited"),
    }
}

pub type Answer = Response<ResponseBody<()>>;
