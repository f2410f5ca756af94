//! A rejection maker that returns a body instead of a response.

use tower_api_token::{ApiTokenCache, ApiTokenLayer, Refusal};

fn layer(cache: ApiTokenCache) {
    let _ = ApiTokenLayer::new(cache).with_rejection(|refusal: &Refusal| refusal.detail().to_owned());
}

fn main() {}
