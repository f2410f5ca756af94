//! A function that would do, without the `loader_fn` around it.

use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

async fn load(_: Lookup) -> Result<Option<TokenRecord>, std::io::Error> {
    Ok(None)
}

fn main() {
    let _ = ApiTokenCache::builder(load);
}
