//! The closure returns the answer instead of a future.

use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

fn main() {
    let loader = |_: Lookup| Ok::<Option<TokenRecord>, std::io::Error>(None);
    let _ = ApiTokenCache::builder(loader);
}
