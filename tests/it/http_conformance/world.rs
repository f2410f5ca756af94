//! The fixture of a test: a database that counts its calls, the layer, and an inner service that keeps the
//! head of each request that reaches it.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use http::header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use test_support::Gate;
use tower::{Layer, ServiceExt, service_fn};
use tower_api_token::{
    ApiTokenCache, ApiTokenCacheBuilder, ApiTokenLayer, ApiTokenLayerBuilder, BoxError,
    CachedApiToken, Lookup, TokenDigest, TokenFormat, TokenLoader, TokenRecord,
};

pub(crate) const GOOD: &str = "app-Good-0123456789";
pub(crate) const UNKNOWN: &str = "app-unknown-0123456";
pub(crate) const REVOKED: &str = "app-revoked-0123456";
pub(crate) const EXPIRED: &str = "app-expired-0123456";
/// It expires an hour after it was loaded.
pub(crate) const ENDING: &str = "app-ending-01234567";
pub(crate) const OTHER_TYPE: &str = "dataset-0123456789a";
pub(crate) const SUSPENDED: &str = "app-suspended-01234";
pub(crate) const SUSPENDED_OTHER_TYPE: &str = "dataset-suspended-0";
pub(crate) const SUSPENDED_EXPIRED: &str = "app-suspended-expired";
pub(crate) const SUSPENDED_MISTAKEN: &str = "app-suspended-mistaken";
pub(crate) const FAILING: &str = "app-failing-0123456";
pub(crate) const PANICKING: &str = "app-panicking-01234";
pub(crate) const HANGING: &str = "app-hanging-0123456";
pub(crate) const MISTAKEN: &str = "app-mistaken-012345";
/// A token of the format `FORMAT`.
pub(crate) const OF_THE_FORMAT: &str = "acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";
pub(crate) const FORMAT: TokenFormat = TokenFormat::from_static("acme_");
/// A token of another kind, longer than ours may be.
pub(crate) const OTHER_KIND: &str = concat!(
    "eyJhbGciOiJFUzI1NiJ9.",
    "eyJzdWIiOiJhbGljZSJ9eyJzdWIiOiJhbGljZSJ9eyJzdWIiOiJhbGljZSJ9eyJzdWIiOiJhbGljZSJ9eyJzdWIi.",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
);
/// The prefix of tokens that are all valid.
pub(crate) const ANY: &str = "any-";

pub(crate) const REASON: &str = "The tenant \"t-7\" is suspended.";
pub(crate) const SECRET: &str = "postgres://service:hunter2@db";

pub(crate) const BARE: &str = r#"Bearer realm="api""#;
pub(crate) const INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;
pub(crate) const AMBIGUOUS: &str = r#"Bearer realm="api", error="invalid_request""#;

#[derive(Clone, Default)]
pub(crate) struct Database {
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) healthy: Arc<AtomicBool>,
    pub(crate) not_yet_revoked: Arc<AtomicBool>,
    pub(crate) gate: Gate,
    pub(crate) asked: Arc<Mutex<Vec<Lookup>>>,
}

impl TokenLoader for Database {
    type Metadata = ();

    async fn load(&self, lookup: Lookup) -> Result<Option<TokenRecord>, BoxError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().unwrap().push(lookup.clone());
        self.gate.pass().await;
        let healthy = self.healthy.load(Ordering::SeqCst);
        let not_yet_revoked = self.not_yet_revoked.load(Ordering::SeqCst);
        let past = Utc::now() - Duration::from_secs(1);
        Ok(Some(match lookup.token().expose() {
            GOOD => TokenRecord::new("tok-good")
                .token_type("app")
                .scopes(["orders:read", "stock"])
                .digest(lookup.digest()),
            REVOKED if not_yet_revoked => TokenRecord::new("tok-revoked").token_type("app"),
            EXPIRED => TokenRecord::new("tok-expired")
                .token_type("app")
                .expires_at(past),
            ENDING => TokenRecord::new("tok-ending")
                .token_type("app")
                .expires_at(Utc::now() + Duration::from_secs(3_600)),
            OTHER_TYPE => TokenRecord::new("tok-dataset").token_type("dataset"),
            SUSPENDED => TokenRecord::new("tok-suspended")
                .token_type("app")
                .denied(REASON),
            SUSPENDED_OTHER_TYPE => TokenRecord::new("tok-dataset-2")
                .token_type("dataset")
                .denied(REASON),
            SUSPENDED_EXPIRED => TokenRecord::new("tok-expired-2")
                .token_type("app")
                .expires_at(past)
                .denied(REASON),
            SUSPENDED_MISTAKEN => TokenRecord::new("tok-another's")
                .token_type("app")
                .digest(TokenDigest::of(GOOD))
                .denied(REASON),
            FAILING | PANICKING | HANGING if healthy => {
                TokenRecord::new("tok-late").token_type("app")
            }
            FAILING => return Err(SECRET.into()),
            PANICKING => panic!("{SECRET}"),
            HANGING => std::future::pending().await,
            MISTAKEN => TokenRecord::new("tok-another's")
                .token_type("app")
                .digest(TokenDigest::of(GOOD)),
            OF_THE_FORMAT => TokenRecord::new("tok-format").token_type("app"),
            any if any.starts_with(ANY) => TokenRecord::new("tok-any").token_type("app"),
            // This includes a revoked token, whose row the query does not return.
            _ => return Ok(None),
        }))
    }
}

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) cache: ApiTokenCache,
    pub(crate) layer: ApiTokenLayer,
    pub(crate) reached: Arc<Mutex<Vec<request::Parts>>>,
    /// Headers of the inner service's response.
    pub(crate) served: HeaderMap,
    /// The number of points of the protocol that calls have passed.
    #[cfg(feature = "test-util")]
    pub(crate) steps: Arc<AtomicUsize>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_cache(|builder| builder)
    }

    pub(crate) fn with_cache(
        configure: impl FnOnce(ApiTokenCacheBuilder<()>) -> ApiTokenCacheBuilder<()>,
    ) -> Self {
        let database = Database::default();
        let builder = ApiTokenCache::builder(database.clone());
        // Long enough for a busy machine. The test whose load hangs pauses tokio's clock.
        let builder = configure(builder.load_timeout(Duration::from_secs(60)));
        #[cfg(feature = "test-util")]
        let steps = Arc::new(AtomicUsize::new(0));
        #[cfg(feature = "test-util")]
        let builder = {
            let steps = Arc::clone(&steps);
            builder.sync_points(tower_api_token::test_util::SyncPoints::new(move |_| {
                steps.fetch_add(1, Ordering::SeqCst);
                std::future::ready(())
            }))
        };
        let cache = builder.build().unwrap();
        Self {
            database,
            layer: ApiTokenLayer::builder(cache.clone())
                .token_type("app")
                .build()
                .unwrap(),
            cache,
            reached: Arc::default(),
            served: HeaderMap::new(),
            #[cfg(feature = "test-util")]
            steps,
        }
    }
}

impl World {
    pub(crate) fn layer(
        mut self,
        configure: impl FnOnce(ApiTokenLayerBuilder<()>) -> ApiTokenLayerBuilder<()>,
    ) -> Self {
        self.layer = configure(self.builder()).build().unwrap();
        self
    }

    /// Returns the builder of a layer like this fixture's, on the same cache.
    pub(crate) fn builder(&self) -> ApiTokenLayerBuilder<()> {
        ApiTokenLayer::builder(self.cache.clone()).token_type("app")
    }

    pub(crate) async fn send<B>(&self, request: Request<B>) -> Reply {
        self.send_through(&self.layer, request).await
    }

    pub(crate) async fn send_through<B>(
        &self,
        layer: &ApiTokenLayer,
        request: Request<B>,
    ) -> Reply {
        let service = layer.layer(service_fn(self.inner()));
        Reply::read(service.oneshot(request).await.unwrap()).await
    }

    /// The inner service.
    pub(crate) fn inner<B>(
        &self,
    ) -> impl Fn(Request<B>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> + Clone + 'static
    {
        let (reached, headers) = (Arc::clone(&self.reached), self.served.clone());
        move |request| {
            let parts = request.into_parts().0;
            let body = if parts.method == Method::HEAD {
                ""
            } else {
                "served"
            };
            reached.lock().unwrap().push(parts);
            let mut response = Response::new(Full::from(body));
            *response.headers_mut() = headers.clone();
            ready(Ok(response))
        }
    }

    pub(crate) async fn authorization(&self, value: impl AsRef<[u8]>) -> Reply {
        self.send(get(&[value.as_ref()])).await
    }

    pub(crate) async fn bearer(&self, token: &str) -> Reply {
        self.authorization(format!("Bearer {token}")).await
    }

    pub(crate) fn calls(&self) -> usize {
        self.database.calls.load(Ordering::SeqCst)
    }

    /// Returns the ids of the tokens whose requests reached the inner service, in order.
    pub(crate) fn reached(&self) -> Vec<Option<String>> {
        let token = |parts: &request::Parts| {
            let token = parts.extensions.get::<CachedApiToken>()?;
            Some(token.id().to_owned())
        };
        self.reached.lock().unwrap().iter().map(token).collect()
    }

    /// Checks that neither a store nor the loader was asked, and that nothing was cached.
    #[track_caller]
    pub(crate) fn assert_no_lookup(&self) {
        assert_eq!(self.calls(), 0, "the loader was called");
        let stats = self.cache.stats();
        assert_eq!(stats.lookups().count(), 0, "{stats:?}");
        // Only the rejection is counted.
        let asked = [
            stats.loads,
            stats.joined,
            stats.store_errors,
            stats.overloaded,
        ];
        assert_eq!(asked, [0; 4], "{stats:?}");
        assert_eq!(
            crate::common::local_entries(&self.cache),
            (0, 0),
            "something was cached"
        );
        #[cfg(feature = "test-util")]
        assert_eq!(self.steps.load(Ordering::SeqCst), 0, "a call was started");
    }
}

/// A whole answer.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) async fn read<B>(response: Response<B>) -> Self
    where
        B: Body<Data = Bytes, Error: std::fmt::Debug>,
    {
        let (parts, body) = response.into_parts();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = parts.headers.iter();
        Self {
            status: parts.status,
            headers: headers.map(|(k, v)| (k.to_string(), text(v))).collect(),
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Parses an answer of HTTP/1.1.
    pub(crate) fn parse(answer: &[u8]) -> Self {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.expect("the end of the head");
        let head = std::str::from_utf8(&answer[..end]).unwrap();
        let (line, fields) = head.split_once("\r\n").unwrap();
        let status = line.strip_prefix("HTTP/1.1 ").unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self {
            status: status[..3].parse().unwrap(),
            headers: fields.split("\r\n").map(field).collect(),
            body: Bytes::copy_from_slice(&answer[end + 4..]),
        }
    }

    pub(crate) fn all(&self, name: impl AsRef<str>) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key == name.as_ref());
        named.map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub(crate) fn one(&self, name: impl AsRef<str>) -> &str {
        let all = self.all(name.as_ref());
        assert_eq!(all.len(), 1, "{}: {all:?}", name.as_ref());
        all[0]
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_served(&self) {
        assert_eq!(
            (self.status, &self.body[..]),
            (StatusCode::OK, &b"served"[..])
        );
    }

    /// Checks the status and the only challenge.
    #[track_caller]
    pub(crate) fn assert_rejected(&self, status: u16, challenge: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.one(WWW_AUTHENTICATE), challenge);
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            status,
            headers,
            body,
        } = self;
        write!(f, "{status} {headers:?} {}", String::from_utf8_lossy(body))
    }
}

pub(crate) fn get(authorizations: &[&[u8]]) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    for value in authorizations {
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().append(AUTHORIZATION, value);
    }
    request
}

pub(crate) fn bearer(token: &str) -> Request<Empty<Bytes>> {
    get(&[format!("Bearer {token}").as_bytes()])
}

/// Returns a request for each rejection, with its name.
pub(crate) fn rejected() -> Vec<(&'static str, Request<Empty<Bytes>>)> {
    vec![
        ("no token", get(&[])),
        ("not good", bearer(UNKNOWN)),
        ("ambiguous", get(&[b"Bearer a", b"Bearer b"])),
        ("denied", bearer(SUSPENDED)),
        ("cannot tell", bearer(FAILING)),
    ]
}

/// A body that must not be polled.
pub(crate) struct Untouchable;

impl Body for Untouchable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body of a rejected request was polled")
    }
}

pub(crate) fn preflight() -> Request<Empty<Bytes>> {
    Request::options("/")
        .header(ORIGIN, "https://example.org")
        .header("access-control-request-method", "PUT")
        .body(Empty::new())
        .unwrap()
}
