//! The server, which the tests start too.

use std::future::Future;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_web::GrpcWebLayer;
use tower_api_token::rejection::RequestHead;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Rejection};

/// Allows streams, which stay open, only for tokens of an application.
fn may_call(token: &CachedApiToken, request: &RequestHead<'_>) -> Result<(), Rejection> {
    if request.path().ends_with("/Watch") && token.app_id().is_none() {
        return Err(Rejection::INSUFFICIENT_SCOPE);
    }
    Ok(())
}

pub(crate) fn layer(cache: ApiTokenCache) -> Result<ApiTokenLayer, ConfigError> {
    ApiTokenLayer::builder(cache)
        .token_type("app")
        .policy(may_call)
        .build()
}

/// Serves the health service behind `layer`, until `stop` completes.
///
/// # Errors
/// Returns an error if the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    layer: ApiTokenLayer,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (_, health) = tonic_health::server::health_reporter();
    Server::builder()
        .accept_http1(true)
        .layer(layer)
        .layer(GrpcWebLayer::new())
        .add_service(health)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop)
        .await
}
