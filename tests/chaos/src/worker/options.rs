//! A worker's command line, and the engine that it asks for.

use std::net::SocketAddr;
use std::time::Duration;

use tower_api_token::{ApiTokenCache, RedisStore};

use super::loader::FromDriver;
use crate::settings::{BOUND, LOAD_DEADLINE, NULL_TTL, SCOPE, TTL};

/// What a worker is told on its command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where Redis is, or the proxy in front of it.
    pub redis: SocketAddr,
    /// Where the driver's database is.
    pub database: SocketAddr,
    /// What chance is drawn from.
    pub seed: u64,
    /// Whether it has a local level.
    pub local: bool,
    /// Whether Redis may take seconds to answer: for tests that count, on a busy machine.
    pub patient: bool,
}

impl Options {
    /// As words for a command line.
    pub fn to_words(&self) -> Vec<String> {
        vec![
            "worker".to_owned(),
            self.redis.to_string(),
            self.database.to_string(),
            self.seed.to_string(),
            self.local.to_string(),
            self.patient.to_string(),
        ]
    }

    /// Reads what [`to_words`](Self::to_words) wrote, without its first word.
    pub fn from_words(words: &[String]) -> Option<Self> {
        let [redis, database, seed, local, patient] = words else {
            return None;
        };
        Some(Self {
            redis: redis.parse().ok()?,
            database: database.parse().ok()?,
            seed: seed.parse().ok()?,
            local: local.parse().ok()?,
            patient: patient.parse().ok()?,
        })
    }

    pub(super) fn cache(&self) -> ApiTokenCache<u64> {
        let mut store =
            RedisStore::connect(&format!("redis://{}", self.redis)).expect("a good URL");
        let mut builder = ApiTokenCache::builder(FromDriver::new(self.database));
        if self.patient {
            let patience = Duration::from_secs(10);
            store = store.deadline(patience).connect_deadline(patience);
            builder = builder.load_deadline(patience);
        } else {
            builder = builder.load_deadline(LOAD_DEADLINE);
        }
        if !self.local {
            builder = builder.local_capacity(0);
        }
        builder
            .store(store)
            .scopes([SCOPE])
            .staleness_bound(BOUND)
            .ttl(TTL)
            .null_ttl(NULL_TTL)
            .build()
            .expect("good settings")
    }
}
