//! Metadata that cannot be serialized, with Redis.

use tower_api_token::{ApiTokenCache, Lookup, RedisStore, TokenRecord};

#[derive(Debug, Clone)]
struct Plan;

fn main() {
    let loader = |_: Lookup| async {
        Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1").token_type("app").metadata(Plan)))
    };
    let store = RedisStore::new("redis://127.0.0.1").unwrap();
    let _ = ApiTokenCache::builder(loader).store(store);
}
