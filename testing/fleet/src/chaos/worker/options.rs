//! A worker's command line, and the engine that it describes.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tower_api_token::{ApiTokenCache, RedisStore};

use super::loader::FromDriver;
use crate::chaos::settings::{BOUND, LOAD_TIMEOUT, NEGATIVE_TTL, TOKEN_TYPE, TTL};

/// The options on a worker's command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// The URL of Redis, or of the proxy in front of it.
    pub redis: String,
    /// The address of the driver's database.
    pub database: SocketAddr,
    /// The seed of random numbers.
    pub seed: u64,
    /// Its staleness bound; zero without a local level.
    pub bound: Duration,
    /// The number of replicas that its invalidations wait for.
    pub replicas: usize,
    /// Whether Redis may take seconds to answer, for tests that count on a busy machine.
    pub patient: bool,
    /// Whether Redis reports changes of its local entries.
    pub tracking: bool,
}

impl Options {
    /// Formats the options for a command line.
    pub fn to_words(&self) -> Vec<String> {
        vec![
            "worker".to_owned(),
            self.redis.clone(),
            self.database.to_string(),
            self.seed.to_string(),
            self.bound.as_millis().to_string(),
            self.replicas.to_string(),
            self.patient.to_string(),
            self.tracking.to_string(),
        ]
    }

    /// Parses the output of [`to_words`](Self::to_words) without its first word.
    pub fn from_words(words: &[String]) -> Option<Self> {
        fn read<T: FromStr>(word: &str) -> Option<T> {
            word.parse().ok()
        }
        let [redis, database, seed, bound, replicas, patient, tracking] = words else {
            return None;
        };
        Some(Self {
            redis: redis.clone(),
            database: read(database)?,
            seed: read(seed)?,
            bound: Duration::from_millis(read(bound)?),
            replicas: read(replicas)?,
            patient: read(patient)?,
            tracking: read(tracking)?,
        })
    }

    pub(super) fn cache(&self) -> ApiTokenCache<u64> {
        let mut store = RedisStore::new(&self.redis).expect("a good URL");
        if !self.tracking {
            store = store.client_tracking(false);
        }
        let mut builder = ApiTokenCache::builder(FromDriver::new(self.database));
        if self.patient {
            let patience = Duration::from_secs(10);
            store = store.response_timeout(patience).connect_timeout(patience);
            builder = builder.load_timeout(patience);
        } else {
            builder = builder.load_timeout(LOAD_TIMEOUT);
        }
        let mut bound = self.bound;
        if bound.is_zero() {
            builder = builder.local_capacity(0);
            bound = BOUND;
        }
        builder
            .store(store)
            .token_types([TOKEN_TYPE])
            .max_staleness(bound)
            .ttl(TTL)
            .negative_ttl(NEGATIVE_TTL)
            .build()
            .expect("good settings")
    }
}
