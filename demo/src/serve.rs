//! Accepts connections, over HTTP/1.1 and HTTP/2, and keeps none for a client that sends nothing.
//!
//! `axum::serve` waits for a request for as long as a client likes: connections that are half open, or whose
//! request never comes to its end, add up until no file descriptor is left.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

/// How long accepting rests when it fails for another reason than the client: no file descriptor is left,
/// say.
const REST: Duration = Duration::from_secs(1);

/// Serves until `shutdown` is ready, and then until every connection has ended. A client has `patience` for the
/// head of a request; a connection over HTTP/1.1 is idle for no longer, and one over HTTP/2 has to answer a
/// ping.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience);
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = shutdown.as_mut() => break,
        };
        let router = TowerToHyperService::new(router.clone());
        let asked = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Incoming>| {
            asks.store(true, Ordering::Relaxed);
            router.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            // Which version it is shows in the first bytes, and nothing above bounds how long these take.
            let silent = async {
                tokio::time::sleep(patience).await;
                if asked.load(Ordering::Relaxed) {
                    std::future::pending().await
                }
            };
            tokio::select! {
                // What a client does with its connection is no news.
                _ = connection => {}
                () = silent => {}
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers are not held back. Without it they are slower, and no worse.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
