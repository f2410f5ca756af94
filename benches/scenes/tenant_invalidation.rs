//! Invalidating a tenant with 100,000 cached tokens in a Redis with a million other keys, compared with the
//! simple way without generations: SCAN, read, delete.
//!
//! `cargo bench --bench scenes --all-features -- tenant_invalidation` takes about two minutes.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::cmd;
use test_support::RedisServer;
use tower_api_token::{ApiTokenCache, Lookup, Origin, RedisStore, TokenRecord};

const TOKENS: usize = 100_000;
const OTHERS: usize = 1_000_000;
const AT_ONCE: usize = 256;

pub(crate) fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

fn token(n: usize) -> String {
    format!("app-{n:024}")
}

/// Returns a cache in which even tokens belong to tenant `a`, and odd ones to tenant `b`.
fn cache(server: &RedisServer) -> ApiTokenCache {
    let loader = |lookup: Lookup| async move {
        let even = lookup.token().expose().ends_with(['0', '2', '4', '6', '8']);
        let tenant = if even { "a" } else { "b" };
        let record = TokenRecord::new("tok")
            .token_type("app")
            .tenant_id(tenant.to_owned());
        Ok::<_, std::io::Error>(Some(record))
    };
    let store = RedisStore::new(&server.url()).expect("a url");
    let store = store.response_timeout(Duration::from_secs(10));
    let builder = ApiTokenCache::builder(loader)
        .store(store)
        .token_types(["app"]);
    builder
        .local_capacity(0)
        .max_concurrent_loads(AT_ONCE)
        .build()
        .expect("a cache")
}

async fn prime(cache: &ApiTokenCache, tokens: impl Iterator<Item = usize>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in tokens {
        if tasks.len() == AT_ONCE {
            tasks.join_next().await;
        }
        let cache = cache.clone();
        tasks.spawn(async move { cache.warm(&token(n)).await.expect("primed") });
    }
    tasks.join_all().await;
}

/// Returns how many of a thousand tokens are answered from Redis.
async fn shared(cache: &ApiTokenCache, parity: usize) -> usize {
    let mut shared = 0;
    for n in 0..1_000 {
        let answer = cache
            .authenticate_typed(&token(2 * n + parity), "app")
            .await
            .expect("an answer");
        let origin = answer.valid().expect("a token").origin();
        shared += usize::from(origin == Origin::Shared);
    }
    shared
}

fn commands(server: &RedisServer) -> u64 {
    let count = server.info("stats", "total_commands_processed");
    count.expect("a count")
}

async fn run() {
    let server = RedisServer::start_with(&["--enable-debug-command", "yes"]);
    server
        .command(&["DEBUG", "POPULATE", &OTHERS.to_string(), "other", "200"])
        .ok();
    let cache = cache(&server);
    let client = redis::Client::open(server.url()).expect("a client");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    prime(&cache, (0..TOKENS).map(|n| 2 * n)).await;
    prime(&cache, (0..1_000).map(|n| 2 * n + 1)).await;
    let keys: u64 = cmd("DBSIZE")
        .query_async(&mut connection)
        .await
        .expect("a size");
    println!("{keys} keys, {TOKENS} of them entries of tenant a");
    assert_eq!(
        (shared(&cache, 0).await, shared(&cache, 1).await),
        (1_000, 1_000)
    );

    // In turn, so that noise of the machine affects both alike.
    for round in 1..=3 {
        let before = commands(&server);
        let start = Instant::now();
        cache.invalidate_tenant("a").await.expect("invalidated");
        let took = start.elapsed();
        let sent = commands(&server) - before - 1;
        println!("{round}: invalidate_tenant  {sent:>8} commands {took:>12.3?}");
        assert_eq!(
            (shared(&cache, 0).await, shared(&cache, 1).await),
            (0, 1_000)
        );
        prime(&cache, (0..TOKENS).map(|n| 2 * n)).await;

        let before = commands(&server);
        let start = Instant::now();
        let deleted = scan_and_delete(&mut connection).await;
        let took = start.elapsed();
        let sent = commands(&server) - before - 1;
        println!(
            "{round}: SCAN, MGET, DEL    {sent:>8} commands {took:>12.3?} ({deleted} entries)"
        );
        prime(&cache, (0..TOKENS).map(|n| 2 * n)).await;
    }
}

/// Reads every key of the namespace, and deletes those of the tenant, a thousand at a time.
async fn scan_and_delete(connection: &mut MultiplexedConnection) -> usize {
    let (mut cursor, mut deleted) = (0_u64, 0);
    loop {
        let scan = cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg("api_token:token:*")
            .arg("COUNT")
            .arg(1_000)
            .query_async::<(u64, Vec<String>)>(connection)
            .await;
        let (next, keys) = scan.expect("a page");
        if !keys.is_empty() {
            let values = cmd("MGET")
                .arg(&keys)
                .query_async::<Vec<Option<String>>>(connection)
                .await;
            let of_tenant =
                values
                    .expect("values")
                    .into_iter()
                    .zip(&keys)
                    .filter_map(|(value, key)| {
                        value
                            .is_some_and(|value| value.contains("\"tenant_id\":\"a\""))
                            .then_some(key)
                    });
            let keys: Vec<&String> = of_tenant.collect();
            if !keys.is_empty() {
                let gone = cmd("DEL").arg(&keys).query_async::<usize>(connection).await;
                deleted += gone.expect("deleted");
            }
        }
        cursor = next;
        if cursor == 0 {
            return deleted;
        }
    }
}
