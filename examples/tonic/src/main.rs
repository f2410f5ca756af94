//! `cargo run -p example-tonic`

use std::error::Error;

use tokio::net::TcpListener;
use tower_api_token::{ApiTokenCache, Lookup, TokenRecord, loader_fn};

const TOKEN: &str = "app-0123456789abcdef";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // In a service: a query by `lookup.digest()`.
    let loader = loader_fn(|lookup: Lookup| async move {
        let known = lookup.token().expose() == TOKEN;
        Ok::<_, std::io::Error>(known.then(|| TokenRecord::new("tok-1", "app")))
    });
    let cache = ApiTokenCache::builder(loader).build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3002".to_owned());
    let listener = TcpListener::bind(&address).await?;
    let url = format!(
        "http://{}/grpc.health.v1.Health/Check",
        listener.local_addr()?
    );
    // Five zero bytes frame an empty message; the answer's last byte is 1, SERVING.
    println!(
        "printf '\\0\\0\\0\\0\\0' | curl -si --http2-prior-knowledge -H 'content-type: application/grpc' \\\n  \
         -H 'authorization: Bearer {TOKEN}' --data-binary @- {url} | cat -v"
    );
    example_tonic::serve(listener, cache, std::future::pending()).await?;
    Ok(())
}
