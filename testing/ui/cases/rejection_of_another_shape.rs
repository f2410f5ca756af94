//! A rejection maker that returns a body instead of a response.

use tower_api_token::rejection::RequestHead;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, Rejection};

fn layer(cache: ApiTokenCache) {
    let _ = ApiTokenLayer::builder(cache).rejection_response(|rejection: &Rejection, _: &RequestHead<'_>| rejection.detail().to_owned());
}

fn main() {}
