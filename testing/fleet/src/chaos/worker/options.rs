//! A worker's command line, and the engine that it describes.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tower_api_token::store::KeyLayout;
use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, RedisStore};

use super::loader::FromDriver;
use crate::chaos::settings::{BOUND, LOAD_TIMEOUT, NEGATIVE_TTL, Rate, TOKEN_TYPE, TTL};

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
    /// Whether the layout is Dify's.
    pub dify: bool,
    /// The rate of its clock.
    pub rate: Rate,
}

impl Options {
    /// Formats the options for a command line.
    pub fn to_words(&self) -> Vec<String> {
        let mut words = vec![
            "worker".to_owned(),
            self.redis.clone(),
            self.database.to_string(),
            self.seed.to_string(),
            self.bound.as_millis().to_string(),
            self.replicas.to_string(),
            self.patient.to_string(),
            self.tracking.to_string(),
        ];
        // Otherwise left out, because a former release's worker does not know them.
        if self.dify || self.rate != Rate::EXACT {
            words.extend([self.dify.to_string(), self.rate.0.to_string()]);
        }
        words
    }

    /// Parses the output of [`to_words`](Self::to_words) without its first word.
    pub fn from_words(words: &[String]) -> Option<Self> {
        fn read<T: FromStr>(word: &str) -> Option<T> {
            word.parse().ok()
        }
        let [
            redis,
            database,
            seed,
            bound,
            replicas,
            patient,
            tracking,
            rest @ ..,
        ] = words
        else {
            return None;
        };
        let (dify, rate) = match rest {
            [] => (false, Rate::EXACT),
            [dify, rate] => (read(dify)?, Rate(read(rate)?)),
            _ => return None,
        };
        Some(Self {
            redis: redis.clone(),
            database: read(database)?,
            seed: read(seed)?,
            bound: Duration::from_millis(read(bound)?),
            replicas: read(replicas)?,
            patient: read(patient)?,
            tracking: read(tracking)?,
            dify,
            rate,
        })
    }

    pub(super) fn cache(&self) -> ApiTokenCache<u64> {
        let mut store = store(&self.redis, self.dify);
        if !self.tracking {
            store = store.client_tracking(false);
        }
        let builder = ApiTokenCache::builder(FromDriver::new(self.database));
        let mut builder = with_clock(builder, self.rate);
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

/// Describes a store in one of the two layouts.
pub(crate) fn store(url: &str, dify: bool) -> RedisStore {
    let store = RedisStore::new(url).expect("a good URL");
    if dify {
        store.key_layout(KeyLayout::dify())
    } else {
        store
    }
}

/// Sets a clock of this rate.
///
/// # Panics
/// Panics if it is not the system clock's, and the feature `clocks` is off.
pub(crate) fn with_clock(
    builder: ApiTokenCacheBuilder<u64>,
    rate: Rate,
) -> ApiTokenCacheBuilder<u64> {
    if rate == Rate::EXACT {
        return builder;
    }
    #[cfg(feature = "clocks")]
    return builder.clock(tower_api_token::test_util::ManualClock::running(rate.0));
    #[cfg(not(feature = "clocks"))]
    panic!("clocks of other rates need the feature `clocks`");
}
