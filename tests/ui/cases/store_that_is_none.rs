//! A URL where a store belongs.

use tower_api_token::{ApiTokenCache, Lookup, TokenRecord, loader_fn};

fn main() {
    let loader = loader_fn(|_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) });
    let _ = ApiTokenCache::builder(loader).store("redis://127.0.0.1");
}
