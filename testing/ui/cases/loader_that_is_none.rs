//! A pool of connections instead of a loader that queries it.

use tower_api_token::ApiTokenCache;

struct Pool;

fn main() {
    let _ = ApiTokenCache::builder(Pool);
}
