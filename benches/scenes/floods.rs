//! A million unknown tokens beside a thousand valid ones, through the layer: memory, the answers to the valid
//! ones, and what remains in the caches.
//!
//! `cargo bench --bench scenes --all-features -- floods` takes about two minutes, and `… floods 100000` uses fewer
//! tokens.

use std::time::Duration;

use crate::common::program;
use crate::common::table::resident_bytes;
use crate::flood::{Flood, Report};
use test_support::RedisServer;
use tower_api_token::{ApiTokenCacheBuilder, RedisStore};

const GOOD: usize = 1_000;

/// Much longer than a run. So the count at the end includes everything that was written, and a valid token
/// that is not answered locally was evicted.
const LONG: Duration = Duration::from_secs(3_600);

pub(crate) fn main() {
    let invented = program::number(1_000_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!(
        "{GOOD} valid tokens, {invented} unknown ones, one valid request per ten\n\n\
         | | seconds | invented/s | good: local | good: p50, p99 µs | MB primed, at a tenth, at the end | loads | local records, nulls | nulls in the store |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    runtime.block_on(async {
        in_memory(invented).await;
        over_redis("Redis", invented, false, LONG).await;
        over_redis("Redis, S = 1 s", invented, false, Duration::from_secs(1)).await;
        over_redis("Redis, token format", invented, true, LONG).await;
    });
}

async fn in_memory(invented: usize) {
    let mut flood = Flood::new(GOOD, false, |builder| builder.negative_ttl(LONG));
    let row = run(&mut flood, invented).await;
    let remembered = flood.remembered().await;
    println!("| in memory {row} {remembered} |");
}

async fn over_redis(name: &str, invented: usize, checked: bool, bound: Duration) {
    let server = RedisServer::start();
    let store = RedisStore::new(&server.url()).expect("a url");
    let build = |builder: ApiTokenCacheBuilder<()>| {
        let builder = builder.store(store).max_staleness(bound);
        builder.ttl(LONG).negative_ttl(LONG)
    };
    let mut flood = Flood::new(GOOD, checked, build);
    let counting = tokio::spawn(most_in_a_second(server.url()));
    let row = run(&mut flood, invented).await;
    counting.abort();
    let nulls = server.keys("api_token:token:*").len() - GOOD;
    let most = MOST.swap(0, std::sync::atomic::Ordering::Relaxed);
    let capped = flood.cache.stats().negative_writes_skipped;
    let (gets, evals) = (server.command_count("get"), server.command_count("eval"));
    println!(
        "| {name} {row} {nulls}, at most {most} a second; {capped} capped; {gets} GET, {evals} EVAL |"
    );
}

static MOST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Prints the maximum growth of the number of keys within a second, without the valid tokens at the beginning.
async fn most_in_a_second(url: String) {
    let client = redis::Client::open(url).expect("a url");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("Redis");
    let mut before: Option<u64> = None;
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let size = redis::cmd("DBSIZE").query_async(&mut connection).await;
        let size: u64 = size.expect("a number");
        if let Some(before) = before.filter(|before| *before >= GOOD as u64) {
            let more = size.saturating_sub(before);
            MOST.fetch_max(more, std::sync::atomic::Ordering::Relaxed);
        }
        before = Some(size);
    }
}

/// Warms the cache, floods it, and describes the result, without the store.
async fn run(flood: &mut Flood, invented: usize) -> String {
    flood.warm().await;
    let primed = resident_bytes() / 1e6;
    let mut first = flood.run(invented / 10).await;
    let tenth = resident_bytes() / 1e6;
    let rest = flood.run(invented - invented / 10).await;
    let end = resident_bytes() / 1e6;
    merge(&mut first, rest);
    let stats = flood.cache.stats();
    let (records, nulls) = (stats.local_records, stats.local_negatives);
    let seconds = first.elapsed.as_secs_f64();
    let micros = |share: usize| {
        let place = (first.latencies.len() * share / 100).min(first.latencies.len() - 1);
        first.latencies[place].as_nanos() as f64 / 1_000.0
    };
    format!(
        "| {seconds:.1} | {:.0} | {:.3} % | {:.1}, {:.1} | {primed:.1}, {tenth:.1}, {end:.1} | {} | {records}, {nulls} |",
        invented as f64 / seconds,
        100.0 * first.local_share(),
        micros(50),
        micros(99),
        flood.loads(),
    )
}

fn merge(report: &mut Report, other: Report) {
    for (origin, count) in other.origins {
        *report.origins.entry(origin).or_default() += count;
    }
    report.latencies.extend(other.latencies);
    report.latencies.sort_unstable();
    report.elapsed += other.elapsed;
}
