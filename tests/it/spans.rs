//! Tests of the output for `tracing`: one span for each miss, one event for each rejection, and no token.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex};

use crate::common::{Cache, Db, Mode, Row, ask, found, is_invalid, redis, start, until};
use chrono::DateTime;
use http::{Request, Response};
use test_support::{Needles, RedisServer};
use tower::{Layer as _, ServiceExt, service_fn};
use tower_api_token::{ApiTokenCache, ApiTokenLayer, Lookup, Rejection, TokenRecord};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Event, Instrument as _, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

const TOKEN: &str = "app-7hQ2mXv9LpT4wZ8kRb3N";
const UNKNOWN: &str = "app-Yt5rEw3qPl9oKj2hGf7D";

type Fields = BTreeMap<String, String>;

#[derive(Debug, Clone, Default)]
struct Seen {
    name: String,
    target: String,
    level: Option<Level>,
    parent: Option<String>,
    fields: Fields,
}

/// Collects the spans and events of this thread, at all levels.
#[derive(Clone, Default)]
struct Capture {
    spans: Arc<Mutex<Vec<(Id, Seen)>>>,
    events: Arc<Mutex<Vec<Seen>>>,
}

impl Capture {
    /// While only one subscriber exists, `tracing` asks the thread that reaches a callsite first whether anyone is
    /// interested, and remembers "no" if that is another test's thread. With a second one it asks them all.
    fn install(&self) -> DefaultGuard {
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
        LazyLock::force(&SECOND);
        tracing::subscriber::set_default(Registry::default().with(self.clone()))
    }

    /// Returns the spans of the lookups, in the order in which they began.
    fn lookups(&self) -> Vec<Seen> {
        let spans = self.spans.lock().unwrap();
        let ours = spans
            .iter()
            .filter(|(_, span)| span.name == "api_token.lookup");
        ours.map(|(_, span)| span.clone()).collect()
    }

    fn rejections(&self) -> Vec<Fields> {
        let events = self.events.lock().unwrap();
        let rejection = |event: &&Seen| event.target == "tower_api_token::rejection";
        let fields = |event: &Seen| {
            assert_eq!(event.level, Some(Level::DEBUG));
            event.fields.clone()
        };
        events.iter().filter(rejection).map(fields).collect()
    }
}

struct Visitor<'a>(&'a mut Fields);

impl Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        let parent = context.span(id).and_then(|span| span.parent());
        let mut span = Seen {
            name: metadata.name().to_owned(),
            target: metadata.target().to_owned(),
            level: Some(*metadata.level()),
            parent: parent.map(|parent| parent.name().to_owned()),
            fields: Fields::new(),
        };
        attributes.record(&mut Visitor(&mut span.fields));
        self.spans.lock().unwrap().push((id.clone(), span));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = self.spans.lock().unwrap();
        // Ids are reused, so take the latest span with this one.
        let (_, span) = spans.iter_mut().rfind(|(known, _)| known == id).unwrap();
        values.record(&mut Visitor(&mut span.fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut seen = Seen {
            target: event.metadata().target().to_owned(),
            level: Some(*event.metadata().level()),
            parent: context.event_span(event).map(|span| span.name().to_owned()),
            ..Seen::default()
        };
        event.record(&mut Visitor(&mut seen.fields));
        self.events.lock().unwrap().push(seen);
    }
}

fn fields(span: &Seen, names: [&str; 4]) -> [String; 4] {
    names.map(|name| span.fields.get(name).cloned().unwrap_or_default())
}

const ENDS: [&str; 4] = ["outcome", "origin", "reason", "joined"];

#[tokio::test]
async fn a_miss_has_one_span_with_its_outcome_and_a_hit_has_none() {
    let capture = Capture::default();
    let _guard = capture.install();
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db.cache().store(redis(&server)).build().unwrap();
    let other = db.cache().store(redis(&server)).build().unwrap();
    for _ in 0..3 {
        found(&cache, TOKEN).await;
    }
    found(&other, TOKEN).await;
    for _ in 0..3 {
        assert!(is_invalid(&cache, UNKNOWN).await);
    }
    cache.invalidate(TOKEN).await.unwrap();
    db.mode(Mode::Fails);
    ask(&cache, TOKEN).await.unwrap_err();
    let spans = capture.lookups();
    let ends: Vec<_> = spans.iter().map(|span| fields(span, ENDS)).collect();
    assert_eq!(
        ends,
        [
            ["valid", "loaded", "", "false"],
            ["valid", "shared", "", "false"],
            ["invalid", "loaded", "unknown", "false"],
            ["unavailable", "none", "loader_failed", "false"],
        ]
    );
    for span in spans {
        assert_eq!(
            (span.target.as_str(), span.level),
            ("tower_api_token", Some(Level::INFO))
        );
        assert_eq!(span.fields["token_type"], "app");
    }
}

#[tokio::test]
async fn waiters_of_a_call_have_spans_of_their_own_that_say_so() {
    let capture = Capture::default();
    let _guard = capture.install();
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db.cache().build().unwrap();
    db.gate.close();
    let asked = [(); 3].map(|()| start(&cache, TOKEN));
    until(|| cache.stats().joined == 2).await;
    db.gate.open();
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    let joined = capture
        .lookups()
        .into_iter()
        .map(|span| span.fields["joined"].clone());
    assert_eq!(joined.collect::<Vec<_>>(), ["false", "true", "true"]);
}

#[tokio::test]
async fn the_loader_runs_inside_the_spans_of_miss_and_request() {
    let capture = Capture::default();
    let _guard = capture.install();
    let loader = |_: Lookup| {
        async {
            tracing::info!(target: "query", "the query");
            Ok::<_, Infallible>(Some(TokenRecord::new("tok-1").token_type("app")))
        }
        .instrument(tracing::info_span!("query"))
    };
    let cache = ApiTokenCache::builder(loader).build().unwrap();
    let request = tracing::info_span!("request");
    let answer = cache
        .authenticate_typed(TOKEN, "app")
        .instrument(request)
        .await;
    assert!(answer.unwrap().valid().is_some());
    let spans = capture.spans.lock().unwrap();
    let parent = |name: &str| {
        let (_, span) = spans.iter().find(|(_, span)| span.name == name).unwrap();
        span.parent.clone()
    };
    assert_eq!(parent("query").as_deref(), Some("api_token.lookup"));
    assert_eq!(parent("api_token.lookup").as_deref(), Some("request"));
    assert_eq!(parent("request"), None);
}

/// Sends a request through a layer for the type `app`, and returns its status.
async fn request(cache: &Cache, header: Option<&str>) -> u16 {
    let inner =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let layer = ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .build()
        .unwrap();
    let mut request = Request::builder();
    if let Some(line) = header {
        request = request.header("authorization", line);
    }
    let response = layer.layer(inner).oneshot(request.body(()).unwrap()).await;
    response.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_rejection_is_an_event_with_the_reason_hidden_from_clients() {
    let capture = Capture::default();
    let _guard = capture.install();
    let db = Db::new();
    let expired = Row {
        expires_at: Some(DateTime::UNIX_EPOCH),
        ..Row::new("app")
    };
    db.insert("app-expired-0000", expired);
    db.insert("app-other-type-0", Row::new("dataset"));
    db.insert("app-suspended-00", Row::new("app").of_tenant("t"));
    db.suspend("t");
    let cache = db.cache().build().unwrap();
    for (header, status, reason) in [
        (None, 401, "missing_token"),
        (Some("Bearer a b"), 401, "malformed"),
        (Some("Bearer app-unknown-0000"), 401, "unknown"),
        (Some("Bearer app-unknown-0000"), 401, "unknown"),
        (Some("Bearer app-expired-0000"), 401, "expired"),
        (Some("Bearer app-other-type-0"), 401, "wrong_token_type"),
        (Some("Bearer app-suspended-00"), 403, "denied"),
    ] {
        assert_eq!(request(&cache, header).await, status);
        let last = capture.rejections().pop().unwrap();
        assert_eq!(
            (last["reason"].as_str(), last["token_type"].as_str()),
            (reason, "app")
        );
    }
    db.mode(Mode::Fails);
    assert_eq!(request(&cache, Some("Bearer app-never-seen-0")).await, 503);
    let reasons = capture.rejections();
    assert_eq!(reasons.last().unwrap()["reason"], "unavailable");
    assert_eq!(reasons.len(), 8, "one each");
    let counted: u64 = cache.stats().rejections().map(|(_, count)| count).sum();
    assert_eq!(counted, 8);
}

#[tokio::test]
async fn what_is_report_only_is_counted_and_logged_with_the_token() {
    let capture = Capture::default();
    let _guard = capture.install();
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = db.cache().build().unwrap();
    let builder = || {
        let builder = ApiTokenLayer::builder(cache.clone());
        builder.policy_report_only(|_, request| match request.path() {
            "/never" => Err(Rejection::Denied("no".into())),
            _ => Ok(()),
        })
    };
    let scopes = "orders:read orders:write";
    let layer = builder().require_scopes_report_only(scopes).build();
    let (layer, without_scopes) = (layer.unwrap(), builder().build().unwrap());
    let strict = layer.require_scopes("orders:read").unwrap();
    let verify = async |layer: &ApiTokenLayer<u64>, token: &str, path: &str| {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        let parts = request.body(()).unwrap().into_parts().0;
        layer.verify(&parts).await.is_ok()
    };
    assert!(verify(&layer, TOKEN, "/").await);
    // One for both, and of the scopes, which are asked for first where both are enforced.
    assert!(verify(&layer, TOKEN, "/never").await);
    assert!(verify(&without_scopes, TOKEN, "/").await);
    assert!(verify(&without_scopes, TOKEN, "/never").await);
    assert!(!verify(&layer, UNKNOWN, "/").await);
    // What is rejected is not reported.
    assert!(!verify(&strict, TOKEN, "/never").await);
    let events = capture.events.lock().unwrap();
    let reported: Vec<_> = events
        .iter()
        .filter(|event| event.target == "tower_api_token::report_only")
        .collect();
    let field = |at: usize, name: &str| reported[at].fields.get(name).map(String::as_str);
    assert_eq!(reported.len(), 3);
    for of_scopes in [0, 1] {
        assert_eq!(field(of_scopes, "reason"), Some("insufficient_scope"));
        assert_eq!(field(of_scopes, "scope"), Some(scopes));
        assert_eq!(field(of_scopes, "token_id"), Some("tok-1"));
    }
    assert_eq!(field(2, "reason"), Some("denied"));
    assert_eq!(cache.stats().report_only_rejections, 3);
}

#[tokio::test]
async fn the_requests_span_gets_the_tokens_id_and_tenant_if_it_has_the_fields() {
    let capture = Capture::default();
    let _guard = capture.install();
    let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
    let cache = db.cache().build().unwrap();
    let builder = || ApiTokenLayer::builder(cache.clone());
    let both = builder()
        .record_token_id("token_id")
        .record_tenant_id("tenant_id");
    let rejecting = builder()
        .record_token_id("token_id")
        .policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE));
    let expected = [
        // Loaded, and then from memory.
        (both.build().unwrap(), (Some("tok-1"), Some("t-1"))),
        (rejecting.build().unwrap(), (Some("tok-1"), None)),
        (builder().build().unwrap(), (None, None)),
    ];
    for (layer, recorded) in expected {
        let inner =
            service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
        let service = layer.layer(inner);
        for _ in 0..2 {
            let request = Request::get("/").header("authorization", format!("Bearer {TOKEN}"));
            let span = tracing::info_span!(
                "of the request",
                token_id = tracing::field::Empty,
                tenant_id = tracing::field::Empty,
            );
            let call = async { service.clone().oneshot(request.body(()).unwrap()).await };
            tracing::Instrument::instrument(call, span).await.unwrap();
            let spans = capture.spans.lock().unwrap();
            let mut ours = spans
                .iter()
                .filter(|(_, span)| span.name == "of the request");
            let (_, span) = ours.next_back().unwrap();
            let field = |name: &str| span.fields.get(name).map(String::as_str);
            assert_eq!((field("token_id"), field("tenant_id")), recorded);
        }
    }
    // A span without the fields, and no span, are left alone.
    let layer = builder().record_token_id("token_id").build().unwrap();
    let request = Request::get("/").header("authorization", format!("Bearer {TOKEN}"));
    let (parts, ()) = request.body(()).unwrap().into_parts();
    assert!(layer.verify(&parts).await.is_ok());
    let span = tracing::info_span!("without fields");
    let verified = tracing::Instrument::instrument(layer.verify(&parts), span).await;
    assert!(verified.is_ok());
}

#[tokio::test]
async fn no_span_or_event_holds_a_token_or_its_digest() {
    let capture = Capture::default();
    let _guard = capture.install();
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app").of_tenant("t"));
    let builder = db.cache().store(redis(&server)).token_types(["app"]);
    let cache = builder.build().unwrap();
    assert_eq!(request(&cache, Some(&format!("Bearer {TOKEN}"))).await, 200);
    assert_eq!(
        request(&cache, Some(&format!("Bearer {UNKNOWN}"))).await,
        401
    );
    cache.invalidate(TOKEN).await.unwrap();
    db.mode(Mode::Fails);
    assert_eq!(request(&cache, Some(&format!("Bearer {TOKEN}"))).await, 503);
    cache.invalidate(TOKEN).of_type("a b").await.unwrap_err();
    assert_eq!(capture.lookups().len(), 3);
    assert!(capture.events.lock().unwrap().len() >= 2);
    let mut needles = Needles::new();
    for token in [TOKEN, UNKNOWN] {
        needles.add("a token", token);
        let digest = tower_api_token::TokenDigest::of(token).to_string();
        needles.add("a digest", &digest);
    }
    let said = format!(
        "{:?}{:?}",
        capture.spans.lock().unwrap(),
        capture.events.lock().unwrap()
    );
    needles.assert_none_in("spans and events", said);
}
