//! The rights of a Redis user that our side needs, as listed in the guide.

use crate::common::{APP, TOKEN, World, found, is_absent, start};
use fleet::interop::database::Row;
use fleet::interop::python::Version;
use tower_api_token::RedisStore;
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::store::KeyLayout;

#[tokio::test]
async fn user_with_the_guides_rights_can_run_all_commands() {
    let guide = include_str!("../../../../docs/migrating-from-dify.md");
    let mut lines = guide.lines();
    let rule = lines.find(|line| line.starts_with("ACL SETUSER api "));
    let rule = rule.unwrap().replace("PASSWORD", "secret");
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    let words: Vec<&str> = rule.split(' ').collect();
    world.redis.command(&words).ok();
    let url = format!("redis://api:secret@{}", world.redis.addr());
    let store = RedisStore::new(&url)
        .unwrap()
        .key_layout(KeyLayout::dify())
        .response_timeout(std::time::Duration::from_secs(5));
    let rust = world
        .builder()
        .store(store)
        .local_capacity(0)
        .last_use(LastUseRecorder::store_only())
        .build()
        .unwrap();
    found(&rust, TOKEN).await;
    assert_eq!(world.members("tenant_tokens:t-1"), [crate::common::ENTRY]);
    // Concurrent reads are one command, which differs from that of a single read.
    let strangers = ["stranger-1", "stranger-2", "stranger-3"].map(|token| start(&rust, token));
    for stranger in strangers {
        assert!(stranger.await.unwrap().unwrap().valid().is_none());
    }
    assert!(world.redis.command_count("mget") > 0);
    let mut python = world.python(Version::Current);
    assert_eq!(python.fetch_cached(TOKEN, APP)["id"], "tok-1");
    rust.invalidate_tenant("t-1").await.unwrap();
    found(&rust, TOKEN).await;
    world.database.revoke(TOKEN);
    rust.invalidate(TOKEN).await.unwrap();
    assert!(is_absent(&rust, TOKEN).await);
    assert_eq!(rust.shutdown().await, 0);
    let used = rust.last_used_at(TOKEN).await.unwrap();
    assert!(used.is_some() && python.read_use(TOKEN, APP).is_some());
    assert_eq!(rust.stats().store_errors, 0);
}
