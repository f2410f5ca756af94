//! Serves HTTP/1.1 and HTTP/2 without TLS.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

use crate::answer::Verifier;

/// How long a proxy's connection may be idle. It is longer than proxies keep one by default (nginx 1 minute, Caddy 2),
/// so that they close it and never send a question on a connection that is being closed.
const IDLE: Duration = Duration::from_secs(180);

/// How large the head of a request may be, in bytes. It is more than proxies accept by default (nginx 32 KiB, HAProxy
/// 16 KiB), so that none of them gets a refusal that it does not understand.
const MAX_HEAD: u32 = 64 * 1024;

/// How long open requests may take after `shutdown`. It is longer than the cache's own limits, 2 seconds in the queue
/// and 3 for the load.
const DRAIN: Duration = Duration::from_secs(6);

/// Serves until `shutdown` completes, and then until every open request is answered.
pub(crate) async fn serve(
    listener: TcpListener,
    verifier: Verifier,
    shutdown: impl Future<Output = ()>,
) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD as usize);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE)
        .max_header_list_size(MAX_HEAD);
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.as_mut() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("a connection was not accepted: {error}");
                // Perhaps there is no file descriptor left.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Otherwise small answers are delayed, which is slower but not wrong.
        let _ = stream.set_nodelay(true);
        let verifier = verifier.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let verifier = verifier.clone();
            async move { Ok::<_, Infallible>(verifier.answer(request).await) }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection.into_owned());
        // Errors of a connection are the proxy's.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}
