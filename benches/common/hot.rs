//! Requests to the layer over a service that does nothing, and that are answered within one poll: for
//! the tests that count allocations, and for the benches.

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
use tower_api_token::middleware::{ApiTokenService, ResponseBody};
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
        // A service that looks at nothing would let the compiler leave out what is made for it.
        std::hint::black_box(&request);
        ready(Ok(Response::new(())))
    }
}

pub type Layered = ApiTokenService<Nothing>;

/// What axum's router puts into the extensions before a layer of its routes is called: the map is there
/// already.
#[derive(Clone)]
struct MatchedPath;

pub fn format() -> TokenFormat {
    TokenFormat::from_static("acme_")
}

pub const TYPE: &str = "app";
pub const TENANT: &str = "tenant-1";

/// 41 bytes, as long as the tokens of [`format`] are.
pub fn token(n: usize) -> String {
    format!("app-{}", id(n))
}

/// The id of the token's record.
pub fn id(n: usize) -> String {
    format!("{n:037}")
}

/// Every token that begins with `app-` is good, and no other.
pub fn builder() -> ApiTokenCacheBuilder<()> {
    builder_of(Some(TENANT))
}

/// The same for tokens of no tenant: a look-up in Redis reads one key, as it does in a cache by hand.
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

/// With the checksum of a token's form asked for.
pub fn checked(cache: &ApiTokenCache) -> Layered {
    ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .token_format(format())
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

/// As a layer of an axum route sees it.
pub fn routed_request(credential: Option<&HeaderValue>) -> Request<()> {
    let mut request = bare_request(credential);
    request.extensions_mut().insert(MatchedPath);
    request
}

pub fn credential(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).expect("a field's value")
}

/// A token of [`format`] with a character of its random part changed.
pub fn mistyped() -> HeaderValue {
    credential("acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkK0mLq17")
}

/// The answer, which has to be there at once.
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
