//! The layer with a tonic server: `cargo run -p examples --bin tonic --features tonic`.
//!
//! Rejections are gRPC statuses, over gRPC-Web too:
//!
//! | situation | status |
//! |---|---|
//! | no token, or an invalid one | `UNAUTHENTICATED` |
//! | a denied token | `PERMISSION_DENIED`, with the loader's reason |
//! | a valid token that may not call this method | `PERMISSION_DENIED` |
//! | the loader fails | `UNAVAILABLE` |
//! | more than one credential | `INVALID_ARGUMENT` |
//!
//! The example serves gRPC's health service, whose code is generated already. Replace it with your own. Methods get
//! the caller with `request.extensions().get::<CachedApiToken>()`.

mod serve;

use std::convert::Infallible;
use std::error::Error;

use tokio::net::TcpListener;
use tower_api_token::{ApiTokenCache, Lookup, TokenFormat, TokenRecord};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Generated at each start. In a service `known` is a table, and the loader a query by `lookup.digest()`.
    let token = TokenFormat::from_static("demo_").generate()?;
    let known = token.digest();
    let loader = move |lookup: Lookup| async move {
        let found = lookup.digest() == known;
        Ok::<_, Infallible>(found.then(|| TokenRecord::new("tok-1").token_type("app")))
    };
    let cache = ApiTokenCache::builder(loader)
        .token_types(["app"])
        .build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let (token, address) = (token.expose(), listener.local_addr()?);
    // Five zero bytes frame an empty message. The last byte of the response is 1, SERVING.
    println!(
        "printf '\\0\\0\\0\\0\\0' | curl -si --http2-prior-knowledge -H 'content-type: application/grpc' \
         -H 'Authorization: Bearer {token}' --data-binary @- http://{address}/grpc.health.v1.Health/Check \
         | cat -v"
    );
    println!("listening on http://{address}");
    serve::serve(listener, serve::layer(cache)?, std::future::pending()).await?;
    Ok(())
}
