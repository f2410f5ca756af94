//! Look-ups that Redis answers, by the engine alone, beside the GETs that they need at least: raw
//! redis-rs, one GET each on one multiplexed connection with the same settings. 10,000 distinct
//! tokens without a tenant, no local level; slices of both in turn, and the medians of their ratios.
//!
//! `cargo bench --bench redis_hits --all-features`; half a minute.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use test_support::RedisServer;
use tokio::task::JoinSet;
use tower_api_token::{
    ApiTokenCache, Lookup, Origin, RedisStore, TokenDigest, TokenRecord, loader_fn,
};

const TOKENS: u64 = 10_000;
const SLICE: Duration = Duration::from_millis(500);
const SLICES: usize = 9;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

fn token(n: u64) -> String {
    format!("app-{n:024}")
}

async fn run() {
    let server = RedisServer::start();
    let loader =
        loader_fn(|_: Lookup| async { Ok::<_, std::io::Error>(TokenRecord::new("tok-1", "app")) });
    let store = RedisStore::connect(&server.url()).expect("a url");
    let cache = ApiTokenCache::builder(loader)
        .store(store.deadline(Duration::from_secs(5)))
        .scopes(["app"])
        .local_capacity(0)
        .build()
        .expect("a cache");
    let cache = Arc::new(cache);
    for n in 0..TOKENS {
        cache.prime(&token(n), "app").await.expect("primed");
    }
    let connection = raw(&server).await;
    println!("| tasks | engine, look-ups/s | raw GETs/s | engine / raw | commands a read |");
    println!("|---|---|---|---|---|");
    for tasks in [1, 16, 64, 256] {
        let mut slices = Vec::new();
        let mut engines = (0.0, 0.0);
        for _ in 0..SLICES {
            let before = reads(&connection).await;
            let engine = Arc::clone(&cache);
            let engine = slice(tasks, move |n| {
                let cache = Arc::clone(&engine);
                async move {
                    let answer = cache.authenticate(&token(n), "app").await;
                    let found = answer.expect("an answer").found().expect("a token");
                    assert_eq!(found.origin(), Origin::Shared);
                }
            })
            .await;
            let after = reads(&connection).await;
            engines.0 += after.0 - before.0;
            engines.1 += after.1 - before.1;
            let raw = connection.clone();
            let raw = slice(tasks, move |n| {
                let mut connection = raw.clone();
                async move {
                    let key = format!("api_token:app:{{{}}}", TokenDigest::of(&token(n)));
                    let mut get = redis::cmd("GET");
                    let got: Option<Vec<u8>> = get
                        .arg(key)
                        .query_async(&mut connection)
                        .await
                        .expect("a reply");
                    assert!(got.is_some());
                }
            })
            .await;
            slices.push((engine, raw));
        }
        let median = |of: fn(&(f64, f64)) -> f64| {
            let mut all: Vec<f64> = slices.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "| {tasks} | {:.0} | {:.0} | {:.2} | {:.1} |",
            median(|(engine, _)| *engine),
            median(|(_, raw)| *raw),
            median(|(engine, raw)| engine / raw),
            engines.0 / engines.1,
        );
    }
}

/// What redis-rs alone does, as the store sets it up.
async fn raw(server: &RedisServer) -> MultiplexedConnection {
    use redis::IntoConnectionInfo;
    let info = format!("{}?protocol=resp3", server.url())
        .into_connection_info()
        .expect("a url")
        .set_tcp_settings(redis::io::tcp::TcpSettings::default().set_nodelay(true));
    let config = redis::AsyncConnectionConfig::new().set_pipeline_buffer_size(256);
    redis::Client::open(info)
        .expect("a client")
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .expect("a connection")
}

/// Look-ups a second, by tasks of which each waits for its answer.
async fn slice<F, Fut>(tasks: usize, look_up: F) -> f64
where
    F: Fn(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks as u64 {
        let (look_up, done) = (look_up.clone(), Arc::clone(&done));
        running.spawn(async move {
            // A generator of its own for each; distinct tokens, in an order without a pattern.
            let mut n = task.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            while start.elapsed() < SLICE {
                n ^= n << 13;
                n ^= n >> 7;
                n ^= n << 17;
                look_up(n % TOKENS).await;
                done.fetch_add(1, Relaxed);
            }
        });
    }
    running.join_all().await;
    done.load(Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// Commands that the server processed, and reads that brought them.
async fn reads(connection: &MultiplexedConnection) -> (f64, f64) {
    let mut connection = connection.clone();
    let mut info = redis::cmd("INFO");
    let text: String = info
        .arg("stats")
        .query_async(&mut connection)
        .await
        .expect("stats");
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("the line").parse::<f64>().expect("a number")
    };
    (
        number("total_commands_processed:"),
        number("total_reads_processed:"),
    )
}
