//! Sends a flood of invented tokens through the layer, mixed with valid ones. A test and a benchmark use it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the test and the benchmark each use a part"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tower::util::ServiceFn;
use tower::{Layer, Service, service_fn};
use tower_api_token::middleware::ApiTokenService;
use tower_api_token::{
    ApiTokenCache, ApiTokenCacheBuilder, ApiTokenLayer, CachedApiToken, Lookup, TokenFormat,
    TokenRecord,
};

/// The number of concurrent requests.
const CLIENTS: usize = 64;

/// The number of invented tokens for each request with a valid one.
const INVENTED_PER_GOOD: usize = 10;

const PREFIX: &str = "flood_";

/// The inner service, which returns the origin of its token.
type Inner = ServiceFn<fn(Request<()>) -> Ready<Result<Response<String>, Infallible>>>;

fn return_origin(request: Request<()>) -> Ready<Result<Response<String>, Infallible>> {
    let token = request.extensions().get::<CachedApiToken>();
    let origin = token.expect("the layer's").origin().to_string();
    ready(Ok(Response::new(origin)))
}

fn request(token: &str) -> Request<()> {
    let request = Request::builder().header("authorization", format!("Bearer {token}"));
    request.body(()).expect("a request")
}

/// Returns a text with the prefix and the length of a valid token, but a wrong checksum.
fn invented(number: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut word = number as u64;
    let characters = (0..36).map(|_| {
        word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ 0x5851_f42d;
        char::from(ALPHABET[(word >> 40) as usize % ALPHABET.len()])
    });
    PREFIX.chars().chain(characters).collect()
}

/// A service, its valid tokens, and the clients that flood it.
pub struct Flood {
    pub cache: ApiTokenCache,
    service: ApiTokenService<Inner>,
    good: Arc<[String]>,
    loads: Arc<AtomicU64>,
    /// The number of tokens invented so far. No text is sent twice.
    invented: usize,
}

/// The answers to the valid tokens during a flood.
#[derive(Debug, Default)]
pub struct Report {
    /// The number of answers by origin.
    pub origins: BTreeMap<String, u64>,
    /// The latency of each answer.
    pub latencies: Vec<Duration>,
    pub elapsed: Duration,
}

impl Report {
    pub fn local_share(&self) -> f64 {
        let local = self.origins.get("local").copied().unwrap_or_default();
        local as f64 / self.origins.values().sum::<u64>() as f64
    }
}

impl Flood {
    /// Creates a service with `good` valid tokens. If `checked`, its layer has a token format.
    pub fn new(
        good: usize,
        checked: bool,
        build: impl FnOnce(ApiTokenCacheBuilder<()>) -> ApiTokenCacheBuilder<()>,
    ) -> Self {
        let format = TokenFormat::from_static(PREFIX);
        let tokens: Arc<[String]> = (0..good)
            .map(|_| format.generate().expect("random bytes").expose().to_owned())
            .collect();
        let loads = Arc::<AtomicU64>::default();
        let (known, counted) = (Arc::clone(&tokens), Arc::clone(&loads));
        let loader = move |lookup: Lookup| {
            counted.fetch_add(1, Ordering::Relaxed);
            let known = known.iter().any(|token| token == lookup.token().expose());
            ready(Ok::<_, Infallible>(
                known.then(|| TokenRecord::new("tok-1").token_type("app")),
            ))
        };
        let builder = ApiTokenCache::builder(loader).token_types(["app"]);
        let cache = build(builder).build().expect("a cache");
        let mut layer = ApiTokenLayer::builder(cache.clone()).token_type("app");
        if checked {
            layer = layer.token_format(format);
        }
        Self {
            service: layer
                .build()
                .expect("a layer")
                .layer(service_fn(return_origin as fn(_) -> _)),
            cache,
            good: tokens,
            loads,
            invented: 0,
        }
    }

    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// Sends each valid token once, so that all are cached.
    pub async fn warm(&self) {
        for token in &*self.good {
            let response = self.service.clone().call(request(token)).await;
            assert_eq!(response.expect("infallible").status(), 200);
        }
    }

    /// Sends `more` invented tokens, each once, mixed with the valid ones.
    pub async fn run(&mut self, more: usize) -> Report {
        let begin = Instant::now();
        let numbers = self.invented..self.invented + more;
        self.invented = numbers.end;
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let mine = numbers.clone().skip(client).step_by(CLIENTS);
            let (mut service, good) = (self.service.clone(), Arc::clone(&self.good));
            clients.spawn(async move {
                let mut report = Report::default();
                for number in mine {
                    let response = service.call(request(&invented(number))).await;
                    assert_eq!(response.expect("infallible").status(), 401);
                    if number % INVENTED_PER_GOOD == 0 {
                        let token = &good[number / INVENTED_PER_GOOD % good.len()];
                        let sent = Instant::now();
                        let response = service.call(request(token)).await.expect("infallible");
                        report.latencies.push(sent.elapsed());
                        assert_eq!(response.status(), 200);
                        let body = response.into_body().collect().await.expect("a body");
                        let origin = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                        *report.origins.entry(origin).or_default() += 1;
                    }
                }
                report
            });
        }
        let mut all = Report::default();
        while let Some(report) = clients.join_next().await {
            let report = report.expect("no panic");
            all.latencies.extend(report.latencies);
            for (origin, count) in report.origins {
                *all.origins.entry(origin).or_default() += count;
            }
        }
        all.latencies.sort_unstable();
        all.elapsed = begin.elapsed();
        all
    }

    /// Returns how many of the invented tokens are cached.
    pub async fn remembered(&self) -> usize {
        let mut remembered = 0;
        for number in 0..self.invented {
            let answer = self.cache.peek(&invented(number)).await;
            remembered += usize::from(answer.expect("the store answers").is_some());
        }
        remembered
    }
}
