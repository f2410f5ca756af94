//! The closure returns a body instead of a response.

use tower_api_token::rejection::RequestHead;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, Rejection};

fn layer(cache: ApiTokenCache) {
    let body = |rejection: &Rejection, _: &RequestHead<'_>| rejection.detail().to_owned();
    let _ = ApiTokenLayer::builder(cache).rejection_response(body);
}

fn main() {}
