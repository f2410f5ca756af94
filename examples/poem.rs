//! The layer in poem: `cargo run -p examples --bin poem --features poem`.
//!
//! poem has a bridge for Tower's layers (`TowerLayerCompatExt`), but it hands on poem's own `Request`, while this layer,
//! like those of tower-http, reads an `http::Request`. [`Authenticated`] is the bridge that is missing: the layer sees the
//! head of the request, and all else that poem knows about it, such as its body, its path parameters and the client's
//! address, is carried along as the body. Nothing is lost, and nothing is buffered.
//!
//! A handler takes the token as `Data<&CachedApiToken>`.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::combinators::BoxBody;
use poem::listener::TcpAcceptor;
use poem::web::{Data, Path, RemoteAddr};
use poem::{Endpoint, EndpointExt, Middleware, Request, Response, Route, Server, get, handler};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};
use tower_api_token::middleware::ApiTokenService;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, BoxError, CachedApiToken, Lookup, TokenFormat, TokenRecord,
};

/// The layer as poem's middleware.
struct Authenticated(ApiTokenLayer);

impl<E: Endpoint + 'static> Middleware<E> for Authenticated {
    type Output = Outside<E>;

    fn transform(&self, endpoint: E) -> Outside<E> {
        Outside(self.0.layer(Inside(Arc::new(endpoint))))
    }
}

/// poem calls it, and it calls the layer.
struct Outside<E>(ApiTokenService<Inside<E>>);

impl<E: Endpoint + 'static> Endpoint for Outside<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let mut head = http::Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = std::mem::take(request.headers_mut());
        *head.extensions_mut() = std::mem::take(request.extensions_mut());
        let service = self.0.clone();
        let response = service.oneshot(head.map(|()| request)).await?;
        Ok(response.into())
    }
}

/// The layer calls it, and it calls poem's endpoint.
struct Inside<E>(Arc<E>);

impl<E: Endpoint + 'static> Service<http::Request<Request>> for Inside<E> {
    type Response = http::Response<BoxBody<Bytes, std::io::Error>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Request>) -> Self::Future {
        let (head, mut request) = request.into_parts();
        // Without a token in the query, if the layer reads it there.
        *request.uri_mut() = head.uri;
        *request.headers_mut() = head.headers;
        *request.extensions_mut() = head.extensions;
        let endpoint = Arc::clone(&self.0);
        // An error becomes its response here, so that it is kept from shared caches too.
        Box::pin(async move { Ok(endpoint.get_response(request).await.into()) })
    }
}

impl<E> Clone for Inside<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[handler]
fn order(
    token: Data<&CachedApiToken>,
    number: Path<u64>,
    client: &RemoteAddr,
    body: String,
) -> poem::Result<String> {
    if number.0 == 0 {
        return Err(StatusCode::NOT_FOUND.into());
    }
    let client = client.as_socket_addr().map(|address| address.ip());
    let client = client.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    let (id, origin) = (token.id(), token.origin());
    Ok(format!(
        "order {} of {id} ({origin}) from {client}: {body}\n",
        number.0
    ))
}

fn app(cache: ApiTokenCache) -> impl Endpoint {
    let orders = get(order).post(order);
    let layer = Authenticated(ApiTokenLayer::new(cache));
    Route::new().at("/orders/:number", orders.with(layer))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let format = TokenFormat::from_static("demo_");
    // The second one cannot be looked up.
    let (good, broken) = (format.generate()?, format.generate()?);
    let (known, unreachable) = (good.digest(), broken.digest());
    let cache = ApiTokenCache::builder(move |lookup: Lookup| async move {
        if lookup.digest() == unreachable {
            return Err(BoxError::from("the database is down"));
        }
        Ok((lookup.digest() == known).then(|| TokenRecord::new("tok-1")))
    })
    .build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    for token in [&good, &broken] {
        let token = token.expose();
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/orders/7");
    }
    println!("listening on http://{address}");
    let acceptor = TcpAcceptor::from_tokio(listener)?;
    Server::new_with_acceptor(acceptor).run(app(cache)).await?;
    Ok(())
}
