//! A tonic client with the example's server, in this process and as a program.

#[path = "../../tonic/serve.rs"]
mod serve;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use test_support::Example;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::service::LayerExt;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_web::GrpcWebClientLayer;
use tower::{ServiceBuilder, ServiceExt};
use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};

/// A token of an application, which may watch.
const WATCHER: &str = "app-of-an-application";
const GOOD: &str = "app-0123456789abcdef";
const SUSPENDED: &str = "app-of-a-suspended-tenant";
const FAILING: &str = "app-while-the-database-is-down";
const REASON: &str = "Tenant „zwölf“ is suspended: 100 % of its quota is used.";

struct Running {
    address: String,
    client: HealthClient<Channel>,
    loads: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

async fn start() -> Running {
    let loads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&loads);
    let loader = move |lookup: Lookup| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            Ok(Some(match lookup.token().expose() {
                GOOD => TokenRecord::new("tok-1").token_type("app"),
                WATCHER => TokenRecord::new("tok-2")
                    .token_type("app")
                    .app_id("shop".to_owned()),
                SUSPENDED => TokenRecord::new("tok-3").token_type("app").denied(REASON),
                FAILING => return Err(std::io::Error::other("password of the database: hunter2")),
                _ => return Ok(None),
            }))
        }
    };
    let cache = ApiTokenCache::builder(loader).build().unwrap();
    let layer = serve::layer(cache).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve::serve(listener, layer, async {
        // Dropping the sender stops the server too.
        let _ = stopped.await;
    }));
    let endpoint = Endpoint::try_from(address.clone()).unwrap();
    let client = HealthClient::new(endpoint.connect().await.unwrap());
    Running {
        address,
        client,
        loads,
        stop,
        server,
    }
}

impl Running {
    async fn check(&mut self, authorization: &[&str]) -> Result<ServingStatus, Status> {
        let response = self.client.check(request(authorization)).await?;
        Ok(response.into_inner().status())
    }

    async fn refusal(&mut self, authorization: &[&str]) -> (Code, String) {
        let status = self.check(authorization).await.unwrap_err();
        (status.code(), status.message().to_owned())
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    async fn stop(self) {
        drop(self.client);
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }
}

fn request(authorization: &[&str]) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest::default());
    for value in authorization {
        let value = MetadataValue::try_from(*value).unwrap();
        request.metadata_mut().append("authorization", value);
    }
    request
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn valid_token_is_served_and_loaded_once() {
    let mut running = start().await;
    for _ in 0..2 {
        let status = running.check(&[&bearer(GOOD)]).await.unwrap();
        assert_eq!(status, ServingStatus::Serving);
    }
    assert_eq!(running.loads(), 1);
    running.stop().await;
}

#[tokio::test]
async fn missing_and_unknown_tokens_are_unauthenticated() {
    let mut running = start().await;
    let (code, message) = running.refusal(&[]).await;
    assert_eq!(code, Code::Unauthenticated);
    assert_eq!(message, "An API token is required.");
    assert_eq!(running.refusal(&["Basic YTpi"]).await.0, code);
    assert_eq!(running.loads(), 0);
    let unknown = running.refusal(&[&bearer("app-nobody-knows-it")]).await;
    let expected = "The API token is not valid.".to_owned();
    assert_eq!(unknown, (Code::Unauthenticated, expected));
    assert_eq!(running.refusal(&["Bearer"]).await, unknown);
    running.stop().await;
}

#[tokio::test]
async fn denial_has_the_loaders_reason() {
    let mut running = start().await;
    let denied = (Code::PermissionDenied, REASON.to_owned());
    assert_eq!(running.refusal(&[&bearer(SUSPENDED)]).await, denied);
    assert_eq!(running.refusal(&[&bearer(SUSPENDED)]).await, denied);
    assert_eq!(running.loads(), 1, "a denial is cached");
    running.stop().await;
}

#[tokio::test]
async fn failing_loader_is_unavailable_and_called_again() {
    let mut running = start().await;
    for loads in 1..=2 {
        let (code, message) = running.refusal(&[&bearer(FAILING)]).await;
        assert_eq!(code, Code::Unavailable);
        assert!(!message.contains("hunter2"), "{message}");
        assert_eq!(running.loads(), loads);
    }
    running.stop().await;
}

#[tokio::test]
async fn two_authorization_entries_are_an_invalid_argument() {
    let mut running = start().await;
    let good = bearer(GOOD);
    let (code, _) = running.refusal(&[&good, &good]).await;
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(running.loads(), 0);
    running.stop().await;
}

#[tokio::test]
async fn policy_is_applied_to_each_call() {
    let mut running = start().await;
    let good = bearer(GOOD);
    for _ in 0..2 {
        let watch = running.client.watch(request(&[&good])).await.unwrap_err();
        assert_eq!(watch.code(), Code::PermissionDenied);
        assert_eq!(
            watch.message(),
            "The API token does not allow this request."
        );
        let status = running.check(&[&good]).await.unwrap();
        assert_eq!(status, ServingStatus::Serving);
    }
    assert_eq!(running.loads(), 1, "the method was rejected, not the token");
    let watcher = request(&[&bearer(WATCHER)]);
    let watching = running.client.watch(watcher).await.unwrap();
    let first = watching.into_inner().message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    running.stop().await;
}

#[tokio::test]
async fn grpc_web_has_the_same_statuses() {
    let mut running = start().await;
    let http1 = Client::builder(TokioExecutor::new()).build_http();
    let web = ServiceBuilder::new()
        .layer(GrpcWebClientLayer::new())
        .service(http1);
    let mut client = HealthClient::with_origin(web, running.address.parse().unwrap());
    let response = client.check(request(&[&bearer(GOOD)])).await.unwrap();
    assert_eq!(response.into_inner().status(), ServingStatus::Serving);
    let good = bearer(GOOD);
    let (suspended, failing) = (bearer(SUSPENDED), bearer(FAILING));
    for authorization in [
        &[][..],
        &["Bearer app-nobody-knows-it"],
        &["Bearer"],
        &[&suspended],
        &[&failing],
        &[&good, &good],
    ] {
        let status = client.check(request(authorization)).await.unwrap_err();
        let over_web = (status.code(), status.message().to_owned());
        assert_eq!(over_web, running.refusal(authorization).await);
        assert_ne!(over_web.0, Code::Unknown);
    }
    let watch = client.watch(request(&[&good])).await.unwrap_err();
    assert_eq!(watch.code(), Code::PermissionDenied);
    running.stop().await;
}

#[tokio::test]
async fn program_answers_its_printed_command_and_a_client() {
    let example = Example::start(Path::new(env!("CARGO_BIN_EXE_tonic")), &[]);
    let pasted = example.paste(0).expect(200);
    assert_eq!(pasted.header("content-type"), "application/grpc");
    // Five bytes of the frame, and the field `status` with the value 1.
    assert!(
        pasted.body.starts_with("^@^@^@^@^B^H^A"),
        "it serves: {pasted:?}"
    );

    let endpoint = Endpoint::try_from(format!("http://{}", example.address())).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let good = bearer(example.token(0, "Bearer "));
    let answer = client.check(request(&[&good])).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    for authorization in [&[][..], &["Bearer app-nobody-knows-it"]] {
        let status = client.check(request(authorization)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn named_layer_covers_one_service_and_leaves_the_others_open() {
    let loader = |lookup: Lookup| async move {
        let known = lookup.token().expose() == GOOD;
        Ok::<_, std::io::Error>(known.then(|| TokenRecord::new("tok-1").token_type("app")))
    };
    let layer = serve::layer(ApiTokenCache::builder(loader).build().unwrap()).unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(layer.named_layer(health))
        .add_service(Open)
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let channel = Endpoint::try_from(address)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = HealthClient::new(channel.clone());
    let refused = client.check(request(&[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let served = client.check(request(&[&bearer(GOOD)])).await.unwrap();
    assert_eq!(served.into_inner().status(), ServingStatus::Serving);
    let open = http::Request::post("/open.Service/Method").body(tonic::body::Body::empty());
    let answer = channel.oneshot(open.unwrap()).await.unwrap();
    assert_eq!(answer.headers()["x-open"], "yes");
    server.abort();
}

/// A service that the layer is not around.
#[derive(Clone)]
struct Open;

impl tonic::server::NamedService for Open {
    const NAME: &'static str = "open.Service";
}

impl tower::Service<http::Request<tonic::body::Body>> for Open {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future {
        let response = http::Response::builder().header("x-open", "yes");
        std::future::ready(Ok(response.body(tonic::body::Body::empty()).unwrap()))
    }
}
