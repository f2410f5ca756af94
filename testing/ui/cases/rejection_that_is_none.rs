//! A status is passed instead of something that makes a response.

use tower_api_token::{ApiTokenCache, ApiTokenLayer};

fn layer(cache: ApiTokenCache) {
    let _ = ApiTokenLayer::builder(cache).rejection_response(http::StatusCode::UNAUTHORIZED);
}

fn main() {}
