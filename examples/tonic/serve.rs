//! The server, which the test starts too.

use std::future::Future;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_web::GrpcWebLayer;
use tower_api_token::rejection::RequestHead;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, Rejection};

/// A stream stays open: it is for tokens that belong to an application.
fn may_call(token: &CachedApiToken, request: &RequestHead<'_>) -> Result<(), Rejection> {
    if request.path().ends_with("/Watch") && token.app_id().is_none() {
        return Err(Rejection::INSUFFICIENT_SCOPE);
    }
    Ok(())
}

/// Serves the health service to those whose token `cache` knows in the scope `app`, until `stop` is ready.
///
/// # Errors
/// The listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    cache: ApiTokenCache,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (_, health) = tonic_health::server::health_reporter();
    Server::builder()
        .accept_http1(true)
        .layer(
            ApiTokenLayer::new(cache)
                .with_scope("app")
                .with_policy(may_call),
        )
        .layer(GrpcWebLayer::new())
        .add_service(health)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop)
        .await
}
