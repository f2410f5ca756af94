//! The loader does not return a `Result`, as if it could not fail.

use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

fn main() {
    let loader = |_: Lookup| async { None::<TokenRecord> };
    let _ = ApiTokenCache::builder(loader);
}
