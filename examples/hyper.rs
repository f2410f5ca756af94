//! The layer with a plain hyper server, without a framework: `cargo run -p examples --bin hyper`.
//!
//! The layer wraps any tower service, and each connection is served by a clone of it. Handlers read the
//! verified token from the request's extensions.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, TokenDigest, TokenFormat,
    TokenRecord,
};

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match request.extensions().get::<CachedApiToken>() {
        Some(token) => format!("hello {} ({})\n", token.id(), token.origin()),
        None => "the layer is missing\n".to_owned(),
    };
    Ok(Response::new(Full::from(text)))
}

/// Builds the cache. In a service `known` is a table, and the loader a query by `lookup.digest()`.
fn cache(known: TokenDigest) -> Result<ApiTokenCache, ConfigError> {
    let loader = move |lookup: Lookup| async move {
        let found = lookup.digest() == known;
        Ok::<_, Infallible>(found.then(|| TokenRecord::new("tok-1").token_type("app")))
    };
    ApiTokenCache::builder(loader).token_types(["app"]).build()
}

/// Serves HTTP/1.1 and HTTP/2 on every connection that `listener` accepts.
async fn serve(listener: TcpListener, layer: ApiTokenLayer) -> std::io::Result<()> {
    let service = layer.layer(service_fn(hello));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("connection: {error}");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Generated at each start.
    let token = TokenFormat::from_static("demo_").generate()?;
    let cache = cache(token.digest())?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let (token, address) = (token.expose(), listener.local_addr()?);
    println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/");
    println!("listening on http://{address}");
    let layer = ApiTokenLayer::builder(cache).token_type("app").build()?;
    serve(listener, layer).await?;
    Ok(())
}
