//! A cold start: concurrent requests for 10,000 tokens, none of which is cached, with a database that answers
//! in 5 ms and has 50 connections. All settings are the defaults. For comparison the same queries are made
//! without a cache, because 5 ms of a timer are up to 6.
//!
//! `cargo bench --bench scenes --all-features -- cold_start` takes half a minute, and `… cold_start 1000` uses
//! fewer tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::program;
use crate::common::table::{aside, median, median_ratio, row};
use test_support::RedisServer;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower_api_token::{ApiTokenCache, Lookup, RedisStore, TokenRecord};

const CONNECTIONS: usize = 50;
const QUERY: Duration = Duration::from_millis(5);
const GOAL: f64 = 1.3;
const ROUNDS: usize = 7;

/// A pool of connections that counts queries.
struct Database {
    connections: Semaphore,
    /// The number of queries for each token.
    queries: Vec<AtomicUsize>,
    now: AtomicUsize,
    /// The maximum number of concurrent queries, including those that wait for a connection.
    most: AtomicUsize,
}

impl Database {
    fn new(tokens: usize) -> Arc<Self> {
        Arc::new(Self {
            connections: Semaphore::new(CONNECTIONS),
            queries: (0..tokens).map(|_| AtomicUsize::new(0)).collect(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    async fn query(&self, n: usize) {
        self.queries[n].fetch_add(1, SeqCst);
        self.most
            .fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        let connection = self.connections.acquire().await.expect("open");
        tokio::time::sleep(QUERY).await;
        drop(connection);
        self.now.fetch_sub(1, SeqCst);
    }

    fn cache(self: &Arc<Self>, store: Option<RedisStore>) -> ApiTokenCache {
        let database = Arc::clone(self);
        let loader = move |lookup: Lookup| {
            let database = Arc::clone(&database);
            async move {
                database.query(number(lookup.token().expose())).await;
                Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1").token_type("app")))
            }
        };
        let builder = ApiTokenCache::builder(loader).token_types(["app"]);
        let builder = match store {
            Some(store) => builder.store(store),
            None => builder,
        };
        builder.build().expect("a configuration")
    }
}

fn token(n: usize) -> String {
    format!("app-{n:024}")
}

fn number(token: &str) -> usize {
    let number = token.strip_prefix("app-").and_then(|n| n.parse().ok());
    number.expect("one of ours")
}

/// The figures of the starts with one store.
#[derive(Default)]
struct Starts {
    seconds: Vec<f64>,
    refused: usize,
    loaded_again: usize,
    most: usize,
    store_errors: u64,
}

impl Starts {
    async fn start(&mut self, tokens: usize, store: Option<RedisStore>) {
        let database = Database::new(tokens);
        let cache = database.cache(store);
        let ask = |n| {
            let cache = cache.clone();
            async move {
                let answer = cache.authenticate_typed(&token(n), "app").await;
                answer.is_ok_and(|answer| answer.valid().is_some())
            }
        };
        let (seconds, answers) = at_once(tokens, ask).await;
        self.seconds.push(seconds);
        self.refused += answers.iter().filter(|found| !**found).count();
        let again = database.queries.iter().filter(|n| n.load(SeqCst) != 1);
        self.loaded_again += again.count();
        self.most = self.most.max(database.most.load(SeqCst));
        self.store_errors += cache.stats().store_errors;
    }

    fn print(&self, store: &str, tokens: usize, alone: &[f64]) {
        let ratio = median_ratio(&self.seconds, alone);
        let seconds = median(self.seconds.clone());
        let measured = format!(
            "{seconds:.2} s: {ratio:.2} × the database alone, {:.2} × the ideal; in {ROUNDS} starts at most {} loads at once, \
             {} refused, {} not loaded once, {} errors of the store",
            seconds / ideal(tokens),
            self.most,
            self.refused,
            self.loaded_again,
            self.store_errors,
        );
        let counts = self.refused + self.loaded_again == 0 && self.store_errors == 0;
        row(
            &format!("cold start, {tokens} tokens at once, {store}"),
            &format!("≤ {GOAL} × the database alone, ≤ {CONNECTIONS} loads at once, none refused"),
            measured,
            ratio <= GOAL && self.most <= CONNECTIONS && counts,
        );
    }
}

/// Returns the seconds of a start if each query took exactly 5 ms.
fn ideal(tokens: usize) -> f64 {
    tokens as f64 / CONNECTIONS as f64 * QUERY.as_secs_f64()
}

/// Requests all tokens, each in a task of its own, and returns the time until the last response.
async fn at_once<F, T>(tokens: usize, ask: impl Fn(usize) -> F) -> (f64, Vec<T>)
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let start = Instant::now();
    let mut asked = JoinSet::new();
    for n in 0..tokens {
        asked.spawn(ask(n));
    }
    let answers = asked.join_all().await;
    (start.elapsed().as_secs_f64(), answers)
}

async fn alone(tokens: usize) -> f64 {
    let database = Database::new(tokens);
    let query = |n| {
        let database = Arc::clone(&database);
        async move { database.query(n).await }
    };
    at_once(tokens, query).await.0
}

#[tokio::main]
pub(crate) async fn main() {
    let tokens = program::number(10_000);
    let server = RedisServer::start();
    let (mut without, mut memory, mut redis) = (Vec::new(), Starts::default(), Starts::default());
    for _ in 0..ROUNDS {
        without.push(alone(tokens).await);
        memory.start(tokens, None).await;
        server.flushall();
        let store = RedisStore::new(&server.url()).expect("a url");
        redis.start(tokens, Some(store)).await;
    }
    let seconds = median(without.clone());
    let measured = format!("{seconds:.2} s: {:.2} × the ideal", seconds / ideal(tokens));
    aside(
        &format!("{tokens} tokens at once, the database alone"),
        measured,
    );
    memory.print("in memory", tokens, &without);
    redis.print("Redis", tokens, &without);
}
