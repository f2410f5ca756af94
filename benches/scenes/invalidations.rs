//! Requests during invalidations: one process does 2,000 lookups per second while another one invalidates other
//! tokens in the same Redis. Periods with and without invalidations take turns.
//!
//! Lookups are due at fixed times, and do not wait for earlier ones. The latency of a lookup begins at its due
//! time, so it includes the wait before its start. The settings are the defaults.
//!
//! `cargo bench --bench scenes --all-features -- invalidations` takes two minutes.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::child::Child;
use crate::common::good;
use crate::common::good::token;
use crate::common::program;
use crate::common::table::{aside, median, row};
use test_support::{Dice, RedisServer};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tower_api_token::{ApiTokenCache, Origin, RedisStore, TokenDigest};

const TOKENS: usize = 10_000;
/// Lookups per second.
const RATE: u32 = 2_000;
const PERIOD: Duration = Duration::from_millis(2_500);
/// The number of periods with, and of those without invalidations.
const PERIODS: usize = 8;
/// The number of concurrent invalidations.
const AT_ONCE: usize = 32;
/// Invalidations per second, so that all periods together have 100,000.
const PACE: u64 = 5_000;
/// As fast as possible.
const NO_PACE: u64 = 0;
/// The number of tokens that are invalidated, which are all cached at the beginning of a period.
const OTHERS: u64 = 100_000;

fn other(n: u64) -> String {
    format!("other-{:024}", n % OTHERS)
}

fn cache(url: &str) -> ApiTokenCache {
    let store = RedisStore::new(url).expect("a url");
    let builder = good::builder().store(store);
    builder.build().expect("a configuration")
}

pub(crate) fn main() {
    let arguments = program::arguments();
    let runtime = Runtime::new().expect("a runtime");
    if let [invalidate, url] = arguments.as_slice()
        && invalidate == "invalidate"
    {
        Invalidating::new(url).obey(&runtime);
        return;
    }
    let server = RedisServer::start();
    let cache = cache(&server.url());
    runtime.block_on(async {
        for n in 0..TOKENS {
            cache.warm(&token(n)).await.expect("primed");
        }
    });
    let mut load = Load {
        runtime,
        cache,
        dice: Dice::new(0, 0),
    };
    let mut invalidator = Child::start(["invalidate", &server.url()]);
    load.period(&mut Latencies::default());
    compare(&mut load, &mut invalidator, PACE);
    compare(&mut load, &mut invalidator, NO_PACE);
    invalidator.stop();
}

fn compare(load: &mut Load, invalidator: &mut Child, pace: u64) {
    let (mut alone, mut beside) = (Latencies::default(), Latencies::default());
    let mut invalidations = 0;
    for _ in 0..PERIODS {
        load.period(&mut alone);
        invalidator.order(pace);
        // All tokens are cached, and the invalidations are about to begin.
        invalidator.answer();
        load.period(&mut beside);
        invalidations += invalidator.answer()[0] as u64;
    }
    let noise = alone.p99s.iter().copied().fold(0.0, f64::max);
    let usual = median(beside.p99s.clone());
    let each_second = invalidations as f64 / (PERIODS as f64 * PERIOD.as_secs_f64());
    let measured = format!("alone {}; beside {}", alone.in_words(), beside.in_words());
    let what =
        format!("{RATE} lookups/s beside {each_second:.0} invalidations/s, {invalidations} in all");
    if pace == NO_PACE {
        aside(
            &format!("{what}, as fast as {AT_ONCE} at once go"),
            measured,
        );
        return;
    }
    // With noise of twice the figure, the result is meaningless.
    let is_quiet = noise <= 2.0 * median(alone.p99s.clone());
    let is_reached = is_quiet && usual <= noise && beside.failed == 0 && invalidations >= 100_000;
    row(
        &what,
        "p99 as without, within its noise",
        measured,
        is_reached,
    );
}

/// The latencies, in microseconds.
#[derive(Default)]
struct Latencies {
    all: Vec<f64>,
    /// Those of each period.
    p99s: Vec<f64>,
    local: usize,
    failed: usize,
}

impl Latencies {
    fn in_words(&self) -> String {
        let mut all = self.all.clone();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| quantile(&mut all, share));
        let least = self.p99s.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.p99s.iter().copied().fold(0.0, f64::max);
        let local = 100.0 * self.local as f64 / all.len() as f64;
        format!(
            "p50 {p50:.0}, p99 {p99:.0} ({least:.0} to {most:.0} in {} periods), p99.9 {p999:.0} µs, \
             {local:.0} % local, {} failed",
            self.p99s.len(),
            self.failed
        )
    }
}

fn quantile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let place = (figures.len() as f64 * share) as usize;
    figures[place.min(figures.len() - 1)]
}

struct Load {
    runtime: Runtime,
    cache: ApiTokenCache,
    dice: Dice,
}

impl Load {
    /// Does lookups at their due times, and records the results.
    fn period(&mut self, latencies: &mut Latencies) {
        let count = (f64::from(RATE) * PERIOD.as_secs_f64()) as u32;
        let start = Instant::now();
        let mut asked = Vec::with_capacity(count as usize);
        for nth in 0..count {
            let due = start + nth * Duration::from_secs(1) / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (cache, token) = (self.cache.clone(), token(self.any()));
            asked.push(self.runtime.spawn(async move {
                let answer = cache.authenticate_typed(&token, "app").await;
                let late = due.elapsed();
                let found = answer.ok().and_then(|answer| answer.valid());
                (late, found.map(|found| found.origin()))
            }));
        }
        let mut micros = Vec::with_capacity(asked.len());
        for one in asked {
            let (late, origin) = self.runtime.block_on(one).expect("no panic");
            micros.push(late.as_nanos() as f64 / 1e3);
            latencies.local += usize::from(origin == Some(Origin::Local));
            latencies.failed += usize::from(origin.is_none());
        }
        latencies.p99s.push(quantile(&mut micros, 0.99));
        latencies.all.extend(micros);
    }

    /// Picks a token. A tenth of the tokens has half of the lookups.
    fn any(&mut self) -> usize {
        (TOKENS as f64 * self.dice.fraction().powi(3)) as usize
    }
}

/// The other process.
struct Invalidating {
    url: String,
    cache: ApiTokenCache,
}

impl Invalidating {
    fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            cache: cache(url),
        }
    }

    /// For each line of the input, which is a rate: caches all tokens, reports that, invalidates for a period,
    /// and reports how many.
    fn obey(&self, runtime: &Runtime) {
        for line in std::io::stdin().lock().lines() {
            let pace = line.expect("a line").parse().expect("a pace");
            runtime.block_on(self.cache_all());
            println!("{OTHERS}");
            println!("{}", runtime.block_on(self.invalidate(pace)));
        }
    }

    /// Writes what a fill writes for an unknown token, which the invalidation of a new token deletes.
    async fn cache_all(&self) {
        let client = redis::Client::open(self.url.as_str()).expect("a url");
        // No timeout for a pipeline.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&patient);
        let mut connection = connection.await.expect("a connection");
        let all: Vec<u64> = (0..OTHERS).collect();
        for some in all.chunks(1_000) {
            let mut pipeline = redis::pipe();
            for &n in some {
                let key = format!("api_token:token:{{{}}}", TokenDigest::of(&other(n)));
                let set = pipeline.cmd("SET").arg(key).arg("N1");
                set.arg("EX").arg(60).ignore();
            }
            let written = pipeline.query_async::<()>(&mut connection).await;
            written.expect("Redis takes them");
        }
    }

    async fn invalidate(&self, pace: u64) -> u64 {
        let (start, next) = (Instant::now(), Arc::<AtomicU64>::default());
        let mut running = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (cache, next) = (self.cache.clone(), Arc::clone(&next));
            running.spawn(async move {
                let mut done = 0;
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    let due = match pace {
                        NO_PACE => start.elapsed(),
                        pace => Duration::from_secs_f64(n as f64 / pace as f64),
                    };
                    if due >= PERIOD {
                        return done;
                    }
                    tokio::time::sleep_until((start + due).into()).await;
                    done += u64::from(cache.invalidate(&other(n)).await.is_ok());
                }
            });
        }
        running.join_all().await.into_iter().sum()
    }
}
