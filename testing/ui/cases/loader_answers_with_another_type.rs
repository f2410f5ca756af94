//! The loader returns a row of its own instead of a `TokenRecord`.

use tower_api_token::{ApiTokenCache, Lookup};

struct Row;

fn main() {
    let loader = |_: Lookup| async { Ok::<_, std::io::Error>(Some(Row)) };
    let _ = ApiTokenCache::builder(loader);
}
