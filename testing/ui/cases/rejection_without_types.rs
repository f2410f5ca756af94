//! A closure whose arguments have no types.

use tower_api_token::{ApiTokenCache, ApiTokenLayer};

fn layer(cache: ApiTokenCache) {
    let _ = ApiTokenLayer::builder(cache)
        .rejection_response(|rejection, _| http::Response::new(rejection.detail().to_owned()));
}

fn main() {}
