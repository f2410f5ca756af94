//! The process with a number of tokens, which measures costs on request.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::BufRead;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use test_support::{Dice, RedisServer};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tower_api_token::{ApiTokenCache, Origin, RedisStore, TokenRecord, Unavailable};

use super::tokens::{LONG, PER_TENANT, TENANT, builder, fill, token};
use crate::common::table::{median, resident_bytes};

const SLICE: Duration = Duration::from_millis(200);
/// The number of concurrent lookups where no time is measured.
const AT_ONCE: usize = 256;
/// The number of lookups in a batch, whose texts are created outside of the measured time. Batches are small,
/// so that other load interrupts few of them.
const BATCH: usize = 64;
/// The number of concurrent lookups in Redis.
const TASKS: usize = 16;
/// The number of lookups in a slice.
const INVALIDATIONS: usize = 20;

/// Prints the bytes of an entry, here and in Redis. Then prints, for each line of the input, which is the
/// number of a cost, the nanoseconds.
pub(crate) fn hold(tokens: usize) {
    let server = RedisServer::start();
    let mut world = World {
        tokens,
        local: cache(&server, tokens + tokens / 10 + 1_000),
        shared: cache(&server, 0),
        plain: HashMap::new(),
        dice: Dice::new(0, 0),
    };
    // On one thread, as in `local_memory`, because the allocator has a heap for each thread.
    let filling = Builder::new_current_thread().enable_all().build();
    let (here, there) = filling.expect("a runtime").block_on(world.fill(&server));
    world.plain = plain(tokens);
    println!("{here} {there}");
    let runtime = Runtime::new().expect("a runtime");
    for line in std::io::stdin().lock().lines() {
        let cost = line.expect("a line");
        let nanos = match cost.as_str() {
            "0" => world.each(World::hit_locally),
            "1" => world.each(World::hit_plain),
            "2" => runtime.block_on(world.redis_hit()),
            "3" => runtime.block_on(world.invalidate_tokens()),
            "4" => runtime.block_on(world.invalidate_tenant()),
            other => panic!("no cost {other}"),
        };
        println!("{nanos}");
    }
}

fn cache(server: &RedisServer, capacity: usize) -> ApiTokenCache {
    let store = RedisStore::new(&server.url()).expect("a url");
    // Between two measurements no runtime is driven that could take a report of a change.
    let store = store.client_tracking(false);
    let store = store.response_timeout(Duration::from_secs(10));
    let builder = builder().store(store).local_capacity(capacity);
    let builder = builder.max_staleness(LONG).ttl(LONG);
    builder.build().expect("a configuration")
}

fn plain(tokens: usize) -> HashMap<String, Arc<TokenRecord>> {
    let record = |n| Arc::new(TokenRecord::new(token(n)).token_type("app"));
    (0..tokens).map(|n| (token(n), record(n))).collect()
}

struct World {
    tokens: usize,
    local: ApiTokenCache,
    /// Without a local level.
    shared: ApiTokenCache,
    /// The simplest possible local level, which shows the cost of memory access.
    plain: HashMap<String, Arc<TokenRecord>>,
    dice: Dice,
}

impl World {
    /// Fills Redis, and the local level from it. Returns the bytes of an entry in both.
    async fn fill(&self, server: &RedisServer) -> (f64, f64) {
        let empty = used_memory(server);
        fill(&self.shared, server, self.tokens).await;
        let there = used_memory(server) - empty;
        // Connections and calls allocate their memory before, for tokens that the loader does not know.
        let unknown = (0..10 * AT_ONCE).map(|n| format!("unknown-{n:032}"));
        prime(&self.local, unknown).await;
        let before = resident_bytes();
        prime(&self.local, (0..self.tokens).map(token)).await;
        let here = resident_bytes() - before;
        let entries = self.local.stats().local_records;
        assert_eq!(entries, self.tokens as u64, "all are in the local level");
        let loads = self.local.stats().loads;
        assert_eq!(loads, 10 * AT_ONCE as u64, "Redis knew the others");
        (here / entries as f64, there / self.tokens as f64)
    }

    /// Returns the number of a token without a tenant, because the others are invalidated.
    fn any(&mut self) -> usize {
        any(&mut self.dice, self.tokens)
    }

    /// Returns the nanoseconds of a lookup on this thread.
    fn each(&mut self, look_up: fn(&Self, &str)) -> f64 {
        let (start, mut batches) = (Instant::now(), Vec::new());
        while start.elapsed() < SLICE {
            let tokens: Vec<String> = (0..BATCH).map(|_| token(self.any())).collect();
            let begun = Instant::now();
            for token in &tokens {
                look_up(self, token);
            }
            batches.push(begun.elapsed().as_nanos() as f64 / BATCH as f64);
        }
        median(batches)
    }

    fn hit_locally(&self, token: &str) {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(self.local.authenticate_typed(token, "app")).poll(&mut context) {
            Poll::Ready(Ok(answer)) => assert!(black_box(answer).valid().is_some()),
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => panic!("the lookup waited"),
        }
    }

    fn hit_plain(&self, token: &str) {
        let record = self.plain.get(token).map(Arc::clone);
        assert!(black_box(record).is_some());
    }

    /// Returns the slice's time divided by the number of lookups in it.
    async fn redis_hit(&mut self) -> f64 {
        let (start, done) = (Instant::now(), Arc::<AtomicUsize>::default());
        let mut running = JoinSet::new();
        for _ in 0..TASKS {
            let (cache, done, tokens) = (self.shared.clone(), Arc::clone(&done), self.tokens);
            // Each task has a generator of its own.
            let mut dice = Dice::new(self.dice.roll(), 0);
            running.spawn(async move {
                while start.elapsed() < SLICE {
                    let token = token(any(&mut dice, tokens));
                    let answer = cache.authenticate_typed(&token, "app").await;
                    let found = answer.expect("an answer").valid().expect("a token");
                    assert_eq!(found.origin(), Origin::Shared);
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        running.join_all().await;
        start.elapsed().as_nanos() as f64 / done.load(Relaxed) as f64
    }

    async fn invalidate_tokens(&mut self) -> f64 {
        let mut nanos = Vec::new();
        for _ in 0..INVALIDATIONS {
            let token = token(self.any());
            let begun = Instant::now();
            self.local.invalidate(&token).await.expect("confirmed");
            nanos.push(begun.elapsed().as_nanos() as f64);
            self.is_loaded(&token).await;
        }
        median(nanos)
    }

    /// All of the tenant's tokens are cached before.
    async fn invalidate_tenant(&mut self) -> f64 {
        let begun = Instant::now();
        let invalidated = self.local.invalidate_tenant(TENANT).await;
        invalidated.expect("confirmed");
        let nanos = begun.elapsed().as_nanos() as f64;
        self.is_loaded(&token(0)).await;
        let of_tenant = (0..self.tokens).step_by(PER_TENANT);
        prime(&self.local, of_tenant.map(token)).await;
        nanos
    }

    /// Asserts that an invalidated token is loaded, which caches it again.
    async fn is_loaded(&self, token: &str) {
        let answer = self.local.authenticate_typed(token, "app").await;
        let found = answer.expect("an answer").valid().expect("a token");
        assert_eq!(found.origin(), Origin::Loaded);
    }
}

/// Returns the number of a token, in an order without a pattern.
fn any(dice: &mut Dice, tokens: usize) -> usize {
    let n = dice.below(tokens);
    n + usize::from(n.is_multiple_of(PER_TENANT))
}

async fn prime(cache: &ApiTokenCache, tokens: impl Iterator<Item = String>) {
    let mut priming: JoinSet<Result<(), Unavailable>> = JoinSet::new();
    for token in tokens {
        if priming.len() == AT_ONCE {
            let primed = priming.join_next().await.expect("some are under way");
            primed.expect("no panic").expect("an answer");
        }
        let cache = cache.clone();
        priming.spawn(async move { cache.warm(&token).await });
    }
    for primed in priming.join_all().await {
        primed.expect("an answer");
    }
}

fn used_memory(server: &RedisServer) -> f64 {
    server.info("memory", "used_memory").expect("the figure")
}
