//! The cost of a request for Redis as instances are added: one, two, four and eight instances share a Redis at
//! the same total rate of requests: without a local level, with one that is read again at half of `max_staleness` (1 s),
//! and with one that Redis keeps current (client tracking). Each instance has a connection of its own, and each request
//! goes to a random one.
//!
//! `cargo bench --bench scenes --all-features -- instances` takes two minutes.
//!
//! It measures the CPU time and the commands of Redis, heartbeats included, in slices of the three kinds that take
//! turns. The savings by a local level depend on the number of requests per token, so tokens are distributed uniformly,
//! and by Zipf's law, which is more realistic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::good;
use crate::common::table::{median, median_ratio};
use test_support::{Dice, RedisServer};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tower_api_token::{ApiTokenCache, RedisStore};

const TOKENS: usize = 10_000;
const INSTANCES: [usize; 4] = [1, 2, 4, 8];
/// Requests per second, over all instances.
const RATE: usize = 20_000;
const TICK: Duration = Duration::from_millis(1);
const BOUND: Duration = Duration::from_secs(1);
/// The time until the ages of entries no longer change.
const WARM_UP: Duration = Duration::from_secs(1);
const SLICE: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 3;

/// The distribution of requests over the tokens.
#[derive(Clone, Copy)]
enum Spread {
    Even,
    Zipf,
}

/// The cost of a request in one slice.
#[derive(Clone, Copy)]
struct Cost {
    micros: f64,
    commands: f64,
    /// Requests per second, which should be [`RATE`].
    rate: f64,
}

pub(crate) fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let server = RedisServer::start();
    let most = INSTANCES[INSTANCES.len() - 1];
    let tokens: Arc<[String]> = (0..TOKENS).map(good::token).collect();
    // Each kind has connections of its own, so that the heartbeats of the others count too: equally for all.
    let kinds = [Kind::Off, Kind::Refreshed, Kind::Tracked].map(|kind| {
        (0..most)
            .map(|_| instance(&server, kind))
            .collect::<Vec<_>>()
    });
    for token in &*tokens {
        kinds[0][0].warm(token).await.expect("primed");
    }
    // Each instance has met each token twice, as after some minutes.
    for instance in kinds[1..].iter().flatten() {
        for _ in 0..2 {
            for token in &*tokens {
                instance
                    .authenticate_typed(token, "app")
                    .await
                    .expect("an answer");
            }
        }
    }
    println!(
        "{TOKENS} tokens, {RATE} requests a second in all, S = {BOUND:?}; local level off / refreshed / tracked\n\n\
         | tokens | instances | Redis CPU, µs a request | refreshed / off | tracked / off | commands a request | requests/s |\n\
         |---|---|---|---|---|---|---|"
    );
    for (name, spread) in [("all alike", Spread::Even), ("by Zipf's law", Spread::Zipf)] {
        let mut load = Load::new(&tokens, spread);
        for count in INSTANCES {
            let mut costs = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (instances, costs) in kinds.iter().zip(&mut costs) {
                    costs.push(load.slice(&server, &instances[..count]).await);
                }
            }
            print(name, count, &costs);
        }
    }
}

fn print(name: &str, count: usize, costs: &[Vec<Cost>; 3]) {
    let all = |costs: &[Cost], of: fn(&Cost) -> f64| costs.iter().map(of).collect::<Vec<_>>();
    let each = |of: fn(&Cost) -> f64, digits: usize| {
        let medians = costs.each_ref().map(|costs| median(all(costs, of)));
        medians.map(|it| format!("{it:.digits$}")).join(" / ")
    };
    let micros: fn(&Cost) -> f64 = |cost| cost.micros;
    let [off, refreshed, tracked] = costs.each_ref().map(|costs| all(costs, micros));
    println!(
        "| {name} | {count} | {} | {:.2} | {:.2} | {} | {} |",
        each(micros, 2),
        median_ratio(&refreshed, &off),
        median_ratio(&tracked, &off),
        each(|cost| cost.commands, 3),
        each(|cost| cost.rate, 0),
    );
}

/// How a local level is kept current.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Off,
    Refreshed,
    Tracked,
}

fn instance(server: &RedisServer, kind: Kind) -> ApiTokenCache {
    let store = RedisStore::new(&server.url()).expect("a url");
    let store = store.client_tracking(kind == Kind::Tracked);
    let builder = good::builder()
        .store(store.response_timeout(Duration::from_secs(5)))
        .ttl(Duration::from_secs(3_600))
        .max_staleness(BOUND);
    let builder = if kind == Kind::Off {
        builder.local_capacity(0)
    } else {
        builder
    };
    builder.build().expect("a cache")
}

struct Load {
    tokens: Arc<[String]>,
    /// The cumulative share of each token; empty if all have the same.
    shares: Vec<f64>,
    dice: Dice,
}

impl Load {
    fn new(tokens: &Arc<[String]>, spread: Spread) -> Self {
        let mut sum = 0.0;
        let shares = (1..=tokens.len()).map(|rank| {
            sum += match spread {
                Spread::Even => 1.0,
                Spread::Zipf => 1.0 / rank as f64,
            };
            sum
        });
        Self {
            shares: shares.collect(),
            tokens: Arc::clone(tokens),
            dice: Dice::new(0, 0),
        }
    }

    /// Measures the cost of a request, after a time in which nothing is counted.
    async fn slice(&mut self, server: &RedisServer, instances: &[ApiTokenCache]) -> Cost {
        self.ask_for(WARM_UP, instances).await;
        let (start, before) = (Instant::now(), Counted::by(server));
        let answered = self.ask_for(SLICE, instances).await as f64;
        let (after, took) = (Counted::by(server), start.elapsed());
        Cost {
            micros: (after.micros - before.micros) / answered,
            commands: (after.commands - before.commands) / answered,
            rate: answered / took.as_secs_f64(),
        }
    }

    /// Spawns a task for each request that is due at a tick, without waiting for earlier ones. A late tick
    /// catches up.
    async fn ask_for(&mut self, time: Duration, instances: &[ApiTokenCache]) -> usize {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let answered = Arc::new(AtomicUsize::new(0));
        let mut asking = JoinSet::new();
        for _ in 0..time.as_millis() / TICK.as_millis() {
            ticks.tick().await;
            for _ in 0..RATE * TICK.as_millis() as usize / 1_000 {
                let token = self.token();
                let cache = instances[self.dice.below(instances.len())].clone();
                let (tokens, answered) = (Arc::clone(&self.tokens), Arc::clone(&answered));
                asking.spawn(async move {
                    let answer = cache.authenticate_typed(&tokens[token], "app").await;
                    answer.expect("an answer").valid().expect("a token");
                    answered.fetch_add(1, Relaxed);
                });
            }
            while asking.try_join_next().is_some() {}
        }
        asking.join_all().await;
        answered.load(Relaxed)
    }

    fn token(&mut self) -> usize {
        let all = self.shares[self.shares.len() - 1];
        let at = self.dice.fraction() * all;
        self.shares.partition_point(|sum| *sum <= at)
    }
}

/// The CPU time and the commands of Redis since it started.
struct Counted {
    micros: f64,
    commands: f64,
}

impl Counted {
    fn by(server: &RedisServer) -> Self {
        let number = |section, field| server.info::<f64>(section, field).expect("the figure");
        Self {
            micros: 1e6 * (number("cpu", "used_cpu_sys") + number("cpu", "used_cpu_user")),
            commands: number("stats", "total_commands_processed"),
        }
    }
}
