//! A typical hand-written middleware: a function, and Redis over redis-rs's `ConnectionManager`, with or
//! without a cache in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;

use crate::common::hot;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Record {
    id: String,
    token_type: String,
    tenant_id: Option<String>,
}

/// A cache that sends a GET for each request.
#[derive(Clone)]
pub(crate) struct Uncached(ConnectionManager);

/// A cache in memory with a TTL, in front of Redis.
#[derive(Clone)]
pub(crate) struct Cached {
    memory: moka::sync::Cache<String, Arc<Record>>,
    redis: Uncached,
}

impl Uncached {
    pub(crate) async fn connect(redis: &str) -> Self {
        let client = redis::Client::open(redis).expect("a url");
        Self(ConnectionManager::new(client).await.expect("Redis"))
    }

    /// Fills Redis with this number of tokens.
    pub(crate) async fn write(&self, tokens: usize, tenant: Option<&str>) {
        let mut redis = self.0.clone();
        for n in 0..tokens {
            let record = Record {
                id: hot::id(n),
                token_type: hot::TYPE.to_owned(),
                tenant_id: tenant.map(str::to_owned),
            };
            let json = serde_json::to_string(&record).expect("JSON");
            let set: redis::RedisResult<()> = redis.set(key(&hot::token(n)), json).await;
            set.expect("Redis");
        }
    }

    async fn find(&self, token: &str) -> Option<Record> {
        let mut redis = self.0.clone();
        let json: Option<String> = redis.get(key(token)).await.ok()?;
        serde_json::from_str(&json?).ok()
    }

    /// Finds the token, or loads it from a database in memory, and stores it for ten minutes.
    async fn find_or_load(&self, token: &str) -> Option<Record> {
        if let Some(record) = self.find(token).await {
            return Some(record);
        }
        let record = Record {
            id: token.strip_prefix("app-")?.to_owned(),
            token_type: hot::TYPE.to_owned(),
            tenant_id: None,
        };
        let json = serde_json::to_string(&record).ok()?;
        let mut redis = self.0.clone();
        let set: redis::RedisResult<()> = redis.set_ex(key(token), json, 600).await;
        set.ok()?;
        Some(record)
    }
}

impl Cached {
    pub(crate) async fn connect(redis: &str, tokens: usize, ttl: Duration) -> Self {
        let redis = Uncached::connect(redis).await;
        redis.write(tokens, Some(hot::TENANT)).await;
        let memory = moka::sync::Cache::builder().max_capacity(100_000);
        let memory = memory.time_to_live(ttl).build();
        let cached = Self { memory, redis };
        for n in 0..tokens {
            cached.find(&hot::token(n)).await.expect("a record");
        }
        cached
    }

    async fn find(&self, token: &str) -> Option<Arc<Record>> {
        if let Some(record) = self.memory.get(token) {
            return Some(record);
        }
        let record = Arc::new(self.redis.find(token).await?);
        self.memory.insert(token.to_owned(), Arc::clone(&record));
        Some(record)
    }
}

fn key(token: &str) -> String {
    format!("by-hand:{token}")
}

pub(crate) async fn cached(
    State(cached): State<Cached>,
    mut request: Request,
    next: Next,
) -> Response {
    let found = match token(&request) {
        Some(token) => cached.find(token).await,
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

pub(crate) async fn uncached(
    State(uncached): State<Uncached>,
    request: Request,
    next: Next,
) -> Response {
    let found = match token(&request) {
        Some(token) => uncached.find(token).await,
        None => None,
    };
    admit(found, request, next).await
}

pub(crate) async fn loading(
    State(uncached): State<Uncached>,
    request: Request,
    next: Next,
) -> Response {
    let found = match token(&request) {
        Some(token) => uncached.find_or_load(token).await,
        None => None,
    };
    admit(found, request, next).await
}

async fn admit(found: Option<Record>, mut request: Request, next: Next) -> Response {
    match found.filter(|record| record.token_type == "app") {
        Some(record) => {
            request.extensions_mut().insert(record);
            next.run(request).await
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

fn token(request: &Request) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?;
    header.to_str().ok()?.strip_prefix("Bearer ")
}
