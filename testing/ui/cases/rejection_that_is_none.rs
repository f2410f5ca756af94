//! A status where something that makes a response belongs.

use tower_api_token::{ApiTokenCache, ApiTokenLayer};

fn layer(cache: ApiTokenCache) {
    let _ = ApiTokenLayer::builder(cache).rejection_response(http::StatusCode::UNAUTHORIZED);
}

fn main() {}
