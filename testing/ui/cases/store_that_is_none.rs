//! A URL is passed instead of a store.

use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

fn main() {
    let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    let _ = ApiTokenCache::builder(loader).store("redis://127.0.0.1");
}
