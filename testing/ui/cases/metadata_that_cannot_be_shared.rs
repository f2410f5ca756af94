//! Metadata that may not move between threads.

use std::rc::Rc;

use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

fn main() {
    let loader = |_: Lookup| async {
        Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1").token_type("app").metadata(Rc::new(()))))
    };
    let _ = ApiTokenCache::builder(loader);
}
