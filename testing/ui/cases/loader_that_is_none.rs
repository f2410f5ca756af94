//! A pool of connections, and no loader that asks it.

use tower_api_token::ApiTokenCache;

struct Pool;

fn main() {
    let _ = ApiTokenCache::builder(Pool);
}
