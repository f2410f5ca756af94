//! Lookups that Redis answers, compared with plain GETs by redis-rs on one multiplexed connection with the
//! same settings. There are 10,000 distinct tokens without a tenant, and no local level. Slices of both take
//! turns, and the result is the median of their ratios, for the throughput and for the CPU time of client and
//! server, which varies less. Linux only.
//!
//! `cargo bench --bench hot --all-features -- redis_hits` takes forty seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::good;
use crate::common::good::token;
use crate::common::table::median;
use redis::aio::MultiplexedConnection;
use test_support::{Dice, RedisServer};
use tokio::task::JoinSet;
use tower_api_token::{Origin, RedisStore, TokenDigest};

const TOKENS: usize = 10_000;
const SLICE: Duration = Duration::from_millis(500);
const SLICES: usize = 9;

pub(crate) fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let server = RedisServer::start();
    let store = RedisStore::new(&server.url()).expect("a url");
    let cache = good::builder()
        .store(store.response_timeout(Duration::from_secs(5)))
        .local_capacity(0)
        .build()
        .expect("a cache");
    let cache = Arc::new(cache);
    for n in 0..TOKENS {
        cache.warm(&token(n)).await.expect("primed");
    }
    let connection = raw(&server).await;
    println!(
        "| tasks | engine, lookups/s | raw GETs/s | engine / raw | the same by CPU time \
         | CPU of engine, of raw, µs (client + Redis) | keys a read |"
    );
    println!("|---|---|---|---|---|---|---|");
    for tasks in [1, 16, 64, 256] {
        let mut slices = Vec::new();
        for _ in 0..SLICES {
            let engine = Arc::clone(&cache);
            let engine = slice(&connection, tasks, move |n| {
                let cache = Arc::clone(&engine);
                async move {
                    let answer = cache.authenticate_typed(&token(n), "app").await;
                    let found = answer.expect("an answer").valid().expect("a token");
                    assert_eq!(found.origin(), Origin::Shared);
                }
            })
            .await;
            let raw = connection.clone();
            let raw = slice(&connection, tasks, move |n| {
                let mut connection = raw.clone();
                async move {
                    let key = format!("api_token:token:{{{}}}", TokenDigest::of(&token(n)));
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
        let median = |of: fn(&(Slice, Slice)) -> f64| median(slices.iter().map(of).collect());
        println!(
            "| {tasks} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} + {:.2}, {:.2} + {:.2} | {:.1} |",
            median(|(engine, _)| engine.rate),
            median(|(_, raw)| raw.rate),
            median(|(engine, raw)| engine.rate / raw.rate),
            median(|(engine, raw)| raw.cpu() / engine.cpu()),
            median(|(engine, _)| engine.client),
            median(|(engine, _)| engine.server),
            median(|(_, raw)| raw.client),
            median(|(_, raw)| raw.server),
            median(|(engine, _)| engine.keys_a_read),
        );
    }
}

/// Returns a connection of redis-rs with the store's settings.
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

/// The figures of a slice.
struct Slice {
    /// Lookups per second.
    rate: f64,
    /// Microseconds of CPU time per lookup: of this process, and of Redis.
    client: f64,
    server: f64,
    keys_a_read: f64,
}

impl Slice {
    fn cpu(&self) -> f64 {
        self.client + self.server
    }
}

/// Runs tasks that send one lookup after another.
async fn slice<F, Fut>(connection: &MultiplexedConnection, tasks: usize, look_up: F) -> Slice
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let done = Arc::new(AtomicU64::new(0));
    let (before, cpu) = (Server::read(connection).await, own_cpu());
    let start = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks as u64 {
        let (look_up, done) = (look_up.clone(), Arc::clone(&done));
        running.spawn(async move {
            // Each task requests distinct tokens, in an order without a pattern.
            let mut dice = Dice::new(0, task);
            while start.elapsed() < SLICE {
                look_up(dice.below(TOKENS)).await;
                done.fetch_add(1, Relaxed);
            }
        });
    }
    running.join_all().await;
    let (elapsed, cpu) = (start.elapsed(), own_cpu() - cpu);
    let after = Server::read(connection).await;
    let done = done.load(Relaxed) as f64;
    Slice {
        rate: done / elapsed.as_secs_f64(),
        client: cpu.as_secs_f64() * 1e6 / done,
        server: (after.cpu - before.cpu) * 1e6 / done,
        keys_a_read: done / (after.reads - before.reads),
    }
}

fn own_cpu() -> Duration {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    Duration::from(nix::time::clock_gettime(clock).expect("a clock that every Linux has"))
}

/// The CPU time of the server.
struct Server {
    /// Seconds.
    cpu: f64,
    reads: f64,
}

impl Server {
    async fn read(connection: &MultiplexedConnection) -> Self {
        let mut connection = connection.clone();
        let mut info = redis::cmd("INFO");
        let text: String = info
            .arg(&["stats", "cpu"])
            .query_async(&mut connection)
            .await
            .expect("the output of INFO");
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.expect("the line").parse::<f64>().expect("a number")
        };
        Self {
            cpu: number("used_cpu_sys:") + number("used_cpu_user:"),
            reads: number("total_reads_processed:"),
        }
    }
}
