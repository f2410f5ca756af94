//! A real tonic client against the real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower_api_token::{ApiTokenCache, Denial, Lookup, TokenRecord, Verdict, loader_fn};

const GOOD: &str = "app-0123456789abcdef";
const SUSPENDED: &str = "app-of-a-suspended-tenant";
const FAILING: &str = "app-while-the-database-is-down";
const REASON: &str = "Tenant „zwölf“ is suspended: 100 % of its quota is used.";

struct Running {
    client: HealthClient<Channel>,
    loads: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

async fn start() -> Running {
    let loads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&loads);
    let loader = loader_fn(move |lookup: Lookup| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            Ok::<Verdict, _>(match lookup.token().expose() {
                GOOD => TokenRecord::new("tok-1", "app").into(),
                SUSPENDED => Denial::new(REASON).into(),
                FAILING => return Err(std::io::Error::other("password of the database: hunter2")),
                _ => Verdict::Absent,
            })
        }
    });
    let cache = ApiTokenCache::builder(loader).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(example_tonic::serve(listener, cache, async {
        // Dropping the sender stops the server too.
        let _ = stopped.await;
    }));
    let endpoint = Endpoint::try_from(address).unwrap();
    let client = HealthClient::new(endpoint.connect().await.unwrap());
    Running {
        client,
        loads,
        stop,
        server,
    }
}

impl Running {
    async fn check(&mut self, authorization: &[&str]) -> Result<ServingStatus, Status> {
        let mut request = Request::new(HealthCheckRequest::default());
        for value in authorization {
            let value = MetadataValue::try_from(*value).unwrap();
            request.metadata_mut().append("authorization", value);
        }
        let response = self.client.check(request).await?;
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

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn a_good_token_is_served_and_loaded_once() {
    let mut running = start().await;
    for _ in 0..2 {
        let status = running.check(&[&bearer(GOOD)]).await.unwrap();
        assert_eq!(status, ServingStatus::Serving);
    }
    assert_eq!(running.loads(), 1);
    running.stop().await;
}

#[tokio::test]
async fn no_token_and_an_unknown_one_are_unauthenticated() {
    let mut running = start().await;
    let (code, message) = running.refusal(&[]).await;
    assert_eq!(code, Code::Unauthenticated);
    assert_eq!(message, "A bearer token is required.");
    assert_eq!(running.refusal(&["Basic YTpi"]).await.0, code);
    assert_eq!(running.loads(), 0);
    let unknown = running.refusal(&[&bearer("app-nobody-knows-it")]).await;
    let expected = "The bearer token is not valid.".to_owned();
    assert_eq!(unknown, (Code::Unauthenticated, expected));
    assert_eq!(running.refusal(&["Bearer"]).await, unknown);
    running.stop().await;
}

#[tokio::test]
async fn a_denied_token_is_told_the_loaders_reason_letter_for_letter() {
    let mut running = start().await;
    let denied = (Code::PermissionDenied, REASON.to_owned());
    assert_eq!(running.refusal(&[&bearer(SUSPENDED)]).await, denied);
    assert_eq!(running.refusal(&[&bearer(SUSPENDED)]).await, denied);
    assert_eq!(running.loads(), 1, "a denial is cached");
    running.stop().await;
}

#[tokio::test]
async fn a_failing_loader_is_unavailable_without_its_text_and_is_asked_again() {
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
async fn two_authorization_entries_are_an_invalid_argument_even_when_both_are_good() {
    let mut running = start().await;
    let good = bearer(GOOD);
    let (code, _) = running.refusal(&[&good, &good]).await;
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(running.loads(), 0);
    running.stop().await;
}
