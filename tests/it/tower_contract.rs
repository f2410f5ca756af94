//! Tests of the contract of `tower_service::Service`, towards the inner service and towards the caller.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, Pending, Ready, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use test_support::Gate;
use tower::buffer::Buffer;
use tower::limit::ConcurrencyLimit;
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_api_token::middleware::{ApiTokenService, ResponseBody, ResponseFuture};
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, ApiTokenLayerBuilder, BoxError, CachedApiToken, Lookup, Origin,
    TokenLoader, TokenRecord,
};
use tower_test::mock;

// ---------------------------------------------------------------------------------------------
// The prefix of a token is its type: `app-…` or `dataset-…`.

const GOOD: &str = "app-0123456789abcdef";
const UNKNOWN: &str = "unknown-0123456789";
const SUSPENDED: &str = "suspended-0123456789";
const FAILING: &str = "failing-0123456789";

/// Is neither `Clone` nor `Default` nor `Debug`, because nothing may require it.
struct Plan(&'static str);

#[derive(Clone, Default)]
struct Database {
    calls: Arc<AtomicUsize>,
    gate: Gate,
}

impl Database {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn cache(&self) -> ApiTokenCache<Plan> {
        // A test that holds the gate must not race the timeout.
        let builder = ApiTokenCache::builder(self.clone());
        builder
            .load_timeout(Duration::from_secs(60))
            .build()
            .unwrap()
    }

    fn layer(&self) -> ApiTokenLayer<Plan> {
        self.builder().build().unwrap()
    }

    fn builder(&self) -> ApiTokenLayerBuilder<Plan> {
        ApiTokenLayer::builder(self.cache()).token_type("app")
    }
}

impl TokenLoader for Database {
    type Metadata = Plan;

    async fn load(&self, lookup: Lookup) -> Result<Option<TokenRecord<Plan>>, BoxError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.pass().await;
        let token = lookup.token().expose();
        let record = |kind| {
            TokenRecord::new(token)
                .token_type(kind)
                .metadata(Plan("gold"))
        };
        Ok(Some(match token {
            SUSPENDED => record("app").denied("suspended"),
            FAILING => return Err("no database".into()),
            app if app.starts_with("app-") => record("app"),
            dataset if dataset.starts_with("dataset-") => record("dataset"),
            _ => return Ok(None),
        }))
    }
}

fn with<B>(token: &str, body: B) -> Request<B> {
    let mut request = Request::new(body);
    let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    request.headers_mut().insert(AUTHORIZATION, value);
    request
}

fn bearer(token: &str) -> Request<Empty<Bytes>> {
    with(token, Empty::new())
}

fn preflight() -> Request<Empty<Bytes>> {
    Request::builder()
        .method(Method::OPTIONS)
        .header("origin", "https://example.org")
        .header("access-control-request-method", "PUT")
        .body(Empty::new())
        .unwrap()
}

type Answer = Response<Full<Bytes>>;

async fn served<B>(_: Request<B>) -> Result<Answer, Infallible> {
    Ok(Response::new(Full::from("served")))
}

/// Fails if `future` takes ten seconds, which is far longer than it needs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, future).await.expect("it hangs")
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

// ---------------------------------------------------------------------------------------------
// Readiness.

/// A service that panics when it is called before it is ready. A clone is another instance, which is not
/// ready.
struct Strict {
    instance: usize,
    ready: bool,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    instances: usize,
    readied: Vec<usize>,
    called: Vec<usize>,
}

impl Strict {
    fn new() -> (Self, Arc<Mutex<Log>>) {
        let log = Arc::new(Mutex::new(Log::default()));
        (Self::numbered(Arc::clone(&log)), log)
    }

    fn numbered(log: Arc<Mutex<Log>>) -> Self {
        let instance = log.lock().unwrap().instances;
        log.lock().unwrap().instances += 1;
        Self {
            instance,
            ready: false,
            log,
        }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::numbered(Arc::clone(&self.log))
    }
}

impl Service<Request<Empty<Bytes>>> for Strict {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if !self.ready {
            self.ready = true;
            self.log.lock().unwrap().readied.push(self.instance);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        let ready_now = std::mem::take(&mut self.ready);
        assert!(
            ready_now,
            "instance {} was called before it was ready",
            self.instance
        );
        self.log.lock().unwrap().called.push(self.instance);
        ready(Ok(Response::new(Full::from("served"))))
    }
}

#[tokio::test]
async fn every_path_calls_the_instance_that_was_made_ready() {
    let (inner, log) = Strict::new();
    let mut service = Database::default()
        .builder()
        .optional()
        .build()
        .unwrap()
        .layer(inner);
    // With a load, from memory, anonymous, a preflight, and with a load again.
    let requests = [
        bearer(GOOD),
        bearer(GOOD),
        Request::new(Empty::new()),
        preflight(),
        bearer("app-another-0123456789"),
        bearer(GOOD),
    ];
    let count = requests.len();
    for request in requests {
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let log = log.lock().unwrap();
    assert_eq!(log.called.len(), count);
    assert_eq!(log.called, log.readied);
}

#[tokio::test]
async fn concurrent_requests_each_keep_their_ready_instance() {
    let database = Database::default();
    database.gate.close();
    let (inner, log) = Strict::new();
    let mut service = database.layer().layer(inner);
    let mut waiting = Vec::new();
    for n in 0..4 {
        let request = bearer(&format!("app-{n}-0123456789"));
        let mut future = Box::pin(service.ready().await.unwrap().call(request));
        assert!(poll_once(future.as_mut()).await.is_pending());
        waiting.push(future);
    }
    database.gate.open();
    // The last one first, because the order of the answers is not guaranteed.
    while let Some(future) = waiting.pop() {
        assert_eq!(soon(future).await.unwrap().status(), StatusCode::OK);
    }
    let log = log.lock().unwrap();
    let mut called = log.called.clone();
    called.reverse();
    assert_eq!(called, log.readied);
    called.dedup();
    assert_eq!(called.len(), 4, "four instances");
}

#[tokio::test]
async fn a_rejection_leaves_the_ready_service_ready() {
    let (inner, log) = Strict::new();
    let database = Database::default();
    let mut service = database.layer().layer(inner);
    // Cached, so that the rejection does not wait.
    let unknown = service.ready().await.unwrap().call(bearer(UNKNOWN));
    assert_eq!(unknown.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    for request in [bearer(UNKNOWN), Request::new(Empty::new())] {
        let rejected = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(rejected.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(log.lock().unwrap().called, [0; 0]);
    let good = service.ready().await.unwrap().call(bearer(GOOD));
    assert_eq!(good.await.unwrap().status(), StatusCode::OK);
    let log = log.lock().unwrap();
    assert_eq!(log.called, log.readied[log.readied.len() - 1..]);
}

#[tokio::test]
async fn backpressure_of_the_inner_service_is_passed_on() {
    let layer = Database::default().layer();
    let (mut service, mut handle) =
        mock::spawn_with(|inner: mock::Mock<Request<Empty<Bytes>>, Answer>| layer.layer(inner));
    handle.allow(0);
    assert!(service.poll_ready::<Request<Empty<Bytes>>>().is_pending());
    handle.allow(1);
    assert!(service.is_woken());
    let ready = service.poll_ready::<Request<Empty<Bytes>>>();
    assert!(matches!(ready, Poll::Ready(Ok(()))));
    // The mock also panics when an instance is called that is not ready.
    let response = tokio::spawn(service.call(bearer(GOOD)));
    let (request, send) = soon(handle.next_request()).await.unwrap();
    let token = request.extensions().get::<CachedApiToken<Plan>>().unwrap();
    assert_eq!((token.id(), token.metadata().0), (GOOD, "gold"));
    send.send_response(Response::new(Full::from("served")));
    let response = soon(response).await.unwrap().unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "served");
}

#[tokio::test]
async fn a_readiness_error_of_the_inner_service_is_passed_on() {
    let layer = Database::default().layer();
    let (mut service, mut handle) =
        mock::spawn_with(|inner: mock::Mock<Request<Empty<Bytes>>, Answer>| layer.layer(inner));
    handle.send_error("worn out");
    match service.poll_ready::<Request<Empty<Bytes>>>() {
        Poll::Ready(Err(error)) => assert_eq!(error.to_string(), "worn out"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_concurrency_limit_of_one_inside_does_not_deadlock() {
    let database = Database::default();
    let inner = ConcurrencyLimit::new(service_fn(served), 1);
    let mut service = database.layer().layer(inner);
    // One after the other on one service, with or without a load, accepted or rejected.
    let tokens = [
        GOOD,
        UNKNOWN,
        SUSPENDED,
        FAILING,
        GOOD,
        UNKNOWN,
        "app-another-0123456789",
    ];
    for token in tokens {
        let service = soon(service.ready()).await.unwrap();
        soon(service.call(bearer(token))).await.unwrap();
    }
    // Concurrently, on clones.
    let crowd: Vec<_> = (0..16)
        .map(|n| {
            let request = bearer(&format!("app-crowd-0123456789-{n}"));
            tokio::spawn(service.clone().oneshot(request))
        })
        .collect();
    for one in crowd {
        assert_eq!(soon(one).await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_waiting_request_holds_its_permit_until_rejected_or_dropped() {
    let database = Database::default();
    database.gate.close();
    let inner = ConcurrencyLimit::new(service_fn(served), 1);
    let mut service = database.layer().layer(inner);
    let ready_now = async |service: &mut ApiTokenService<_, Plan>| {
        let mut ready = pin!(ServiceExt::<Request<Empty<Bytes>>>::ready(service));
        poll_once(ready.as_mut()).await.is_ready()
    };

    for token in [GOOD, UNKNOWN] {
        let mut future = Box::pin(soon(service.ready()).await.unwrap().call(bearer(token)));
        assert!(poll_once(future.as_mut()).await.is_pending());
        assert!(!ready_now(&mut service).await, "the permit is taken");
        drop(future);
        assert!(ready_now(&mut service).await, "dropped");
    }
    database.gate.open();
    let future = soon(service.ready()).await.unwrap().call(bearer(UNKNOWN));
    soon(future).await.unwrap();
    assert!(ready_now(&mut service).await, "rejected");
}

#[tokio::test]
async fn a_buffer_inside_is_called_only_when_it_has_room() {
    let database = Database::default();
    let inner = Buffer::new(service_fn(served), 1);
    let mut service = database.layer().layer(inner);
    for n in 0..8 {
        for request in [bearer(&format!("app-{n}-0123456789")), bearer(GOOD)] {
            let service = soon(service.ready()).await.unwrap();
            let response = soon(service.call(request)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Responses and errors.

#[tokio::test]
async fn a_rejection_is_a_response_and_an_inner_error_stays_an_error() {
    let database = Database::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let inner = service_fn(move |_: Request<Empty<Bytes>>| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Err::<Answer, _>("the service itself is broken") }
    });
    let service = database
        .builder()
        .allow_cors_preflight()
        .build()
        .unwrap()
        .layer(inner);
    // Loaded, then from memory if the answer is cached.
    for _ in 0..2 {
        for (request, status) in [
            (Request::new(Empty::new()), 401),
            (bearer(UNKNOWN), 401),
            (bearer("app,"), 401),
            (bearer(SUSPENDED), 403),
            (bearer(FAILING), 503),
        ] {
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    for request in [bearer(GOOD), bearer(GOOD), preflight()] {
        let error = service.clone().oneshot(request).await.unwrap_err();
        assert_eq!(error, "the service itself is broken");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

// ---------------------------------------------------------------------------------------------
// Callers that hang up.

/// Counts when it is dropped.
struct Witness(Arc<AtomicUsize>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_dropped_future_drops_the_request_in_every_state() {
    let database = Database::default();
    let dropped = Arc::new(AtomicUsize::new(0));
    let request = |token: &str| with(token, Witness(Arc::clone(&dropped)));
    let drops = || dropped.swap(0, Ordering::SeqCst);
    let inside = Gate::new();
    inside.close();
    let gate = inside.clone();
    let inner = service_fn(move |request: Request<Witness>| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            drop(request);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("served")))
        }
    });
    let mut service = database
        .builder()
        .allow_cors_preflight()
        .build()
        .unwrap()
        .layer(inner);

    // Rejected: the request is dropped before the future is polled.
    drop(service.call(request("app,")));
    assert_eq!(drops(), 1);

    // Never polled: no load has begun.
    drop(service.call(request(GOOD)));
    assert_eq!((drops(), database.calls()), (1, 0));

    // Waiting for the loader.
    database.gate.close();
    let mut future = Box::pin(service.call(request(GOOD)));
    assert!(poll_once(future.as_mut()).await.is_pending());
    soon(database.gate.reached(1)).await;
    assert_eq!(drops(), 0);
    drop(future);
    assert_eq!(drops(), 1);
    database.gate.open();

    // In the inner service, after a load and without one.
    let anonymous = preflight().map(|_| Witness(Arc::clone(&dropped)));
    for (n, request) in [request("app-another-0123456789"), anonymous]
        .into_iter()
        .enumerate()
    {
        let mut future = Box::pin(service.call(request));
        tokio::select! {
            _ = future.as_mut() => panic!("the gate is closed"),
            () = soon(inside.reached(n + 1)) => {}
        }
        assert_eq!(drops(), 0);
        drop(future);
        assert_eq!(drops(), 1);
    }
}

#[tokio::test]
async fn a_load_continues_when_its_only_caller_hangs_up() {
    let database = Database::default();
    database.gate.close();
    let cache = database.cache();
    let layer = ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .build()
        .unwrap();
    let origin = service_fn(|request: Request<Empty<Bytes>>| async move {
        let token = request.extensions().get::<CachedApiToken<Plan>>().unwrap();
        Ok::<_, Infallible>(Response::new(token.origin()))
    });
    let service = layer.layer(origin);
    let mut future = Box::pin(service.clone().oneshot(bearer(GOOD)));
    assert!(poll_once(future.as_mut()).await.is_pending());
    soon(database.gate.reached(1)).await;
    drop(future);
    database.gate.open();
    // Nobody waits for the load, or asks again before it is cached.
    soon(async {
        while crate::common::local_entries(&cache) == (0, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let response = service.oneshot(bearer(GOOD)).await.unwrap();
    // The layer requires nothing of the inner service's body.
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(database.calls(), 1);
    let stats = cache.stats();
    let local = stats.lookups_of(
        tower_api_token::metrics::Outcome::Valid,
        Some(Origin::Local),
    );
    assert_eq!((stats.loads, local), (1, 1));
}

#[tokio::test]
async fn waiters_are_served_when_the_first_caller_hangs_up() {
    let database = Database::default();
    database.gate.close();
    let service = database.layer().layer(service_fn(served));
    let mut first = Box::pin(service.clone().oneshot(bearer(GOOD)));
    let mut second = Box::pin(service.clone().oneshot(bearer(GOOD)));
    assert!(poll_once(first.as_mut()).await.is_pending());
    assert!(poll_once(second.as_mut()).await.is_pending());
    soon(database.gate.reached(1)).await;
    drop(first);
    database.gate.open();
    assert_eq!(soon(second).await.unwrap().status(), StatusCode::OK);
    assert_eq!(database.calls(), 1);
}

// ---------------------------------------------------------------------------------------------
// Layers and clones.

#[tokio::test]
async fn clones_of_layer_and_service_share_one_cache() {
    let database = Database::default();
    let cache = database.cache();
    let builder = || ApiTokenLayer::builder(cache.clone()).token_type("app");
    let layer = builder().build().unwrap();
    let other = builder().realm("other").build().unwrap();
    let services = [
        layer.layer(service_fn(served)),
        layer.clone().layer(service_fn(served)),
        layer.layer(service_fn(served)).clone(),
        // A layer with another realm, on the same cache.
        other.layer(service_fn(served)),
    ];
    for service in &services {
        for (token, status) in [(GOOD, 200), (UNKNOWN, 401), (SUSPENDED, 403)] {
            let response = service.clone().oneshot(bearer(token)).await.unwrap();
            assert_eq!(response.status(), status);
        }
    }
    assert_eq!(database.calls(), 3);
}

#[tokio::test]
async fn two_stacked_layers_must_both_accept() {
    let database = Database::default();
    let cache = database.cache();
    let any = ApiTokenLayer::new(cache.clone());
    let app = ApiTokenLayer::builder(cache)
        .token_type("app")
        .build()
        .unwrap();
    let reached = Arc::new(Mutex::new(Vec::new()));
    for stacked in [[any.clone(), app.clone()], [app, any]] {
        let ids = Arc::clone(&reached);
        let inner = service_fn(move |request: Request<Empty<Bytes>>| {
            let token = request.extensions().get::<CachedApiToken<Plan>>();
            ids.lock().unwrap().push(token.unwrap().id().to_owned());
            served(request)
        });
        let [outer, inside] = stacked;
        let service = ServiceBuilder::new()
            .layer(outer)
            .layer(inside)
            .service(inner);
        for (token, status) in [
            (GOOD, 200),
            (GOOD, 200),
            // Valid for one layer, but not for the other.
            ("dataset-0123456789", 401),
            (UNKNOWN, 401),
        ] {
            let response = service.clone().oneshot(bearer(token)).await.unwrap();
            assert_eq!(response.status(), status, "{token}");
        }
    }
    assert_eq!(*reached.lock().unwrap(), [GOOD; 4]);
}

#[tokio::test]
async fn stacked_layers_of_different_metadata_each_insert_their_token() {
    let loader = |lookup: Lookup| async move {
        let id = format!("plain {}", lookup.token().expose());
        Ok::<_, Infallible>(Some(TokenRecord::new(id).token_type("app")))
    };
    let plain = ApiTokenLayer::new(ApiTokenCache::builder(loader).build().unwrap());
    let inner = service_fn(|request: Request<Empty<Bytes>>| async move {
        let plan = request.extensions().get::<CachedApiToken<Plan>>().unwrap();
        let plain = request.extensions().get::<CachedApiToken>().unwrap();
        let text = format!("{} and {}", plan.metadata().0, plain.id());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text)))
    });
    let service = Database::default().layer().layer(plain.layer(inner));
    for _ in 0..2 {
        let response = service.clone().oneshot(bearer(GOOD)).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), format!("gold and plain {GOOD}"));
    }
}

/// The attack of http.md line 29, which a careless outer layer would make possible.
#[tokio::test]
async fn a_token_in_the_extensions_does_not_survive_an_optional_layer() {
    let database = Database::default();
    let cache = database.cache();
    let answer = cache.authenticate_typed(GOOD, "app").await.unwrap();
    let smuggled = answer.valid().unwrap();
    let inner = service_fn(|request: Request<Empty<Bytes>>| async move {
        let token = request.extensions().get::<CachedApiToken<Plan>>();
        Ok::<_, Infallible>(Response::new(token.map(|token| token.id().to_owned())))
    });
    let layer = ApiTokenLayer::builder(cache)
        .token_type("app")
        .optional()
        .build()
        .unwrap();
    for mut request in [Request::new(Empty::new()), preflight()] {
        request.extensions_mut().insert(smuggled.clone());
        let seen = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&seen);
        let inner = inner.map_response(move |response: Response<Option<String>>| {
            *keep.lock().unwrap() = response.into_body();
            Response::new(Full::<Bytes>::default())
        });
        layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), None);
    }
}

#[test]
fn the_inner_service_is_accessible() {
    let mut service = Database::default().layer().layer(7_u8);
    *service.get_mut() += 1;
    assert_eq!(*service.get_ref(), 8);
    assert_eq!(service.into_inner(), 8);
}

// ---------------------------------------------------------------------------------------------
// Types.

/// A service whose error and response body implement no traits.
#[derive(Clone)]
struct Poor;
struct PoorBody;
struct PoorError;

impl<B> Service<Request<B>> for Poor {
    type Response = Response<PoorBody>;
    type Error = PoorError;
    type Future = Ready<Result<Response<PoorBody>, PoorError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PoorError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(PoorBody)))
    }
}

#[tokio::test]
async fn any_body_and_any_error_type_are_accepted() {
    struct Odd;
    let service = Database::default().layer().layer(Poor);
    for _ in 0..2 {
        let served = service.clone().oneshot(with(GOOD, Odd)).await;
        assert!(served.is_ok_and(|response| response.status() == StatusCode::OK));
        let rejected = service.clone().oneshot(with(UNKNOWN, Odd)).await;
        assert!(rejected.is_ok_and(|response| response.status() == StatusCode::UNAUTHORIZED));
    }
}

#[tokio::test]
async fn neither_the_body_nor_the_inner_future_has_to_be_send() {
    let inner = service_fn(|request: Request<Rc<Cell<u8>>>| async move {
        let body = request.into_body();
        tokio::task::yield_now().await;
        body.set(body.get() + 1);
        Ok::<_, Rc<str>>(Response::new(Full::<Bytes>::default()))
    });
    let service = Database::default().layer().layer(inner);
    let body = Rc::new(Cell::new(0));
    for _ in 0..2 {
        let request = with(GOOD, Rc::clone(&body));
        service.clone().oneshot(request).await.unwrap();
    }
    assert_eq!(body.get(), 2);
}

#[tokio::test]
async fn the_service_can_be_boxed_as_frameworks_do() {
    let inner = service_fn(served::<Full<Bytes>>);
    let layers = ServiceBuilder::new().layer(Database::default().layer());
    let mut service = BoxCloneService::new(layers.service(inner));
    for _ in 0..2 {
        let request = with(GOOD, Full::default());
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[test]
fn the_auto_traits_do_not_depend_on_the_metadata() {
    fn shared<T: Clone + Debug + Send + Sync + Unpin + 'static>() {}
    fn sent<T: Debug + Send + 'static>() {}
    fn unpinned<T: Unpin>() {}
    fn body<T: Debug + Default + Send + Sync + Unpin + 'static>() {}

    /// Is `Send`, but not `Sync`, `Clone` or `Unpin`, like many bodies.
    struct Body(
        #[expect(dead_code, reason = "only its auto traits count")]
        (Cell<u8>, std::marker::PhantomPinned),
    );

    /// A service that implements `Debug`.
    #[derive(Clone, Debug)]
    struct Inner;
    impl Service<Request<Body>> for Inner {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            pending()
        }
    }

    shared::<ApiTokenLayer>();
    shared::<ApiTokenLayer<Plan>>();
    shared::<ApiTokenService<Inner>>();
    shared::<ApiTokenService<Inner, Plan>>();
    sent::<ResponseFuture<Inner, Body, Plan>>();
    // Only the inner future is pinned.
    unpinned::<ResponseFuture<Inner, Body, Plan>>();
    body::<ResponseBody<Full<Bytes>>>();

    // The layer's service accepts this body.
    fn is_service<S: Service<Request<Body>>>(_: S) {}
    is_service(Database::default().layer().layer(Inner));
}

// ---------------------------------------------------------------------------------------------
// Panics in the user's code.

#[tokio::test]
async fn a_panic_in_a_policy_affects_only_its_own_request() {
    let database = Database::default();
    let cache = database.cache();
    let layer = ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .build()
        .unwrap();
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let panics = ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .policy(|_, _| panic!("the test panics on purpose"))
        .build()
        .unwrap()
        .layer(inner);
    let request = || {
        let request = Request::builder().header(AUTHORIZATION, format!("Bearer {GOOD}"));
        request.body(()).unwrap()
    };
    // The first loads the token, the second finds it in the cache.
    for _ in 0..2 {
        let asked = tokio::spawn(panics.clone().oneshot(request()));
        assert!(asked.await.unwrap_err().is_panic());
        assert_eq!(cache.in_flight(), 0);
    }
    let answer = layer.layer(inner).oneshot(request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(database.calls(), 1);
}
