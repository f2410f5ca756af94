//! Serves HTTP/1.1 and HTTP/2, and closes the connections of clients that send nothing.
//!
//! `axum::serve` has no such timeout: half-open connections, and those whose request is never complete,
//! add up until no file descriptor is left.

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

/// The pause after a failed `accept` that is not the client's fault, such as a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until `shutdown` completes, and then until every connection has ended.
///
/// A client may take `client_timeout` to send the head of a request. An HTTP/1.1 connection may be idle
/// for as long, and an HTTP/2 connection must answer a ping within that time.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    client_timeout: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(client_timeout);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(client_timeout)
        .keep_alive_timeout(client_timeout);
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = shutdown.as_mut() => break,
        };
        let router = TowerToHyperService::new(router.clone());
        let had_request = Arc::new(AtomicBool::new(false));
        let on_request = Arc::clone(&had_request);
        let service = service_fn(move |request: Request<Incoming>| {
            on_request.store(true, Ordering::Relaxed);
            router.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            // The timeouts above begin once the first bytes have shown the HTTP version.
            let no_request = async {
                tokio::time::sleep(client_timeout).await;
                if had_request.load(Ordering::Relaxed) {
                    std::future::pending().await
                }
            };
            tokio::select! {
                // Errors of a connection are the client's, and are not logged.
                _ = connection => {}
                () = no_request => {}
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
                // Otherwise small responses are delayed, which is slower but not wrong.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if is_client_error(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_client_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
