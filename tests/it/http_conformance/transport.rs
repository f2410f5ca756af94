//! The transports of a case: a call of the service, and connections to real servers.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::{Layer, service_fn};

use crate::http_conformance::world::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A call of the service.
    Call,
    Http1(Framework),
    Http2(Framework),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framework {
    Hyper,
    Axum,
}

/// A request in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
}

impl Ask {
    pub(crate) fn parts(&self) -> http::request::Parts {
        self.request("", ()).into_parts().0
    }

    fn request<B>(&self, authority: &str, body: B) -> Request<B> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("{authority}{}", self.target));
        for (name, value) in &self.headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        request.body(body).unwrap()
    }
}

/// A server that stops when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(TcpListener) -> F,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener));
        Self { address, task }
    }

    pub(crate) async fn of(world: &World, framework: Framework) -> Self {
        match framework {
            Framework::Axum => {
                let app = Router::new()
                    .fallback_service(service_fn(world.inner()))
                    .layer(world.layer.clone());
                Self::start(|listener| async { axum::serve(listener, app).await.unwrap() }).await
            }
            Framework::Hyper => {
                let service =
                    TowerToHyperService::new(world.layer.layer(service_fn(world.inner())));
                Self::start(async move |listener| {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let service = service.clone();
                        tokio::spawn(async move {
                            let server = auto::Builder::new(TokioExecutor::new());
                            server.serve_connection(TokioIo::new(stream), service).await
                        });
                    }
                })
                .await
            }
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn http2<B>(&self) -> http2::SendRequest<B>
    where
        B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let io = TokioIo::new(self.connect().await);
        let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn send_http1(&self, ask: &Ask) -> Reply {
        let mut request = format!("{} {} HTTP/1.1\r\nHost: h\r\n", ask.method, ask.target);
        if ask.method == "POST" {
            request.push_str("Content-Length: 0\r\n");
        }
        let mut request = request.into_bytes();
        for (name, value) in &ask.headers {
            request.extend_from_slice(&[name.as_bytes(), b":", value, b"\r\n"].concat());
        }
        request.extend_from_slice(b"Connection: close\r\n\r\n");
        let mut stream = self.connect().await;
        stream.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        Reply::parse(&answer)
    }

    async fn send_http2(&self, ask: &Ask) -> Reply {
        let authority = format!("http://{}", self.address);
        let request = ask.request(&authority, Empty::new());
        let mut client = self.http2().await;
        Reply::read(client.send_request(request).await.unwrap()).await
    }
}

/// Sends the requests, and removes the headers that the server adds.
pub(crate) async fn send(transport: Transport, world: &World, asks: &[&Ask]) -> Vec<Reply> {
    let mut replies = Vec::new();
    let server = match transport {
        Transport::Call => None,
        Transport::Http1(framework) | Transport::Http2(framework) => {
            Some(Server::of(world, framework).await)
        }
    };
    for ask in asks {
        let mut reply = match (&server, transport) {
            (None, _) => world.send(ask.request("", Empty::<Bytes>::new())).await,
            (Some(server), Transport::Http1(_)) => server.send_http1(ask).await,
            (Some(server), _) => server.send_http2(ask).await,
        };
        let of_the_server = |name: &str| matches!(name, "date" | "connection");
        reply.headers.retain(|(name, _)| !of_the_server(name));
        replies.push(reply);
    }
    replies
}
