//! Tests of foreign values under our keys: they cost loads or a repeated invalidation, and then are replaced.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Builder, Cache, Db, Row, found, redis};
use chrono::DateTime;
use test_support::RedisServer;
use tower_api_token::Origin;
use tower_api_token::store::KeyLayout;

const TOKEN: &str = "app-0123456789abcdef";
const NO_TEXT: &[u8] = b"\xff\xfe";

struct World {
    server: RedisServer,
    db: Arc<Db>,
    layout: KeyLayout,
}

impl World {
    fn in_both_layouts() -> [(Self, &'static str); 2] {
        let layouts = [
            (KeyLayout::digest(), "api_token:"),
            (KeyLayout::dify(), "api_token~"),
        ];
        layouts.map(|(layout, ours)| {
            let world = Self {
                server: RedisServer::start(),
                db: Db::with(TOKEN, Row::new("app").of_tenant("t-1")),
                layout,
            };
            (world, ours)
        })
    }

    fn builder(&self) -> Builder {
        let builder = self
            .db
            .cache()
            .store(redis(&self.server).key_layout(self.layout.clone()));
        builder.token_types(["app"])
    }

    /// Creates a cache without a local level, so that each lookup reads Redis.
    fn instance(&self) -> Cache {
        self.builder().local_capacity(0).build().unwrap()
    }

    fn set(&self, name: &str, value: &[u8]) {
        self.server.command(&["DEL", name]).int();
        let set: [&[u8]; 3] = [b"SET", name.as_bytes(), value];
        self.server.command(&set).ok();
    }

    fn add(&self, name: &str, member: &[u8]) {
        let add: [&[u8]; 3] = [b"SADD", name.as_bytes(), member];
        self.server.command(&add).int();
    }

    /// Checks that the second of two lookups finds what the first one stored.
    async fn is_cached(&self, cache: &Cache) {
        found(cache, TOKEN).await;
        assert_eq!(found(cache, TOKEN).await.origin(), Origin::Shared);
    }
}

/// Checks that an invalidation is confirmed within so many attempts.
async fn confirmed_within(
    repetitions: usize,
    cache: &Cache,
    invalidate: impl AsyncFn(&Cache) -> bool,
) {
    for _ in 0..repetitions {
        if invalidate(cache).await {
            return;
        }
    }
    assert!(invalidate(cache).await, "never confirmed");
}

#[tokio::test]
async fn a_registry_of_another_type_does_not_prevent_caching() {
    for (world, ours) in World::in_both_layouts() {
        let name = format!("{ours}bounds");
        world.set(&name, b"a string");
        world.is_cached(&world.instance()).await;
        assert_eq!(world.server.command(&["SCARD", &name]).int(), 1);
    }
}

#[tokio::test]
async fn a_registry_of_another_type_fails_one_wait_and_is_replaced() {
    for (world, ours) in World::in_both_layouts() {
        let name = format!("{ours}bounds");
        for filled in [true, false] {
            let cache = world.instance();
            if filled {
                found(&cache, TOKEN).await;
            }
            world.set(&name, b"a string");
            // Only `wait_for_all_instances` needs the registry.
            cache.invalidate(TOKEN).await.unwrap();
            cache
                .invalidate(TOKEN)
                .wait_for_all_instances()
                .await
                .unwrap_err();
            confirmed_within(1, &cache, async |cache| {
                cache
                    .invalidate(TOKEN)
                    .wait_for_all_instances()
                    .await
                    .is_ok()
            })
            .await;
        }
    }
}

#[tokio::test]
async fn an_invalid_member_of_the_registry_is_ignored() {
    for (world, ours) in World::in_both_layouts() {
        let name = format!("{ours}bounds");
        for member in [NO_TEXT, b"", b"app", b"|", b"-1", b"1.5", b"1 ", b"app|1"] {
            world.add(&name, member);
        }
        let cache = world.instance();
        world.is_cached(&cache).await;
        cache.invalidate(TOKEN).await.unwrap();
        cache
            .invalidate_tenant("t-1")
            .wait_for_all_instances()
            .await
            .unwrap();
        // It may be from a later version.
        assert_eq!(world.server.command(&["SCARD", &name]).int(), 9);
    }
}

#[tokio::test]
async fn a_generation_that_is_not_text_is_replaced() {
    for (world, ours) in World::in_both_layouts() {
        let cache = world.instance();
        let tenant = match ours {
            "api_token~" => "api_token~tenant:t-1",
            _ => "api_token:tenant:{t-1}",
        };
        world.set(&format!("{ours}tenants"), NO_TEXT);
        world.set(tenant, NO_TEXT);
        // The first lookup finds both, and its answer is not cached.
        found(&cache, TOKEN).await;
        world.is_cached(&cache).await;
        // This time the entry names a generation.
        world.set(tenant, NO_TEXT);
        found(&cache, TOKEN).await;
        world.is_cached(&cache).await;
    }
}

#[tokio::test]
async fn a_tenants_index_of_another_type_is_replaced() {
    let [_, (world, _)] = World::in_both_layouts();
    let index = "tenant_tokens:t-1";
    world.set(index, b"a string");
    let cache = world.instance();
    world.is_cached(&cache).await;
    assert_eq!(world.server.command(&["SCARD", index]).int(), 1);
    world.set(index, b"a string");
    cache.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(world.server.keys("api_token:*"), [""; 0]);
    assert_eq!(world.server.keys(index), [""; 0]);
}

#[tokio::test]
async fn an_index_member_that_names_no_entry_is_only_removed() {
    let [_, (world, _)] = World::in_both_layouts();
    let cache = world.instance();
    found(&cache, TOKEN).await;
    world.set("another service's", b"x");
    for member in [NO_TEXT, b"another service's"] {
        world.add("tenant_tokens:t-1", member);
    }
    cache.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(world.server.keys("api_token:*"), [""; 0]);
    assert_eq!(world.server.keys("tenant_tokens:*"), [""; 0]);
    assert!(world.server.get("another service's").is_some());
}

#[tokio::test]
async fn a_load_lock_without_a_ttl_is_given_one() {
    let [_, (world, _)] = World::in_both_layouts();
    let lock = format!("api_token_query_lock:app:{TOKEN}");
    world.set(&lock, b"another's");
    // A lookup waits for a lock for a second longer than the load timeout.
    let builder = world.builder().load_timeout(Duration::from_millis(50));
    let cache = builder.local_capacity(0).build().unwrap();
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
    let left = world.server.command(&["PTTL", &lock]).int();
    assert!((1..=10_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_token_whose_expiry_cannot_be_written_is_still_cached() {
    for (world, _) in World::in_both_layouts() {
        let far = DateTime::UNIX_EPOCH + Duration::from_secs(400_000_000_000);
        world.db.change(TOKEN, |row| row.expires_at = Some(far));
        let cache = world.instance();
        world.is_cached(&cache).await;
        let read = found(&cache, TOKEN).await.expires_at().unwrap();
        let micros = Duration::from_micros(253_402_300_799_999_999);
        assert_eq!(read, DateTime::UNIX_EPOCH + micros);
        assert_eq!((world.db.loads(), cache.stats().unwritable), (1, 0));
    }
}
