//! What each fault costs: about 500 requests a second of 200 known tokens, with the default settings
//! and without a local level, so that every request has to do with Redis. docs/failures.md has the
//! table that this prints.
//!
//! `cargo bench --bench outages --all-features`; under four minutes. A word behind `--` picks the
//! faults whose names contain it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use test_support::{Direction, FaultProxy, RedisCluster, RedisSentinel, RedisServer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tower_api_token::{
    Answer, ApiTokenCache, ApiTokenCacheBuilder, Lookup, Origin, RedisStore, TokenRecord,
    UnavailableKind, loader_fn,
};

const TOKENS: usize = 200;
const RATE: u64 = 500;
const BEFORE: Duration = Duration::from_millis(500);
/// How long all answers have to come from Redis before it counts as healed, and how long we wait.
const QUIET: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(15);
const LOAD: u64 = 2;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

fn token(n: usize) -> String {
    format!("app-{n:024}")
}

/// The database: answers in 2 ms, if the fault is not its own.
struct Db {
    fails: AtomicBool,
    tenants: AtomicBool,
    takes: AtomicU64,
    loads: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Db {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            fails: AtomicBool::new(false),
            tenants: AtomicBool::new(true),
            takes: AtomicU64::new(LOAD),
            loads: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    async fn load(self: Arc<Self>, lookup: Lookup) -> Result<TokenRecord, std::io::Error> {
        self.loads.fetch_add(1, SeqCst);
        let running = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        sleep(Duration::from_millis(self.takes.load(SeqCst))).await;
        self.now.fetch_sub(1, SeqCst);
        if self.fails.load(SeqCst) {
            return Err(std::io::Error::other("the database is away"));
        }
        let token = lookup.token().expose();
        // Ten tenants.
        let tenant = format!("t-{}", &token[token.len() - 1..]);
        let tenant = self.tenants.load(SeqCst).then_some(tenant);
        Ok(TokenRecord::new(token, "app").tenant_id(tenant))
    }

    fn cache(self: &Arc<Self>, url: &str) -> ApiTokenCache {
        self.cache_with(url, |builder| builder)
    }

    fn cache_with(
        self: &Arc<Self>,
        url: &str,
        more: impl FnOnce(ApiTokenCacheBuilder<()>) -> ApiTokenCacheBuilder<()>,
    ) -> ApiTokenCache {
        let db = Arc::clone(self);
        let loader = loader_fn(move |lookup| Arc::clone(&db).load(lookup));
        let store = RedisStore::connect(url).expect("a url");
        let builder = ApiTokenCache::builder(loader).store(store).scopes(["app"]);
        more(builder.local_capacity(0)).build().expect("a cache")
    }
}

/// How one request ended.
#[derive(Debug, Clone, Copy)]
enum End {
    Answered(Origin),
    Unavailable(UnavailableKind),
    /// A 401, a 403 or another's identity: never.
    Wrong,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    /// When it was due: what a busy machine adds is counted too.
    due: Instant,
    done: Instant,
    end: End,
}

impl Request {
    fn took(&self) -> Duration {
        self.done - self.due
    }

    fn is_shared(&self) -> bool {
        matches!(self.end, End::Answered(Origin::Shared))
    }
}

async fn ask(cache: ApiTokenCache, token: String, due: Instant) -> Request {
    let end = match cache.authenticate(&token, "app").await {
        Ok(Answer::Found(found)) if found.id() == token => End::Answered(found.origin()),
        Ok(_) => End::Wrong,
        Err(error) => End::Unavailable(error.kind()),
    };
    let done = Instant::now();
    Request { due, done, end }
}

/// Requests at a fixed rate, whether or not the earlier ones have been answered.
struct Load {
    requests: mpsc::UnboundedReceiver<Request>,
    driver: JoinHandle<()>,
    seen: Vec<Request>,
}

impl Load {
    fn start(cache: &ApiTokenCache, rate: u64) -> Self {
        Self::of(TOKENS, cache, rate)
    }

    fn of(tokens: usize, cache: &ApiTokenCache, rate: u64) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let cache = cache.clone();
        let driver = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_micros(1_000_000 / rate));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for n in 0.. {
                let due = ticks.tick().await;
                let (sender, cache) = (sender.clone(), cache.clone());
                tokio::spawn(async move {
                    let _ = sender.send(ask(cache, token(n % tokens), due).await);
                });
            }
        });
        Self {
            requests,
            driver,
            seen: Vec::new(),
        }
    }

    fn look(&mut self) -> &[Request] {
        while let Ok(request) = self.requests.try_recv() {
            self.seen.push(request);
        }
        &self.seen
    }

    /// Until all answers have come from Redis for a while.
    async fn until_shared(&mut self) {
        let start = Instant::now();
        loop {
            sleep(Duration::from_millis(50)).await;
            let since = Instant::now() - QUIET;
            let mut recent = self.look().iter().filter(|one| one.done > since);
            if start.elapsed() > QUIET && recent.all(Request::is_shared) {
                return;
            }
            if start.elapsed() > PATIENCE {
                println!("  not healed within {PATIENCE:?}");
                return;
            }
        }
    }

    /// Every request, the unfinished ones included: none may hang.
    async fn stop(mut self) -> Vec<Request> {
        self.driver.abort();
        let rest = async {
            while let Some(request) = self.requests.recv().await {
                self.seen.push(request);
            }
        };
        let hung = timeout(PATIENCE, rest).await.is_err();
        assert!(!hung, "a request hangs");
        self.seen
    }
}

/// One row.
struct Row {
    name: &'static str,
    requests: Vec<Request>,
    broke: Instant,
    healed: Instant,
    most: usize,
    loads: usize,
    store_errors: u64,
    invalidation: String,
    readiness: String,
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn errors(requests: &[Request]) -> String {
    let mut kinds: Vec<(UnavailableKind, usize)> = Vec::new();
    for request in requests {
        if let End::Unavailable(kind) = request.end {
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind, 1)),
            }
        }
    }
    let texts: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind:?}"))
        .collect();
    if texts.is_empty() {
        return "0".to_owned();
    }
    texts.join(", ")
}

impl Row {
    const HEAD: &str = "| fault | lasted | requests | from Redis in the fault | errors | longest | p99 in the fault | \
        first from Redis after | all from Redis after | loads | most at once | store errors | invalidation in the \
        fault | check_store in the fault |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broke, healed) = (self.broke, self.healed);
        let since = |from: Instant| self.requests.iter().filter(move |one| one.due >= from);
        let longest = since(broke).map(Request::took).max().unwrap_or_default();
        let during = since(broke).filter(|one| one.due < healed);
        let p99 = percentile(during.clone().map(Request::took).collect(), 99);
        let from_redis = during.filter(|one| one.is_shared() && one.done <= healed);
        let shared = since(healed).filter(|one| one.is_shared());
        let first = shared.map(|one| one.done).min();
        let other = since(healed).filter(|one| !one.is_shared());
        let all = other.map(|one| one.done).max().max(first).unwrap_or(healed);
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.name,
            ms(healed - broke),
            since(broke).count(),
            from_redis.count(),
            errors(&self.requests),
            ms(longest),
            ms(p99),
            first.map_or("never".to_owned(), |first| ms(first - healed)),
            ms(all - healed),
            self.loads,
            self.most,
            self.store_errors,
            self.invalidation,
            self.readiness,
        )
    }
}

/// A fault that begins with `fault`, lasts for `hold`, and ends when `heal` returns. Both may block
/// this thread: the load is driven by others.
async fn measure(
    name: &'static str,
    (cache, db): (&ApiTokenCache, &Arc<Db>),
    hold: Duration,
    fault: impl AsyncFnOnce(),
    heal: impl AsyncFnOnce(),
) {
    let mut load = Load::start(cache, RATE);
    sleep(BEFORE).await;
    db.loads.store(0, SeqCst);
    db.most.store(0, SeqCst);
    let store_errors = cache.stats().store_errors;
    let asks = tokio::spawn(in_the_fault(cache.clone(), hold.max(BEFORE) / 2));
    let broke = Instant::now();
    fault().await;
    sleep(hold.saturating_sub(broke.elapsed())).await;
    heal().await;
    let healed = Instant::now();
    load.until_shared().await;
    let (invalidation, readiness) = asks.await.expect("an answer");
    let row = Row {
        name,
        requests: load.stop().await,
        broke,
        healed,
        most: db.most.load(SeqCst),
        loads: db.loads.load(SeqCst),
        store_errors: cache.stats().store_errors - store_errors,
        invalidation,
        readiness,
    };
    println!("{row}");
    let wrong = |one: &&Request| matches!(one.end, End::Wrong);
    let wrong = row.requests.iter().filter(wrong).count();
    assert_eq!(wrong, 0, "{name}: an outage was taken for an answer");
    assert!(row.most <= 50, "{name}: {} loads at once", row.most);
}

/// What an operator hears in the middle of it.
async fn in_the_fault(cache: ApiTokenCache, after: Duration) -> (String, String) {
    sleep(after).await;
    let start = Instant::now();
    let invalidated = cache.invalidate(&token(0)).await;
    let took = ms(start.elapsed());
    let invalidation = match invalidated {
        Ok(()) => format!("Ok, {took}"),
        Err(error) => format!("Err, {took}: {}", source(&error)),
    };
    let start = Instant::now();
    let checked = cache.check_store().await;
    let took = ms(start.elapsed());
    let readiness = match checked {
        Ok(()) => format!("Ok, {took}"),
        Err(error) => format!("Err, {took}: {error}{}", source_after(&error)),
    };
    (invalidation, readiness)
}

/// Without ports, which differ each time.
fn source(error: &dyn std::error::Error) -> String {
    error.source().map_or(String::new(), |inner| {
        format!("{inner}{}", source_after(inner))
    })
}

fn source_after(error: &dyn std::error::Error) -> String {
    let inner = source(error);
    if inner.is_empty() {
        return inner;
    }
    format!(": {inner}")
}

async fn prime(cache: &ApiTokenCache) {
    for _ in 0..2 {
        for n in 0..TOKENS {
            cache.prime(&token(n), "app").await.expect("primed");
        }
    }
}

/// A server behind a proxy, its tokens cached.
struct World {
    server: RedisServer,
    proxy: FaultProxy,
    db: Arc<Db>,
    cache: ApiTokenCache,
}

impl World {
    async fn new() -> Self {
        Self::with(&[], |builder| builder).await
    }

    async fn without_tenants() -> Self {
        let world = Self::new().await;
        world.db.tenants.store(false, SeqCst);
        world.server.flushall();
        prime(&world.cache).await;
        world
    }

    async fn with(
        args: &[&str],
        more: impl FnOnce(ApiTokenCacheBuilder<()>) -> ApiTokenCacheBuilder<()>,
    ) -> Self {
        let server = RedisServer::start_with(args);
        let proxy = FaultProxy::start(server.addr());
        let db = Db::new();
        let cache = db.cache_with(&format!("redis://{}", proxy.addr()), more);
        prime(&cache).await;
        Self {
            server,
            proxy,
            db,
            cache,
        }
    }

    async fn measure(
        &self,
        name: &'static str,
        seconds: u64,
        fault: impl FnOnce(&Self),
        heal: impl FnOnce(&Self),
    ) {
        measure(
            name,
            (&self.cache, &self.db),
            Duration::from_secs(seconds),
            async || fault(self),
            async || heal(self),
        )
        .await;
    }

    fn set(&self, name: &str, value: &str) {
        self.server.command(&["CONFIG", "SET", name, value]).ok();
    }
}

/// Those that the command line names, or all.
struct Chosen(Vec<String>);

impl Chosen {
    async fn run(&self, name: &'static str, fault: impl AsyncFnOnce(&'static str)) {
        if self.0.is_empty() || self.0.iter().any(|word| name.contains(word)) {
            fault(name).await;
        }
    }
}

async fn run() {
    let words = std::env::args().skip(1);
    let chosen = Chosen(words.filter(|word| !word.starts_with('-')).collect());
    let start = Instant::now();
    println!("{}", Row::HEAD);
    one_server(&chosen).await;
    server_that_refuses(&chosen).await;
    sentinels_and_clusters(&chosen).await;
    database(&chosen).await;
    special(&chosen).await;
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
}

async fn one_server(chosen: &Chosen) {
    let run = async |name, fault: fn(&World), heal: fn(&World)| {
        let measured = async |name| World::new().await.measure(name, 3, fault, heal).await;
        chosen.run(name, measured).await;
    };
    chosen
        .run("down at start, up later", async |name| {
            let server = RedisServer::start();
            server.kill();
            let db = Db::new();
            let cache = db.cache(&server.url());
            let hold = Duration::from_secs(3);
            let heal = async || server.restart();
            measure(name, (&cache, &db), hold, async || (), heal).await;
        })
        .await;
    run(
        "killed, restarted empty",
        |world| world.server.kill(),
        |world| world.server.restart(),
    )
    .await;
    run(
        "killed, restarted from its file",
        |world| {
            world.server.command(&["SAVE"]).ok();
            world.server.kill();
        },
        |world| world.server.restart_from_file(),
    )
    .await;
    run(
        "SIGSTOP for 3 s",
        |world| world.server.pause(),
        |world| world.server.resume(),
    )
    .await;
    run(
        "accepts, never answers",
        |world| {
            world.proxy.cut();
            world.proxy.heal();
            world.proxy.black_hole_new();
        },
        |world| world.proxy.heal(),
    )
    .await;
    run(
        "requests get lost, replies do not",
        |world| world.proxy.stall(Direction::ToServer),
        |world| world.proxy.heal(),
    )
    .await;
    run(
        "replies get lost, requests do not",
        |world| world.proxy.stall(Direction::ToClient),
        |world| world.proxy.heal(),
    )
    .await;
    run(
        "slow by 200 ms",
        |world| {
            let by = Duration::from_millis(200);
            world.proxy.delay(Direction::ToClient, by);
        },
        |world| world.proxy.heal(),
    )
    .await;
    chosen
        .run("slow by 200 ms, tokens of no tenant", async |name| {
            let world = World::without_tenants().await;
            let by = Duration::from_millis(200);
            let fault = |world: &World| world.proxy.delay(Direction::ToClient, by);
            let heal = |world: &World| world.proxy.heal();
            world.measure(name, 3, fault, heal).await;
        })
        .await;
    run("FLUSHALL", |world| world.server.flushall(), |_| ()).await;
}

async fn server_that_refuses(chosen: &Chosen) {
    let full = |world: &World| world.set("maxmemory", "1");
    let roomy = |world: &World| world.set("maxmemory", "0");
    chosen
        .run("maxmemory, tokens cached", async |name| {
            World::new().await.measure(name, 3, full, roomy).await;
        })
        .await;
    chosen
        .run("maxmemory, nothing cached", async |name| {
            let fault = |world: &World| {
                full(world);
                world.server.flushall();
            };
            World::new().await.measure(name, 3, fault, roomy).await;
        })
        .await;
    chosen
        .run("read-only", async |name| {
            let nobody = test_support::free_port().to_string();
            let fault = |world: &World| {
                let of_nobody = ["REPLICAOF", "127.0.0.1", &nobody];
                world.server.command(&of_nobody).ok();
            };
            let heal = |world: &World| {
                world.server.command(&["REPLICAOF", "NO", "ONE"]).ok();
            };
            World::new().await.measure(name, 3, fault, heal).await;
        })
        .await;
    chosen
        .run("restarted from a large file (LOADING)", async |name| {
            // Slowed down by settings that exist for such tests.
            let slowly = ["--key-load-delay", "600"];
            let often = ["--loading-process-events-interval-bytes", "1024"];
            let debug = ["--enable-debug-command", "yes"];
            let args: Vec<&str> = [slowly, often, debug].concat();
            let world = World::with(&args, |builder| builder).await;
            let populate = ["DEBUG", "POPULATE", "5000", "other", "200"];
            world.server.command(&populate).ok();
            let restart = |world: &World| world.server.save_and_restart();
            world.measure(name, 1, restart, |_| ()).await;
        })
        .await;
    chosen
        .run("wrong password, then right", async |name| {
            let world = World::new().await;
            let client = redis::Client::open(world.server.url()).expect("a client");
            let connection = client.get_multiplexed_async_connection().await;
            let connection = connection.expect("a connection");
            let tell = async |words: &[&str]| {
                let mut command = redis::cmd(words[0]);
                for word in &words[1..] {
                    command.arg(word);
                }
                let told = command.query_async::<()>(&mut connection.clone()).await;
                told.expect("told");
            };
            let fault = async || {
                tell(&["CONFIG", "SET", "requirepass", "secret"]).await;
                tell(&["AUTH", "secret"]).await;
                world.proxy.cut();
                world.proxy.heal();
            };
            let heal = async || tell(&["CONFIG", "SET", "requirepass", ""]).await;
            let hold = Duration::from_secs(3);
            measure(name, (&world.cache, &world.db), hold, fault, heal).await;
        })
        .await;
}

fn hosts(addrs: &[std::net::SocketAddr]) -> String {
    let hosts: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    hosts.join(",")
}

/// Those heal themselves: the time until then is that of the fault.
async fn sentinels_and_clusters(chosen: &Chosen) {
    chosen
        .run("sentinel: master killed", async |name| {
            let set = RedisSentinel::start();
            let hosts = hosts(&set.sentinel_addrs());
            let db = Db::new();
            let cache = db.cache(&format!("redis+sentinel://{hosts}/{}", set.master_name()));
            prime(&cache).await;
            set.wait_until_replicated();
            let old = set.master();
            let heal = async || {
                set.wait_for_failover(old);
            };
            let hold = Duration::from_secs(2);
            measure(name, (&cache, &db), hold, async || old.kill(), heal).await;
        })
        .await;
    let on_cluster = async |name, hold, fault: fn(&RedisCluster)| {
        let measured = async |name| {
            let cluster = RedisCluster::start();
            let db = Db::new();
            let cache = db.cache(&format!("redis+cluster://{}", hosts(&cluster.addrs())));
            prime(&cache).await;
            cluster.wait_until_replicated();
            let hold = Duration::from_secs(hold);
            let heal = async || cluster.wait_until_ok();
            measure(name, (&cache, &db), hold, async || fault(&cluster), heal).await;
        };
        chosen.run(name, measured).await;
    };
    on_cluster("cluster: a master killed", 2, |cluster| {
        cluster.node(cluster.masters()[0]).kill();
    })
    .await;
    on_cluster("cluster: a master frozen", 2, |cluster| {
        cluster.node(cluster.masters()[0]).pause();
    })
    .await;
    on_cluster("cluster: 20 slots moved", 1, |cluster| {
        for entry in cluster.keys("api_token:app:*").iter().take(20) {
            let from = cluster.master_for(entry);
            let others = cluster.masters().into_iter();
            let to = others.into_iter().find(|node| *node != from);
            let slot = cluster.slot_for(entry);
            cluster.migrate_slot(slot, from, to.expect("another"));
        }
    })
    .await;
}

async fn database(chosen: &Chosen) {
    let fails = |world: &World| world.db.fails.store(true, SeqCst);
    let slow = |world: &World| world.db.takes.store(300, SeqCst);
    let heal = |world: &World| {
        world.db.fails.store(false, SeqCst);
        world.db.takes.store(LOAD, SeqCst);
    };
    let short = async |grace| {
        let ttl = Duration::from_secs(1);
        let more = |builder: ApiTokenCacheBuilder<()>| builder.ttl(ttl).stale_if_error(grace);
        World::with(&[], more).await
    };
    let none = Duration::ZERO;
    chosen
        .run("database fails for 2 s", async |name| {
            World::new().await.measure(name, 2, fails, heal).await;
        })
        .await;
    chosen
        .run("database slow (300 ms)", async |name| {
            World::new().await.measure(name, 2, slow, heal).await;
        })
        .await;
    // With so short a life that everything ends during the fault.
    chosen
        .run("database fails for 2 s, ttl 1 s", async |name| {
            short(none).await.measure_expiring(name, fails, heal).await;
        })
        .await;
    chosen
        .run("the same with stale_if_error", async |name| {
            let world = short(Duration::from_secs(60)).await;
            world.measure_expiring(name, fails, heal).await;
        })
        .await;
    chosen
        .run("database slow (300 ms), ttl 1 s", async |name| {
            short(none).await.measure_expiring(name, slow, heal).await;
        })
        .await;
    chosen
        .run("both down", async |name| {
            let fault = |world: &World| {
                fails(world);
                world.server.kill();
            };
            let heal = |world: &World| {
                heal(world);
                world.server.restart();
            };
            World::new().await.measure(name, 3, fault, heal).await;
        })
        .await;
    chosen
        .run("Redis down, database slow (300 ms)", async |name| {
            let fault = |world: &World| {
                slow(world);
                world.server.kill();
            };
            let heal = |world: &World| {
                heal(world);
                world.server.restart();
            };
            World::new().await.measure(name, 3, fault, heal).await;
        })
        .await;
}

impl World {
    /// Entries that live for a second are loaded again all the time: the time until *all* come from
    /// Redis says nothing here.
    async fn measure_expiring(&self, name: &'static str, fault: fn(&Self), heal: fn(&Self)) {
        let mut load = Load::start(&self.cache, RATE);
        sleep(BEFORE).await;
        self.db.most.store(0, SeqCst);
        self.db.loads.store(0, SeqCst);
        let broke = Instant::now();
        fault(self);
        sleep(Duration::from_secs(2)).await;
        heal(self);
        let healed = Instant::now();
        sleep(QUIET).await;
        load.look();
        let mut row = Row {
            name,
            requests: load.stop().await,
            broke,
            healed,
            most: self.db.most.load(SeqCst),
            loads: self.db.loads.load(SeqCst),
            store_errors: self.cache.stats().store_errors,
            invalidation: "not tried".to_owned(),
            readiness: "not tried".to_owned(),
        };
        println!("{row}");
        let stale = |one: &&Request| matches!(one.end, End::Answered(Origin::Stale));
        let stale = row.requests.iter().filter(stale).count();
        row.requests.retain(|one| matches!(one.end, End::Wrong));
        assert!(row.requests.is_empty(), "{name}: taken for an answer");
        println!("  {stale} of them stale");
    }
}

async fn special(chosen: &Chosen) {
    chosen
        .run("one token at 500 requests/s, slow by 20 ms", async |name| {
            let world = World::without_tenants().await;
            let by = Duration::from_millis(20);
            world.proxy.delay(Direction::ToClient, by);
            let load = Load::of(1, &world.cache, RATE);
            sleep(Duration::from_secs(3)).await;
            let looked = load.requests.len();
            world.proxy.heal();
            let requests = load.stop().await;
            let took: Vec<Duration> = requests.iter().map(Request::took).collect();
            println!(
                "{name}: {looked} answers in 3 s, p50 {}, p99 {}, longest {}",
                ms(percentile(took.clone(), 50)),
                ms(percentile(took.clone(), 99)),
                ms(percentile(took, 100)),
            );
        })
        .await;
    chosen
        .run("frozen at 2,000 requests/s", async |name| {
            let world = World::new().await;
            let load = Load::start(&world.cache, 2_000);
            sleep(Duration::from_secs(1)).await;
            let broke = Instant::now();
            world.server.pause();
            sleep(Duration::from_secs(4)).await;
            world.server.resume();
            let healed = Instant::now();
            sleep(Duration::from_secs(1)).await;
            let requests = load.stop().await;
            let p = |percent, from: Instant, to: Instant| {
                let among = requests.iter().filter(|one| one.due >= from && one.due < to);
                ms(percentile(among.map(Request::took).collect(), percent))
            };
            let noticed = broke + Duration::from_secs(1);
            let over = Duration::from_millis(50);
            let slow = requests.iter().filter(|one| one.took() > over);
            println!(
                "{name}: p99 {} before; p99 {} in the first second; p50 {}, p99 {} from then to the \
                 end; longest {}; {} of {} requests took more than 50 ms; errors {}; most loads {}",
                p(99, broke - Duration::from_secs(1), broke),
                p(99, broke, noticed),
                p(50, noticed, healed),
                p(99, noticed, healed),
                p(100, broke, healed),
                slow.count(),
                requests.len(),
                errors(&requests),
                world.db.most.load(SeqCst),
            );
            assert!(!requests.iter().any(|one| matches!(one.end, End::Wrong)));
        })
        .await;
    chosen
        .run("5,000 distinct tokens with Redis down", async |name| {
            for takes in [LOAD, 20] {
                let server = RedisServer::start();
                server.kill();
                let db = Db::new();
                db.takes.store(takes, SeqCst);
                let cache = db.cache(&server.url());
                let requests = burst(&cache, 5_000).await;
                let most = db.most.load(SeqCst);
                let loads = db.loads.load(SeqCst);
                let longest = requests.iter().map(Request::took).max();
                println!(
                    "{name}, a load takes {takes} ms: {most} loads at most at once, {loads} in all, \
                     longest {}, errors {}",
                    ms(longest.unwrap_or_default()),
                    errors(&requests),
                );
                assert!(most <= 50, "{most} loads at once");
                assert!(!requests.iter().any(|one| matches!(one.end, End::Wrong)));
            }
        })
        .await;
}

fn burst(cache: &ApiTokenCache, count: usize) -> impl Future<Output = Vec<Request>> {
    let due = Instant::now();
    let tasks: tokio::task::JoinSet<Request> = (0..count)
        .map(|n| ask(cache.clone(), token(n), due))
        .collect();
    tasks.join_all()
}
