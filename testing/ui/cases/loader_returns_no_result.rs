//! The loader answers without a `Result`: as if "we cannot tell" could not happen.

use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

fn main() {
    let loader = |_: Lookup| async { None::<TokenRecord> };
    let _ = ApiTokenCache::builder(loader);
}
