//! The service behind a proxy, which answers with the request that it got.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use test_support::Answer;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_api_token::TokenDigest;

/// A request, as the service saw it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) uri: String,
    headers: Vec<(String, String)>,
    /// The body's length and digest.
    pub(super) body: (usize, String),
}

impl Seen {
    /// Parses the service's answer.
    #[track_caller]
    pub(super) fn of(answer: Answer) -> Self {
        serde_json::from_str(&answer.expect(200).body).unwrap()
    }

    /// Returns all values of headers that a service may take for `name`, where a dash and an underscore are the same.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let headers = self.headers.iter();
        let values = headers.filter(|(found, _)| found.replace('_', "-") == name);
        values.map(|(_, value)| value.as_str()).collect()
    }
}

pub(super) struct Service {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Service {
    pub(super) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let router = Router::new().fallback(async move |request: Request| {
            counter.fetch_add(1, Ordering::SeqCst);
            answer(request).await
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            requests,
            _runtime: runtime,
        }
    }

    /// Returns how many requests have reached the service.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Returns what [`Seen::body`] is for a body.
pub(super) fn digest(body: &[u8]) -> (usize, String) {
    let digest = TokenDigest::of(&String::from_utf8_lossy(body));
    (body.len(), digest.to_string())
}

async fn answer(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // A status of its own, at `/status/…`.
    if let Some(status) = parts.uri.path().strip_prefix("/status/") {
        let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
        return (status, "the service's own").into_response();
    }
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let headers = parts.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_string(), value)
    });
    let seen = Seen {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: headers.collect(),
        body: digest(&body),
    };
    serde_json::to_string(&seen).unwrap().into_response()
}
