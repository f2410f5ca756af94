//! The layer on a bare hyper server, without a framework: `cargo run --example hyper`.

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
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, TokenRecord, loader_fn,
};

const TOKEN: &str = "app-0123456789abcdef";

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match request.extensions().get::<CachedApiToken>() {
        Some(token) => format!("hello {} ({})\n", token.id(), token.origin()),
        None => "the layer is missing\n".to_owned(),
    };
    Ok(Response::new(Full::from(text)))
}

fn cache() -> Result<ApiTokenCache, ConfigError> {
    // In a service: a query by `lookup.digest()`.
    let loader = loader_fn(|lookup: Lookup| async move {
        let known = lookup.token().expose() == TOKEN;
        Ok::<_, std::io::Error>(known.then(|| TokenRecord::new("tok-1", "app")))
    });
    ApiTokenCache::builder(loader).build()
}

/// HTTP/1.1 and HTTP/2 on every connection that `listener` accepts.
async fn serve(listener: TcpListener, cache: ApiTokenCache) -> std::io::Result<()> {
    let service = ApiTokenLayer::new(cache)
        .with_scope("app")
        .layer(service_fn(hello));
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
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3001".to_owned());
    let listener = TcpListener::bind(&address).await?;
    let address = listener.local_addr()?;
    println!("curl -i -H 'Authorization: Bearer {TOKEN}' http://{address}/");
    serve(listener, cache()?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::{http1, http2};

    use super::*;

    async fn start() -> TokioIo<tokio::net::TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, cache().unwrap()));
        TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap())
    }

    fn request(token: Option<&str>) -> Request<Empty<Bytes>> {
        let mut request = Request::builder().uri("http://localhost/");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Empty::new()).unwrap()
    }

    async fn read(response: Response<Incoming>) -> (u16, String) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn a_good_token_is_greeted_over_http1_and_others_are_refused() {
        let (mut client, connection) = http1::handshake(start().await).await.unwrap();
        tokio::spawn(connection);
        for origin in ["loaded", "local"] {
            let response = client.send_request(request(Some(TOKEN))).await.unwrap();
            let expected = format!("hello tok-1 ({origin})\n");
            assert_eq!(read(response).await, (200, expected));
        }
        for token in [None, Some("app-unknown")] {
            let response = client.send_request(request(token)).await.unwrap();
            assert_eq!(read(response).await.0, 401);
        }
    }

    #[tokio::test]
    async fn a_good_token_is_greeted_over_http2_and_others_are_refused() {
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), start().await)
            .await
            .unwrap();
        tokio::spawn(connection);
        let response = client.send_request(request(Some(TOKEN))).await.unwrap();
        assert_eq!(
            read(response).await,
            (200, "hello tok-1 (loaded)\n".to_owned())
        );
        for token in [None, Some("app-unknown")] {
            let response = client.send_request(request(token)).await.unwrap();
            assert_eq!(read(response).await.0, 401);
        }
    }
}
