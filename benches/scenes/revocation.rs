//! The time from an invalidation on one instance to the first refusal on another one that had the token in memory, with
//! client tracking and without: on idle instances, and beside lookups of other tokens.
//!
//! `cargo bench --bench scenes --all-features -- revocation` takes two minutes.
//!
//! Lookups are repeated each 0.1 ms, because one that spins takes the core from the task that is to see the change.
//! The time begins before the invalidation is called. *In force* is when the first lookup begins that is refused.
//! *Refused* is when its answer is there, for which the token is read and loaded again. `max_staleness` is 1 s, the
//! default.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::good;
use test_support::{Dice, RedisServer};
use tower_api_token::{Answer, ApiTokenCache, Lookup, RedisStore, TokenRecord};

const TOKENS: usize = 10_000;
const TRACKED: usize = 1_000;
const UNTRACKED: usize = 40;
/// Lookups per second of other tokens.
const BESIDE: usize = 50_000;

/// Between two lookups of the token that is revoked. The operating system adds 50 µs.
const PAUSE: Duration = Duration::from_micros(50);

/// The tokens that are revoked, by number.
type Revoked = Arc<Vec<AtomicBool>>;

fn victim(n: usize) -> String {
    format!("app-victim-{n:020}")
}

fn instance(server: &RedisServer, revoked: &Revoked, tracking: bool) -> ApiTokenCache {
    let store = RedisStore::new(&server.url()).expect("a url");
    let revoked = Arc::clone(revoked);
    let loader = move |lookup: Lookup| {
        let token = lookup.token().expose().to_owned();
        let number = token
            .strip_prefix("app-victim-")
            .and_then(|it| it.parse::<usize>().ok());
        let gone = number.is_some_and(|number| revoked[number].load(Relaxed));
        async move {
            Ok::<_, std::io::Error>((!gone).then(|| TokenRecord::new("tok").token_type("app")))
        }
    };
    let cache = ApiTokenCache::builder(loader).store(store.client_tracking(tracking));
    cache
        .ttl(Duration::from_secs(3_600))
        .build()
        .expect("a cache")
}

pub(crate) fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    println!(
        "| client tracking | beside | revocations | in force after p50 / p99 / longest, ms | refused after, ms |\n|---|---|---|---|---|"
    );
    for (tracking, times) in [(true, TRACKED), (false, UNTRACKED)] {
        for beside in [0, BESIDE] {
            measure(tracking, times, beside).await;
        }
    }
}

async fn measure(tracking: bool, times: usize, beside: usize) {
    let server = RedisServer::start();
    let revoked: Revoked = Arc::new((0..times).map(|_| AtomicBool::new(false)).collect());
    let [one, two] = [(); 2].map(|()| instance(&server, &revoked, tracking));
    let done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let load = (beside > 0).then(|| {
        tokio::spawn(look_up_others(
            two.clone(),
            Arc::clone(&done),
            Arc::clone(&answered),
        ))
    });
    let begun = Instant::now();
    let (mut in_force, mut refused) = (Vec::new(), Vec::new());
    for n in 0..times {
        let token = victim(n);
        // Hot: in memory, and watched if that is possible.
        for _ in 0..3 {
            is_valid(&two, &token).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        revoked[n].store(true, Relaxed);
        let start = Instant::now();
        one.invalidate(&token).await.expect("confirmed");
        let mut asked = start.elapsed();
        while is_valid(&two, &token).await {
            // This thread is not one of the runtime's.
            std::thread::sleep(PAUSE);
            asked = start.elapsed();
        }
        in_force.push(asked);
        refused.push(start.elapsed());
    }
    done.store(true, Relaxed);
    let rate = answered.load(Relaxed) as f64 / begun.elapsed().as_secs_f64();
    if let Some(load) = load {
        load.await.expect("the load ends");
    }
    println!(
        "| {} | {rate:.0} lookups/s | {times} | {} | {} |",
        if tracking { "on" } else { "off" },
        quantiles(in_force),
        quantiles(refused)
    );
}

/// Returns the median, the 99th percentile and the largest in milliseconds.
fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let of = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let each = [0.5, 0.99, 1.0].map(|share| format!("{:.3}", of(share).as_secs_f64() * 1_000.0));
    each.join(" / ")
}

async fn is_valid(cache: &ApiTokenCache, token: &str) -> bool {
    let answer = cache.authenticate(token).await.expect("an answer");
    matches!(answer, Answer::Valid(_))
}

/// Looks up other tokens, at most [`BESIDE`] a second.
async fn look_up_others(cache: ApiTokenCache, done: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    let mut dice = Dice::new(0, 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while !done.load(Relaxed) {
        ticks.tick().await;
        for _ in 0..BESIDE / 1_000 {
            let token = good::token(dice.below(TOKENS));
            is_valid(&cache, &token).await;
            answered.fetch_add(1, Relaxed);
        }
    }
}
