//! The servers that are compared: the same route, behind nothing, behind the layer, and behind what is
//! written by hand today.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body_util::BodyExt;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use tower::util::MapResponseLayer;
use tower_api_token::{ApiTokenLayer, RedisStore};

use super::{BARE, BY_HAND, LAYER, NOTHING, SHORT, TOKENS, tokens};

/// Longer than the bench: what is compared are hits.
const LONG: Duration = Duration::from_secs(3_600);

/// Serves until the input ends.
pub(crate) async fn serve(name: &str, redis: &str) {
    let router = Router::new().route("/", get(async || "ok"));
    let router = match name {
        BARE => router,
        NOTHING => router.layer(MapResponseLayer::new(|response: Response| {
            response.map(|body| body.map_err(|error| error))
        })),
        LAYER => router.layer(layer(redis, LONG).await),
        SHORT => router.layer(layer(redis, Duration::from_secs(1)).await),
        BY_HAND => router.layer(from_fn_with_state(ByHand::new(redis).await, authenticate)),
        other => panic!("no server {other}"),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        served = axum::serve(listener, router) => served.expect("a server"),
        ended = ended => drop(ended.expect("no panic")),
    }
}

async fn layer(redis: &str, bound: Duration) -> ApiTokenLayer {
    let store = RedisStore::connect(redis).expect("a url");
    let builder = tokens::builder().store(store).ttl(LONG);
    let cache = builder.staleness_bound(bound).build();
    let cache = cache.expect("a configuration");
    for n in 0..TOKENS {
        let primed = cache.prime(&tokens::token(n), "app").await;
        primed.expect("Redis");
    }
    ApiTokenLayer::new(cache).with_scope("app")
}

/// A cache in memory with a time to live, and Redis behind it.
#[derive(Clone)]
struct ByHand {
    cache: moka::sync::Cache<String, Arc<Record>>,
    redis: ConnectionManager,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Record {
    id: String,
    token_type: String,
    tenant_id: Option<String>,
}

impl ByHand {
    async fn new(redis: &str) -> Self {
        let client = redis::Client::open(redis).expect("a url");
        let mut redis = ConnectionManager::new(client).await.expect("Redis");
        for n in 0..TOKENS {
            let record = Record {
                id: n.to_string(),
                token_type: "app".to_owned(),
                tenant_id: Some("tenant".to_owned()),
            };
            let json = serde_json::to_string(&record).expect("JSON");
            let key = format!("by-hand:{}", tokens::token(n));
            let set: redis::RedisResult<()> = redis.set(key, json).await;
            set.expect("Redis");
        }
        let cache = moka::sync::Cache::builder().max_capacity(100_000);
        let cache = cache.time_to_live(LONG).build();
        let by_hand = Self { cache, redis };
        for n in 0..TOKENS {
            by_hand.find(&tokens::token(n)).await.expect("a record");
        }
        by_hand
    }

    async fn find(&self, token: &str) -> Option<Arc<Record>> {
        if let Some(record) = self.cache.get(token) {
            return Some(record);
        }
        let mut redis = self.redis.clone();
        let json: Option<String> = redis.get(format!("by-hand:{token}")).await.ok()?;
        let record: Arc<Record> = Arc::new(serde_json::from_str(&json?).ok()?);
        self.cache.insert(token.to_owned(), Arc::clone(&record));
        Some(record)
    }
}

async fn authenticate(State(by_hand): State<ByHand>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION);
    let token = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let found = match token {
        Some(token) => by_hand.find(token).await,
        None => None,
    };
    match found.filter(|record| record.token_type == "app") {
        Some(record) => {
            request.extensions_mut().insert(record);
            next.run(request).await
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}
