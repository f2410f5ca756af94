//! Code that the tests share.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its own part"
)]

#[path = "../../../../tests/it/common/points.rs"]
mod points;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fleet::interop::database::{Database, Row};
use fleet::interop::python::{Python, Version};
pub use points::{Points, until};
use serde_json::{Value, json};
use test_support::RedisServer;
use tokio::task::JoinHandle;
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::{
    Answer, ApiTokenCache, ApiTokenCacheBuilder, CachedApiToken, Origin, Unavailable,
};

pub const TOKEN: &str = "app-0123456789abcdef";
pub const ENTRY: &str = "api_token:app:app-0123456789abcdef";
pub const LOCK: &str = "api_token_query_lock:app:app-0123456789abcdef";
pub const APP: Option<&str> = Some("app");

/// A Redis, a database, and nodes of both sides.
pub struct World {
    pub redis: RedisServer,
    pub database: Arc<Database>,
}

impl World {
    pub fn new() -> Self {
        Self {
            redis: RedisServer::start(),
            database: Database::new(),
        }
    }

    pub fn with(row: Row) -> Self {
        let world = Self::new();
        world.database.commit(TOKEN, row);
        world
    }

    pub fn python(&self, version: Version) -> Python {
        Python::new(version, &self.redis)
    }

    pub fn builder(&self) -> ApiTokenCacheBuilder<()> {
        self.database.cache(&self.redis)
    }

    /// Returns our cache without a local level, so that answers come from Redis.
    pub fn rust(&self) -> ApiTokenCache {
        self.builder().local_capacity(0).build().unwrap()
    }

    /// Records a use of the token on our side, and waits until its time is in Redis.
    pub async fn use_token(&self, token: &str, scope: Option<&str>) {
        let builder = self.builder().last_use(LastUseRecorder::store_only());
        let rust = builder.build().unwrap();
        let answer = ask_in(&rust, token, scope).await.unwrap();
        assert!(answer.valid().is_some());
        assert_eq!(rust.shutdown().await, 0);
    }

    /// Returns such a cache with sync points in its calls.
    pub fn held(&self) -> (ApiTokenCache, Points) {
        let points = Points::default();
        let builder = self
            .builder()
            .local_capacity(0)
            .sync_points(points.sync_points());
        (builder.build().unwrap(), points)
    }

    pub fn text(&self, name: &str) -> Option<String> {
        let bytes = self.redis.get(name)?;
        Some(String::from_utf8(bytes).unwrap())
    }

    pub fn members(&self, set: &str) -> Vec<String> {
        let members = self.redis.command(&["SMEMBERS", set]).array();
        let mut members: Vec<_> = members.into_iter().map(|member| member.text()).collect();
        members.sort();
        members
    }
}

/// Returns a record as Python writes it, of the type `app`, without a tenant and times.
pub fn record(id: &str, token: &str) -> Value {
    json!({
        "id": id,
        "app_id": null,
        "tenant_id": null,
        "type": "app",
        "token": token,
        "last_used_at": null,
        "created_at": null,
    })
}

pub fn record_of(id: &str, token: &str, tenant: &str) -> Value {
    let mut record = record(id, token);
    record["tenant_id"] = tenant.into();
    record
}

/// Returns the time this number of microseconds after 2026-01-02T03:04:05 in UTC.
pub fn micros_after(micros: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045) + Duration::from_micros(micros)
}

pub async fn ask(cache: &ApiTokenCache, token: &str) -> Result<Answer, Unavailable> {
    ask_in(cache, token, APP).await
}

/// Requests a token of a type, or of any type, as Python does without one.
pub async fn ask_in(
    cache: &ApiTokenCache,
    token: &str,
    scope: Option<&str>,
) -> Result<Answer, Unavailable> {
    match scope {
        Some(token_type) => cache.authenticate_typed(token, token_type).await,
        None => cache.authenticate(token).await,
    }
}

/// Returns the token of an answer, which must be valid.
pub async fn found(cache: &ApiTokenCache, token: &str) -> CachedApiToken {
    match ask(cache, token).await {
        Ok(Answer::Valid(token)) => token,
        answer => panic!("{answer:?}"),
    }
}

/// Returns the token of an answer, which must be from Redis.
pub async fn found_shared(cache: &ApiTokenCache, token: &str) -> CachedApiToken {
    let token = found(cache, token).await;
    assert_eq!(token.origin(), Origin::Shared);
    token
}

pub async fn is_absent(cache: &ApiTokenCache, token: &str) -> bool {
    matches!(ask(cache, token).await, Ok(Answer::Invalid(_)))
}

/// An open request.
pub fn start(cache: &ApiTokenCache, token: &str) -> Answering {
    let (cache, token) = (cache.clone(), token.to_owned());
    tokio::spawn(async move { ask(&cache, &token).await })
}

pub type Answering = JoinHandle<Result<Answer, Unavailable>>;
