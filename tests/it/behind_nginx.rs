//! Tests with a real nginx and its cache in front of the layer. nginx does not follow RFC 9111 section 3.5: it
//! serves a stored response to every client, whatever `Authorization` they send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, header::CACHE_CONTROL};
use test_support::Nginx;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, ApiTokenLayerBuilder, CachedApiToken, Lookup, TokenRecord,
    TokenSource,
};

const ACME: &str = "token-of-acme-0123456789";
const GLOBEX: &str = "token-of-globex-012345678";

/// Pairs of an nginx directive and a handler's `Cache-Control`.
const CACHED: [(&str, &str); 4] = [
    ("proxy_cache_valid 200 1m;", ""),
    ("proxy_cache_valid any 1m;", "must-revalidate"),
    ("", "max-age=60"),
    ("proxy_cache_valid 200 1m;", "max-age=60, must-revalidate"),
];

/// A service behind nginx.
struct World {
    nginx: Nginx,
    cache: ApiTokenCache,
    revoked: Arc<AtomicUsize>,
}

impl World {
    async fn start(
        rules: &str,
        said: &'static str,
        configure: impl FnOnce(ApiTokenLayerBuilder<()>) -> ApiTokenLayerBuilder<()>,
    ) -> Self {
        let revoked = Arc::new(AtomicUsize::new(0));
        let database = Arc::clone(&revoked);
        let loader = move |lookup: Lookup| {
            let revoked = database.load(Ordering::SeqCst) > 0;
            let found = match lookup.token().expose() {
                ACME if !revoked => Some(TokenRecord::new("acme").token_type("app")),
                GLOBEX => Some(TokenRecord::new("globex").token_type("app")),
                _ => None,
            };
            async { Ok::<_, std::io::Error>(found) }
        };
        let cache = ApiTokenCache::builder(loader).build().unwrap();
        let app = Router::new()
            .fallback(async move |request: axum::extract::Request| {
                let token = request.extensions().get::<CachedApiToken>();
                let body = token.map_or("anybody", CachedApiToken::id).to_owned();
                let said: HeaderMap = (!said.is_empty())
                    .then(|| (CACHE_CONTROL, HeaderValue::from_static(said)))
                    .into_iter()
                    .collect();
                (said, body)
            })
            .layer(
                configure(ApiTokenLayer::builder(cache.clone()))
                    .build()
                    .unwrap(),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nginx = Nginx::caching(listener.local_addr().unwrap(), rules);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            nginx,
            cache,
            revoked,
        }
    }

    /// Returns the body and nginx's cache status, or the status of a rejection.
    async fn ask(&self, header: &str) -> Result<(String, String), u16> {
        ask(self.nginx.addr(), header).await
    }

    async fn body(&self, header: &str) -> Result<String, u16> {
        self.ask(header).await.map(|(body, _)| body)
    }

    /// Revokes the token, and returns once the invalidation is confirmed.
    async fn revoke_acme(&self) {
        self.revoked.store(1, Ordering::SeqCst);
        self.cache
            .invalidate(ACME)
            .wait_for_all_instances()
            .await
            .unwrap();
    }
}

async fn ask(address: SocketAddr, header: &str) -> Result<(String, String), u16> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let header = if header.is_empty() {
        "X-None: 1"
    } else {
        header
    };
    let request = format!("GET /report HTTP/1.0\r\nHost: h\r\n{header}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let from = head.lines().find_map(|line| line.strip_prefix("x-cache: "));
    match status {
        200 => Ok((body.to_owned(), from.unwrap_or_default().to_owned())),
        status => Err(status),
    }
}

fn authorization(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

async fn check_that_answers_are_not_shared(
    configure: fn(ApiTokenLayerBuilder<()>) -> ApiTokenLayerBuilder<()>,
    header: fn(&str) -> String,
    anonymous: Result<String, u16>,
) {
    let (acme, globex) = (header(ACME), header(GLOBEX));
    for (rules, said) in CACHED {
        let world = World::start(rules, said, configure).await;
        let case = format!("{rules} {said}");
        assert_eq!(world.body(&acme).await.unwrap(), "acme", "{case}");
        assert_eq!(world.body(&globex).await.unwrap(), "globex", "{case}");
        assert_eq!(world.body("").await, anonymous, "{case}");
        assert_eq!(world.body(&acme).await.unwrap(), "acme", "{case}");
        world.revoke_acme().await;
        assert_eq!(world.body(&acme).await, Err(401), "revoked: {case}");
        assert_eq!(world.body(&globex).await.unwrap(), "globex", "{case}");
    }
}

#[tokio::test]
async fn nginx_does_not_share_answers_between_authorizations() {
    check_that_answers_are_not_shared(|layer| layer, authorization, Err(401)).await;
}

#[tokio::test]
async fn nginx_does_not_share_answers_between_api_keys() {
    check_that_answers_are_not_shared(
        |layer| layer.sources([TokenSource::header("x-api-key")]),
        |token| format!("X-API-Key: {token}"),
        Err(401),
    )
    .await;
}

#[tokio::test]
async fn nginx_does_not_share_answers_between_cookies() {
    check_that_answers_are_not_shared(
        |layer| layer.sources([TokenSource::cookie("token")]),
        |token| format!("Cookie: token={token}"),
        Err(401),
    )
    .await;
}

#[tokio::test]
async fn nginx_gives_no_anonymous_answer_to_a_token() {
    check_that_answers_are_not_shared(
        |layer| layer.optional(),
        authorization,
        Ok("anybody".to_owned()),
    )
    .await;
    let world = World::start("", "max-age=60", |layer| layer.optional()).await;
    let anybody = |from: &str| Ok(("anybody".to_owned(), from.to_owned()));
    assert_eq!(world.ask("").await, anybody("MISS"));
    assert_eq!(world.ask("").await, anybody("HIT"), "it may be shared");
    assert_eq!(world.body(&authorization(ACME)).await.unwrap(), "acme");
}

#[tokio::test]
async fn with_shared_caching_nginx_keeps_one_answer_per_token() {
    let world = World::start("", "public, max-age=60", |layer| layer).await;
    let (acme, globex) = (authorization(ACME), authorization(GLOBEX));
    let answer = |body: &str, from: &str| Ok((body.to_owned(), from.to_owned()));
    assert_eq!(world.ask(&acme).await, answer("acme", "MISS"));
    assert_eq!(world.ask(&acme).await, answer("acme", "HIT"));
    assert_eq!(world.ask(&globex).await, answer("globex", "MISS"));
    assert_eq!(world.ask("").await, Err(401));
    // The price of shared caching: nginx does not ask again.
    world.revoke_acme().await;
    assert_eq!(world.ask(&acme).await, answer("acme", "HIT"));
}
