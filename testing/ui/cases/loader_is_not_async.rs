//! The closure returns the answer, and no future of it.

use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

fn main() {
    let loader = |_: Lookup| Ok::<Option<TokenRecord>, std::io::Error>(None);
    let _ = ApiTokenCache::builder(loader);
}
