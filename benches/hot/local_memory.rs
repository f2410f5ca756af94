//! The memory of the local level beside the records: a million tokens from Redis, in a level with room for
//! all of them, and in one with room for a tenth.
//!
//! `cargo bench --bench hot --all-features -- local_memory`, or `… local_memory 100000` for fewer tokens; two or three minutes. Linux, for
//! its memory figures.
//!
//! glibc's caches of freed memory are off here: what they keep apart depends on the moment, and is up to 100 bytes for
//! each entry.

use std::time::Duration;

use crate::common::hot;
use crate::common::program;
use crate::common::table::{resident_bytes, row};
use test_support::RedisServer;
use tower_api_token::{ApiTokenCache, RedisStore, TokenRecord};

/// Longer than the bench, so that no entry expires or is refreshed.
const LONG: Duration = Duration::from_secs(3_600);
/// The number of concurrent lookups.
const BATCH: usize = 256;

const NO_CACHES: &str = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0";

/// Looks up all tokens, and returns by how many bytes the process grew.
async fn grown(cache: &ApiTokenCache, tokens: usize) -> f64 {
    // Connections and calls allocate their memory before.
    prime(cache, tokens..tokens + 10 * BATCH).await;
    let before = resident_bytes();
    prime(cache, 0..tokens).await;
    resident_bytes() - before
}

async fn prime(cache: &ApiTokenCache, tokens: std::ops::Range<usize>) {
    let tokens: Vec<usize> = tokens.collect();
    for batch in tokens.chunks(BATCH) {
        let mut all = tokio::task::JoinSet::new();
        for n in batch.iter().copied() {
            let cache = cache.clone();
            all.spawn(async move { cache.warm(&hot::token(n)).await });
        }
        for primed in all.join_all().await {
            primed.expect("Redis and the loader");
        }
    }
}

/// Returns the size of a record with its strings and the token's text.
fn own_bytes() -> usize {
    let token = hot::token(0).len();
    let strings = [hot::id(0).len(), hot::TYPE.len(), hot::TENANT.len(), token];
    size_of::<TokenRecord>() + strings.iter().sum::<usize>()
}

pub(crate) fn main() {
    let tokens = program::number(1_000_000);
    if let Some(capacity) = program::arguments().get(1) {
        measure(tokens, capacity.parse().expect("a number"));
        return;
    }
    // Each in a process of its own, because the second would otherwise reuse memory that the first freed. The
    // capacity is a tenth larger than needed, because the level's shards do not fill evenly.
    for capacity in [tokens + tokens / 10, tokens / 10] {
        let mut run = program::again();
        let run = run
            .args([tokens.to_string(), capacity.to_string()])
            .env("GLIBC_TUNABLES", NO_CACHES);
        assert!(run.status().expect("a process").success());
    }
}

fn measure(tokens: usize, capacity: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let server = RedisServer::start();
    let store = RedisStore::new(&server.url()).expect("a url");
    let builder = hot::builder().store(store).local_capacity(capacity);
    let builder = builder.max_staleness(LONG).ttl(LONG);
    let cache = builder.build().expect("a configuration");
    let bytes = runtime.block_on(grown(&cache, tokens));
    let entries = cache.stats().local_records;
    let own = own_bytes();
    let each = bytes / entries as f64 - own as f64;
    let measured = format!(
        "{each:.0} bytes beside the record's {own}; {entries} entries, {:.0} MB",
        bytes / 1e6
    );
    let name = format!("memory of a local entry, {tokens} tokens, capacity {capacity}");
    if tokens < capacity {
        row(&name, "≤ 445 bytes", measured, each <= 445.0);
    } else {
        // An entry's weight is its size in KiB, rounded up.
        let is_bounded = entries <= capacity as u64 && bytes <= capacity as f64 * 1024.0;
        row(&name, "≤ 1 KiB × capacity", measured, is_bounded);
    }
}
