//! The closure does not say that its argument is a `Lookup`.

use tower_api_token::{ApiTokenCache, TokenRecord};

fn main() {
    let _ = ApiTokenCache::builder(|lookup| async move {
        let id = lookup.digest().to_string();
        Ok::<_, std::io::Error>(Some(TokenRecord::new(id).token_type("app")))
    });
}
