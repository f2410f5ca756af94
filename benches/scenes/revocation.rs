//! The time from an invalidation on one instance to the first refusal on another one that had the token in memory, with
//! client tracking and without: on idle instances, and beside lookups of other tokens.
//!
//! `cargo bench --bench scenes --all-features -- revocation` takes two minutes.
//!
//! The time begins before the invalidation is called and ends when a lookup, which is repeated without a pause, is
//! refused. `max_staleness` is 1 s, the default.

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
        "| client tracking | beside | revocations | p50, ms | p99, ms | longest, ms |\n|---|---|---|---|---|---|"
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
    let mut took = Vec::new();
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
        while is_valid(&two, &token).await {
            tokio::task::yield_now().await;
        }
        took.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    done.store(true, Relaxed);
    let rate = answered.load(Relaxed) as f64 / begun.elapsed().as_secs_f64();
    if let Some(load) = load {
        load.await.expect("the load ends");
    }
    took.sort_by(f64::total_cmp);
    let quantile = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    println!(
        "| {} | {rate:.0} lookups/s | {times} | {:.3} | {:.3} | {:.3} |",
        if tracking { "on" } else { "off" },
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
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
