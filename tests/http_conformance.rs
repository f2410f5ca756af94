//! HTTP.md, line by line: the numbers in the comments are its lines.
//!
//! First by calling the service, then over real connections where the wire matters.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::header::{ORIGIN, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use test_support::Gate;
use tower::{Layer, ServiceExt, service_fn};
use tower_api_token::{
    ApiTokenCache, ApiTokenCacheBuilder, ApiTokenLayer, BoxError, CachedApiToken, Denial, Lookup,
    MakeRejection, Origin, ProblemDetails, Refusal, Stats, TokenDigest, TokenLoader, TokenRecord,
    Verdict,
};

const GOOD: &str = "app-Good-0123456789";
const UNKNOWN: &str = "app-unknown-0123456";
const REVOKED: &str = "app-revoked-0123456";
const EXPIRED: &str = "app-expired-0123456";
const OTHER_TYPE: &str = "dataset-0123456789a";
const SUSPENDED: &str = "app-suspended-01234";
const FAILING: &str = "app-failing-0123456";
const PANICKING: &str = "app-panicking-01234";
const HANGING: &str = "app-hanging-0123456";
const MISTAKEN: &str = "app-mistaken-012345";
/// Every token that begins with it is good.
const ANY: &str = "any-";

const REASON: &str = "The tenant \"t-7\" is suspended.";
const SECRET: &str = "postgres://service:hunter2@db";

const BARE: &str = r#"Bearer realm="api""#;
const INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;
const AMBIGUOUS: &str = r#"Bearer realm="api", error="invalid_request""#;

// ---------------------------------------------------------------------------------------------
// The world of a test: a database that counts its calls, the layer, and an inner service that
// keeps the head of each request that reaches it.

#[derive(Clone, Default)]
struct Database {
    calls: Arc<AtomicUsize>,
    healthy: Arc<AtomicBool>,
    not_yet_revoked: Arc<AtomicBool>,
    gate: Gate,
    asked: Arc<Mutex<Vec<Lookup>>>,
}

impl TokenLoader for Database {
    type Metadata = ();

    async fn load(&self, lookup: Lookup) -> Result<Verdict, BoxError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().unwrap().push(lookup.clone());
        self.gate.pass().await;
        let healthy = self.healthy.load(Ordering::SeqCst);
        let not_yet_revoked = self.not_yet_revoked.load(Ordering::SeqCst);
        Ok(match lookup.token().expose() {
            GOOD => TokenRecord::new("tok-good", "app")
                .digest(lookup.digest())
                .into(),
            REVOKED if not_yet_revoked => TokenRecord::new("tok-revoked", "app").into(),
            EXPIRED => TokenRecord::new("tok-expired", "app")
                .expires_at(SystemTime::now() - Duration::from_secs(1))
                .into(),
            OTHER_TYPE => TokenRecord::new("tok-dataset", "dataset").into(),
            SUSPENDED => Denial::new(REASON).into(),
            FAILING | PANICKING | HANGING if healthy => TokenRecord::new("tok-late", "app").into(),
            FAILING => return Err(SECRET.into()),
            PANICKING => panic!("{SECRET}"),
            HANGING => std::future::pending().await,
            MISTAKEN => TokenRecord::new("tok-another's", "app")
                .digest(TokenDigest::of(GOOD))
                .into(),
            any if any.starts_with(ANY) => TokenRecord::new("tok-any", "app").into(),
            // A revoked one among them: its row is there, and the query does not find it.
            _ => Verdict::Absent,
        })
    }
}

struct World<R = ProblemDetails> {
    database: Database,
    cache: ApiTokenCache,
    layer: ApiTokenLayer<(), R>,
    reached: Arc<Mutex<Vec<request::Parts>>>,
    /// Places in the protocol that a flight passed.
    #[cfg(feature = "test-util")]
    steps: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        Self::with_cache(|builder| builder)
    }

    fn with_cache(
        configure: impl FnOnce(ApiTokenCacheBuilder<()>) -> ApiTokenCacheBuilder<()>,
    ) -> Self {
        let database = Database::default();
        let builder = ApiTokenCache::builder(database.clone());
        // No busy machine runs into it; the test whose load hangs lets the time pass by itself.
        let builder = configure(builder.load_deadline(Duration::from_secs(60)));
        #[cfg(feature = "test-util")]
        let steps = Arc::new(AtomicUsize::new(0));
        #[cfg(feature = "test-util")]
        let builder = {
            let steps = Arc::clone(&steps);
            builder.hooks(tower_api_token::test_util::Hooks::new(move |_| {
                steps.fetch_add(1, Ordering::SeqCst);
                std::future::ready(())
            }))
        };
        let cache = builder.build().unwrap();
        Self {
            database,
            layer: ApiTokenLayer::new(cache.clone()).with_scope("app"),
            cache,
            reached: Arc::default(),
            #[cfg(feature = "test-util")]
            steps,
        }
    }
}

impl<R: MakeRejection> World<R> {
    fn layer<N>(
        self,
        configure: impl FnOnce(ApiTokenLayer<(), R>) -> ApiTokenLayer<(), N>,
    ) -> World<N> {
        World {
            database: self.database,
            cache: self.cache,
            layer: configure(self.layer),
            reached: self.reached,
            #[cfg(feature = "test-util")]
            steps: self.steps,
        }
    }

    async fn send<B>(&self, request: Request<B>) -> Reply {
        self.send_through(&self.layer, request).await
    }

    async fn send_through<B>(&self, layer: &ApiTokenLayer<(), R>, request: Request<B>) -> Reply {
        let reached = Arc::clone(&self.reached);
        let service = layer.layer(service_fn(move |request: Request<B>| {
            reached.lock().unwrap().push(request.into_parts().0);
            async { Ok::<_, Infallible>(Response::new(Full::from("served"))) }
        }));
        Reply::read(service.oneshot(request).await.unwrap()).await
    }

    async fn authorization(&self, value: impl AsRef<[u8]>) -> Reply {
        self.send(get(&[value.as_ref()])).await
    }

    async fn bearer(&self, token: &str) -> Reply {
        self.authorization(format!("Bearer {token}")).await
    }

    fn calls(&self) -> usize {
        self.database.calls.load(Ordering::SeqCst)
    }

    /// Whose requests reached the inner service, in their order.
    fn reached(&self) -> Vec<Option<String>> {
        let token = |parts: &request::Parts| {
            let token = parts.extensions.get::<CachedApiToken>()?;
            Some(token.id().to_owned())
        };
        self.reached.lock().unwrap().iter().map(token).collect()
    }

    /// No store and no loader was asked, and nothing was kept.
    #[track_caller]
    fn assert_no_lookup(&self) {
        assert_eq!(self.calls(), 0, "the loader was called");
        assert_eq!(
            self.cache.stats(),
            Stats::default(),
            "something was counted"
        );
        assert_eq!(self.cache.local_entries(), (0, 0), "something was kept");
        #[cfg(feature = "test-util")]
        assert_eq!(self.steps.load(Ordering::SeqCst), 0, "a flight was started");
    }
}

/// The whole of an answer.
#[derive(Clone, PartialEq, Eq)]
struct Reply {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Reply {
    async fn read<B>(response: Response<B>) -> Self
    where
        B: Body<Data = Bytes, Error: std::fmt::Debug>,
    {
        let (parts, body) = response.into_parts();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = parts.headers.iter();
        Self {
            status: parts.status,
            headers: headers.map(|(k, v)| (k.to_string(), text(v))).collect(),
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    fn all(&self, name: impl AsRef<str>) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key == name.as_ref());
        named.map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    fn one(&self, name: impl AsRef<str>) -> &str {
        let all = self.all(name.as_ref());
        assert_eq!(all.len(), 1, "{}: {all:?}", name.as_ref());
        all[0]
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    fn assert_served(&self) {
        assert_eq!(
            (self.status, &self.body[..]),
            (StatusCode::OK, &b"served"[..])
        );
    }

    /// Status and the one challenge.
    #[track_caller]
    fn assert_refused(&self, status: u16, challenge: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.one(WWW_AUTHENTICATE), challenge);
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            status,
            headers,
            body,
        } = self;
        write!(f, "{status} {headers:?} {}", String::from_utf8_lossy(body))
    }
}

fn get(authorizations: &[&[u8]]) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    for value in authorizations {
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().append(AUTHORIZATION, value);
    }
    request
}

fn bearer(token: &str) -> Request<Empty<Bytes>> {
    get(&[format!("Bearer {token}").as_bytes()])
}

/// A request for each of the refusals, with its name.
fn refused() -> Vec<(&'static str, Request<Empty<Bytes>>)> {
    vec![
        ("nothing presented", get(&[])),
        ("not good", bearer(UNKNOWN)),
        ("ambiguous", get(&[b"Bearer a", b"Bearer b"])),
        ("denied", bearer(SUSPENDED)),
        ("cannot tell", bearer(FAILING)),
    ]
}

/// A body that must not be asked for anything.
struct Untouchable;

impl Body for Untouchable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body of a refused request was polled")
    }
}

// ---------------------------------------------------------------------------------------------
// Extraction: 1 to 11.

/// 1
#[tokio::test]
async fn without_authorization_the_challenge_is_bare() {
    let world = World::new();
    let reply = world.send(get(&[])).await;
    reply.assert_refused(401, BARE);
    assert!(!format!("{reply:?}").contains("error"), "{reply:?}");
    world.assert_no_lookup();
    assert!(world.reached().is_empty());
}

const OTHER_SCHEMES: [&str; 8] = [
    "",
    "   ",
    "Basic YWxhZGRpbjpvcGVuc2VzYW1l",
    "Token app-Good-0123456789",
    "ApiKey app-Good-0123456789",
    "Bearer-App app-Good-0123456789",
    "Bearerapp-Good-0123456789",
    "app-Good-0123456789",
];

/// 2
#[tokio::test]
async fn another_scheme_is_answered_as_if_nothing_was_presented() {
    let world = World::new();
    let nothing = world.send(get(&[])).await;
    for value in OTHER_SCHEMES {
        assert_eq!(world.authorization(value).await, nothing, "{value:?}");
    }
    world.assert_no_lookup();
}

/// 2
#[tokio::test]
async fn in_optional_mode_another_scheme_or_none_passes_without_a_principal() {
    let world = World::new().layer(|layer| layer.optional());
    world.send(get(&[])).await.assert_served();
    for value in OTHER_SCHEMES {
        world.authorization(value).await.assert_served();
    }
    assert_eq!(world.reached(), vec![None; 1 + OTHER_SCHEMES.len()]);
    world.assert_no_lookup();
}

/// 3, 5, 6, 7, 8, 9, 11: a bearer credential that is no token is refused like an unknown token, and
/// nobody is asked for it.
#[tokio::test]
async fn what_cannot_be_a_token_is_refused_like_an_unknown_one_and_looked_up_nowhere() {
    let unknown = World::new().bearer(UNKNOWN).await;
    let world = World::new();
    let long = "a".repeat(513);
    let bytes = |text: &str| format!("Bearer {text}").into_bytes();
    let table: &[(u8, Vec<u8>)] = &[
        (3, b"Bearer".to_vec()),
        (3, b"Bearer ".to_vec()),
        (3, b"bearer \t  ".to_vec()),
        (5, b"Bearer\tapp-Good-0123456789".to_vec()),
        (5, b"Bearer \tapp-Good-0123456789".to_vec()),
        (5, b"Bearer\t app-Good-0123456789".to_vec()),
        (6, bytes("app-Good -0123456789")),
        (6, bytes("app-Good\t-0123456789")),
        (7, bytes("=========")),
        (7, bytes("app-Good=0123456789")),
        (7, bytes("\"app-Good-0123456789\"")),
        (7, bytes("app-Good-0123456789;")),
        (7, bytes("app_Good:0123456789")),
        (8, bytes("app-Good-012345678\u{e9}")),
        (8, b"Bearer \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8".to_vec()),
        (8, b"Bearer\xa0app-Good-0123456789".to_vec()),
        (9, bytes("1234567")),
        (9, bytes(&long)),
        (11, bytes("app-Good-0123456789, Bearer app-Good-0123456789")),
        (11, bytes("app-Good-0123456789,Bearer app-Good-0123456789")),
        (11, bytes("app-Good-0123456789,")),
        (11, bytes("app-Good-0123456789, Basic YTpi")),
    ];
    for (line, value) in table {
        let reply = world.authorization(value).await;
        let value = String::from_utf8_lossy(value);
        assert_eq!(reply, unknown, "line {line}: {value:?}");
    }
    world.assert_no_lookup();
    assert!(world.reached().is_empty());
}

/// 4
#[tokio::test]
async fn the_scheme_is_taken_in_any_case_and_the_token_is_not() {
    let world = World::new();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let reply = world.authorization(format!("{scheme} {GOOD}")).await;
        reply.assert_served();
    }
    for token in [GOOD.to_lowercase(), GOOD.to_uppercase()] {
        world.bearer(&token).await.assert_refused(401, INVALID);
    }
}

/// 5, 6
#[tokio::test]
async fn spaces_before_the_token_and_blanks_around_the_value_are_no_part_of_it() {
    let world = World::new();
    for value in [
        "Bearer app-Good-0123456789",
        "Bearer    app-Good-0123456789",
        "  \t Bearer app-Good-0123456789",
        "Bearer app-Good-0123456789 \t ",
        "\tBearer   app-Good-0123456789\t",
    ] {
        world.authorization(value).await.assert_served();
    }
    assert_eq!(world.calls(), 1, "all of them are one token");
}

fn in_b64token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

/// Every byte that a header value can have, inside of a token and at its end.
fn each_byte() -> impl Iterator<Item = (u8, bool, Vec<u8>)> {
    let values = (0..=255).filter(|byte| HeaderValue::from_bytes(&[*byte]).is_ok());
    values.flat_map(|byte| {
        [false, true].map(|last| {
            let mut value = format!("Bearer {ANY}0123456789").into_bytes();
            value.push(byte);
            if !last {
                value.push(b'z');
            }
            (byte, last, value)
        })
    })
}

/// 7, 8
#[tokio::test]
async fn the_alphabet_is_that_of_rfc_6750_and_an_equals_sign_only_ends_a_token() {
    let world = World::new();
    for (byte, last, value) in each_byte() {
        let blank_at_the_end = last && matches!(byte, b' ' | b'\t');
        let good = in_b64token(byte) || last && byte == b'=' || blank_at_the_end;
        let calls = world.calls();
        let reply = world.authorization(&value).await;
        if good {
            reply.assert_served();
        } else {
            reply.assert_refused(401, INVALID);
            assert_eq!(world.calls(), calls, "looked up: {byte:#x}, last: {last}");
        }
    }
    let reply = world.bearer("any-AZaz09-._~+/==").await;
    reply.assert_served();
}

/// 7, 8
#[tokio::test]
async fn the_option_for_legacy_keys_widens_the_alphabet_to_visible_ascii_and_no_further() {
    let world = World::new().layer(|layer| layer.with_visible_ascii_tokens());
    for (byte, last, value) in each_byte() {
        let good = byte.is_ascii_graphic() || last && matches!(byte, b' ' | b'\t');
        let reply = world.authorization(&value).await;
        let expected = if good { 200 } else { 401 };
        assert_eq!(reply.status, expected, "{byte:#x}, last: {last}");
    }
}

/// 9
#[tokio::test]
async fn the_limits_of_the_length_are_inclusive_and_can_be_moved() {
    let token = |length: usize| format!("{ANY}{}", "a".repeat(length - ANY.len()));
    let world = World::new();
    for length in [8, 512] {
        world.bearer(&token(length)).await.assert_served();
    }
    let world = World::new().layer(|layer| layer.with_token_length(20..=30));
    for length in [19, 31] {
        let reply = world.bearer(&token(length)).await;
        reply.assert_refused(401, INVALID);
    }
    world.assert_no_lookup();
    for length in [20, 30] {
        world.bearer(&token(length)).await.assert_served();
    }
}

/// 10
#[tokio::test]
async fn two_authorization_lines_are_ambiguous_whatever_is_in_them() {
    let good = format!("Bearer {GOOD}");
    let good = good.as_bytes();
    let cases: [&[&[u8]]; 6] = [
        &[good, b"Bearer app-unknown-0123456"],
        &[good, good],
        &[b"Basic YTpi", good],
        &[good, b"Basic YTpi"],
        &[good, b""],
        &[good, good, good],
    ];
    for optional in [false, true] {
        let world = World::new().layer(|layer| if optional { layer.optional() } else { layer });
        for values in cases {
            let reply = world.send(get(values)).await;
            reply.assert_refused(400, AMBIGUOUS);
        }
        world.assert_no_lookup();
        assert!(world.reached().is_empty());
    }
}

// ---------------------------------------------------------------------------------------------
// Verdicts: 18 to 22, 24, 26, 27, 29.

/// 18, 20, 21 and once more 3 to 11: one answer, byte for byte, for every reason; from the loader
/// and (19) from the cache.
#[tokio::test]
async fn a_token_that_is_not_good_gets_the_same_bytes_for_every_reason() {
    let world = World::new();
    let unknown = world.bearer(UNKNOWN).await;
    unknown.assert_refused(401, INVALID);
    for (reason, token) in [
        ("unknown", UNKNOWN),
        ("revoked", REVOKED),
        ("expired", EXPIRED),
        ("another type", OTHER_TYPE),
        ("malformed", "app,"),
        ("another's beginning", "app-Good-0123456789a"),
        ("a good one's beginning", "app-Good-012345678"),
    ] {
        for round in ["loaded", "cached"] {
            let reply = world.bearer(token).await;
            assert_eq!(reply, unknown, "{reason}, {round}");
        }
    }
    assert!(world.reached().is_empty());
}

/// 19
#[tokio::test]
async fn a_cached_null_is_answered_with_the_same_bytes_and_no_load() {
    let world = World::new();
    let loaded = world.bearer(UNKNOWN).await;
    for _ in 0..3 {
        assert_eq!(world.bearer(UNKNOWN).await, loaded);
    }
    assert_eq!(world.calls(), 1);
}

/// 20
#[tokio::test]
async fn a_token_that_was_good_and_is_revoked_gets_the_bytes_of_an_unknown_one() {
    let world = World::new();
    let unknown = world.bearer(UNKNOWN).await;
    world.database.not_yet_revoked.store(true, Ordering::SeqCst);
    world.bearer(REVOKED).await.assert_served();
    world.bearer(REVOKED).await.assert_served();
    world
        .database
        .not_yet_revoked
        .store(false, Ordering::SeqCst);
    let digest = TokenDigest::of(REVOKED);
    world.cache.invalidate_digest(digest).await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.bearer(REVOKED).await, unknown);
    }
}

/// 20
#[cfg(feature = "test-util")]
#[tokio::test]
async fn a_cached_token_that_expires_gets_the_bytes_of_an_unknown_one() {
    use tower_api_token::{loader_fn, test_util::ManualClock};

    let clock = ManualClock::new();
    let end = clock.wall() + Duration::from_secs(30);
    let loader = loader_fn(move |lookup: Lookup| {
        let known = lookup.token().expose() == GOOD;
        let record = known.then(|| TokenRecord::new("tok-good", "app").expires_at(end));
        async { Ok::<_, Infallible>(record) }
    });
    let cache = ApiTokenCache::builder(loader).clock(clock.clone()).build();
    let cache = cache.unwrap();
    let world = World::new().layer(|_| ApiTokenLayer::new(cache).with_scope("app"));
    let unknown = world.bearer(UNKNOWN).await;
    world.bearer(GOOD).await.assert_served();
    world.bearer(GOOD).await.assert_served();
    clock.advance(Duration::from_secs(30));
    assert_eq!(world.bearer(GOOD).await, unknown);
}

/// 21
#[tokio::test]
async fn a_good_token_is_looked_up_by_token_and_scope() {
    let world = World::new();
    let unknown = world.bearer(UNKNOWN).await;
    let dataset = ApiTokenLayer::new(world.cache.clone()).with_scope("dataset");
    world.bearer(GOOD).await.assert_served();
    assert_eq!(world.calls(), 2);
    for _ in 0..2 {
        let reply = world.send_through(&dataset, bearer(GOOD)).await;
        assert_eq!(reply, unknown, "cached in the scope app");
    }
    assert_eq!(world.calls(), 3, "asked for in the other scope, once");
    world.bearer(GOOD).await.assert_served();
    world
        .send_through(&dataset, bearer(OTHER_TYPE))
        .await
        .assert_served();
    assert_eq!(world.bearer(OTHER_TYPE).await, unknown);
}

/// 22
#[tokio::test]
async fn a_denied_token_is_forbidden_with_the_loaders_text_and_a_bare_challenge() {
    let world = World::new();
    let loaded = world.bearer(SUSPENDED).await;
    loaded.assert_refused(403, BARE);
    assert_eq!(loaded.json()["detail"], REASON);
    assert_eq!(loaded.json()["status"], 403);
    let cached = world.bearer(SUSPENDED).await;
    assert_eq!(cached, loaded);
    assert_eq!(world.calls(), 1);
    assert!(world.reached().is_empty());
}

/// 24, 26
#[tokio::test(start_paused = true)]
async fn when_we_cannot_tell_it_is_503_without_detail_and_nothing_is_kept() {
    for (trouble, token) in [
        ("the loader fails", FAILING),
        ("the loader panics", PANICKING),
        ("the loader hangs", HANGING),
    ] {
        let world = World::new();
        for calls in 1..=2 {
            let reply = world.bearer(token).await;
            assert_eq!(reply.status, 503, "{trouble}");
            assert_eq!(reply.one(RETRY_AFTER), "1", "{trouble}");
            assert_eq!(reply.all(WWW_AUTHENTICATE), [""; 0], "{trouble}");
            assert!(!format!("{reply:?}").contains("hunter2"), "{trouble}");
            let detail = "The bearer token cannot be verified at the moment.";
            assert_eq!(reply.json()["detail"], detail, "{trouble}");
            assert_eq!(
                world.calls(),
                calls,
                "{trouble}: the next request tries again"
            );
            assert_eq!(world.cache.local_entries(), (0, 0), "{trouble}");
        }
        world.database.healthy.store(true, Ordering::SeqCst);
        world.bearer(token).await.assert_served();
        assert_eq!(world.reached(), [Some("tok-late".to_owned())]);
    }
}

/// 24, 42: a record of another token's is an outage, and nobody's identity.
#[tokio::test]
async fn a_loader_that_answers_for_another_token_is_503() {
    let world = World::new();
    let failed = world.bearer(FAILING).await;
    assert_eq!(world.bearer(MISTAKEN).await, failed);
    assert!(world.reached().is_empty());
}

/// 24
#[tokio::test]
async fn beyond_the_cap_of_loads_it_is_503_at_once() {
    let world = World::with_cache(|builder| builder.max_loads(1).max_waiting_loads(0));
    let gate = world.database.gate.clone();
    gate.close();
    let (first, second) = tokio::join!(world.bearer(GOOD), async {
        gate.reached(1).await;
        let second = world.bearer(UNKNOWN).await;
        gate.open();
        second
    });
    first.assert_served();
    assert_eq!(
        (second.status.as_u16(), second.one(RETRY_AFTER)),
        (503, "1")
    );
    assert_eq!(world.calls(), 1);
    let again = world.bearer(UNKNOWN).await;
    again.assert_refused(401, INVALID);
}

/// 26
#[tokio::test]
async fn every_waiter_of_a_load_that_panics_is_released() {
    const WAITERS: usize = 8;
    let world = World::new();
    let gate = world.database.gate.clone();
    gate.close();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let service = world
                .layer
                .layer(service_fn(|_: Request<Empty<Bytes>>| async {
                    Ok::<_, Infallible>(Response::new(Full::from("served")))
                }));
            tokio::spawn(async move {
                Reply::read(service.oneshot(bearer(PANICKING)).await.unwrap()).await
            })
        })
        .collect();
    gate.reached(1).await;
    // All but the one who leads have joined the flight before it lands.
    while world.cache.stats().joined < WAITERS as u64 - 1 {
        tokio::task::yield_now().await;
    }
    gate.open();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().status, 503);
    }
    assert_eq!(world.calls(), 1);
}

/// 27
#[tokio::test]
async fn in_optional_mode_a_presented_token_still_has_to_be_good() {
    let required = World::new();
    let world = World::new().layer(|layer| layer.optional());
    for value in [
        format!("Bearer {UNKNOWN}"),
        format!("Bearer {REVOKED}"),
        format!("Bearer {EXPIRED}"),
        format!("Bearer {OTHER_TYPE}"),
        format!("Bearer {SUSPENDED}"),
        format!("Bearer {FAILING}"),
        "Bearer".to_owned(),
        "Bearer a,b".to_owned(),
    ] {
        let expected = required.authorization(&value).await;
        assert_ne!(expected.status, 200);
        assert_eq!(world.authorization(&value).await, expected, "{value}");
    }
    assert!(world.reached().is_empty());
    world.bearer(GOOD).await.assert_served();
    assert_eq!(world.reached(), [Some("tok-good".to_owned())]);
}

/// 29
#[tokio::test]
async fn a_token_that_is_in_the_extensions_already_is_removed_whatever_comes_of_the_request() {
    let smuggler = World::new();
    let answer = smuggler.cache.authenticate(GOOD, "app").await.unwrap();
    let smuggled = answer.found().unwrap();
    let with = |mut request: Request<Empty<Bytes>>| {
        request.extensions_mut().insert(smuggled.clone());
        request
    };

    let world = World::new().layer(|layer| layer.optional());
    let mut preflight = preflight();
    preflight
        .headers_mut()
        .insert(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
    for anonymous in [get(&[]), get(&[b"Basic YTpi"]), preflight] {
        world.send(with(anonymous)).await.assert_served();
    }
    assert_eq!(world.reached(), vec![None; 3]);

    // Loaded, and then found in this process's memory.
    for _ in 0..2 {
        let request = with(bearer("any-other-0123456789"));
        world.send(request).await.assert_served();
    }
    let other = Some("tok-any".to_owned());
    assert_eq!(world.reached()[3..], [other.clone(), other]);

    let world = World::new();
    for (name, request) in refused() {
        let reply = world.send(with(request)).await;
        assert!(reply.status.as_u16() >= 400, "{name}: {reply:?}");
    }
    assert!(world.reached().is_empty());
}

// ---------------------------------------------------------------------------------------------
// Methods and protocols: 31, 33 to 35, 37.

fn preflight() -> Request<Empty<Bytes>> {
    Request::options("/")
        .header(ORIGIN, "https://example.org")
        .header("access-control-request-method", "PUT")
        .body(Empty::new())
        .unwrap()
}

/// 31
#[tokio::test]
async fn a_cors_preflight_passes_untouched_whatever_it_presents() {
    let world = World::new();
    world.send(preflight()).await.assert_served();
    for value in ["Bearer app-unknown-0123456", "Bearer", "Basic YTpi"] {
        let mut request = preflight();
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(AUTHORIZATION, value);
        world.send(request).await.assert_served();
    }
    world.assert_no_lookup();
    assert_eq!(world.reached(), vec![None; 4]);
    let reached = world.reached.lock().unwrap();
    let expected = preflight().into_parts().0;
    assert_eq!(reached[0].headers, expected.headers);
    assert_eq!(
        (&reached[0].method, &reached[0].uri),
        (&Method::OPTIONS, &expected.uri)
    );
}

/// 31
#[tokio::test]
async fn what_only_resembles_a_preflight_is_authenticated() {
    let world = World::new();
    let requests = [
        "GET",
        "HEAD",
        "POST",
        "options",
        "OPTIONS ORIGIN",
        "OPTIONS ACRM",
    ];
    for name in requests {
        let mut request = preflight();
        match name {
            "OPTIONS ORIGIN" => drop(
                request
                    .headers_mut()
                    .remove("access-control-request-method"),
            ),
            "OPTIONS ACRM" => drop(request.headers_mut().remove(ORIGIN)),
            method => *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap(),
        }
        let reply = world.send(request).await;
        reply.assert_refused(401, BARE);
    }
    let plain = Request::options("/").body(Empty::<Bytes>::new()).unwrap();
    world.send(plain).await.assert_refused(401, BARE);
    assert!(world.reached().is_empty());
}

/// 33
#[tokio::test]
async fn head_gets_status_and_headers_of_get_and_no_body() {
    let world = World::new();
    for ((name, get), (_, mut head)) in refused().into_iter().zip(refused()) {
        *head.method_mut() = Method::HEAD;
        let (get, head) = (world.send(get).await, world.send(head).await);
        assert_eq!(
            (head.status, &head.headers),
            (get.status, &get.headers),
            "{name}"
        );
        assert!(!get.body.is_empty() && head.body.is_empty(), "{name}");
    }
}

/// 34
#[tokio::test]
async fn no_refusal_carries_a_connection_specific_header() {
    let world = World::new();
    for (name, request) in refused() {
        let reply = world.send(request).await;
        for header in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "te",
            "trailer",
        ] {
            assert_eq!(reply.all(header), [""; 0], "{name}");
        }
    }
}

/// 34
#[tokio::test]
async fn the_authorization_that_the_inner_service_sees_is_there_and_marked_sensitive() {
    let world = World::new().layer(|layer| layer.optional());
    let good = format!("Bearer {GOOD}");
    // Loaded, from memory, another scheme's, and a preflight's two.
    world.authorization(&good).await.assert_served();
    world.authorization(&good).await.assert_served();
    world.authorization("Basic YTpi").await.assert_served();
    let mut request = preflight();
    for value in ["Basic YTpi", "Basic Yzpk"] {
        let value = HeaderValue::from_static(value);
        request.headers_mut().append(AUTHORIZATION, value);
    }
    world.send(request).await.assert_served();
    let reached = world.reached.lock().unwrap();
    let values = |parts: &request::Parts| -> Vec<HeaderValue> {
        parts
            .headers
            .get_all(AUTHORIZATION)
            .iter()
            .cloned()
            .collect()
    };
    let seen: Vec<_> = reached.iter().map(values).collect();
    assert_eq!(
        seen,
        [
            vec![good.as_str()],
            vec![good.as_str()],
            vec!["Basic YTpi"],
            vec!["Basic YTpi", "Basic Yzpk"],
        ]
    );
    assert!(seen.iter().flatten().all(HeaderValue::is_sensitive));
    assert!(!format!("{:?}", reached[0].headers).contains(GOOD));
}

/// 35
#[tokio::test]
async fn a_refusal_polls_no_body() {
    let world = World::new();
    for (name, request) in refused() {
        let (mut parts, _) = request.into_parts();
        parts.method = Method::POST;
        let reply = world.send(Request::from_parts(parts, Untouchable)).await;
        assert!(reply.status.as_u16() >= 400, "{name}");
    }
}

/// 37
#[tokio::test]
async fn a_grpc_call_is_refused_with_a_status_in_the_headers() {
    let expected = ["16", "16", "3", "7", "14"];
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web+proto",
        "application/grpc-web-text",
    ] {
        let world = World::new();
        for ((name, mut request), code) in refused().into_iter().zip(expected) {
            *request.method_mut() = Method::POST;
            let value = HeaderValue::from_static(content_type);
            request.headers_mut().insert(CONTENT_TYPE, value);
            let reply = world.send(request).await;
            assert_eq!(reply.status, 200, "{name}");
            assert_eq!(reply.one("grpc-status"), code, "{name}");
            assert_eq!(reply.one(CONTENT_TYPE), content_type, "{name}");
            assert!(!reply.one("grpc-message").is_empty(), "{name}");
            assert!(reply.body.is_empty(), "{name}");
            assert_eq!(reply.all(WWW_AUTHENTICATE), [""; 0], "{name}");
        }
    }
}

/// 37
#[tokio::test]
async fn what_is_not_grpc_is_answered_as_http() {
    let world = World::new();
    for content_type in ["application/json", "application/grpcish", "text/plain"] {
        let mut request = get(&[]);
        let value = HeaderValue::from_static(content_type);
        request.headers_mut().insert(CONTENT_TYPE, value);
        world.send(request).await.assert_refused(401, BARE);
    }
}

// ---------------------------------------------------------------------------------------------
// Answers: 38 to 42.

/// 38
#[tokio::test]
async fn the_realm_is_quoted_and_stands_once_in_each_challenge() {
    let world = World::new().layer(|layer| layer.with_realm(r#"a "b\c", d"#));
    let realm = r#"Bearer realm="a \"b\\c\", d""#;
    for (status, error, request) in [
        (401, "", get(&[])),
        (401, r#", error="invalid_token""#, bearer(UNKNOWN)),
        (
            400,
            r#", error="invalid_request""#,
            get(&[b"Bearer a", b"x"]),
        ),
        (403, "", bearer(SUSPENDED)),
    ] {
        let reply = world.send(request).await;
        reply.assert_refused(status, &format!("{realm}{error}"));
    }
}

/// 38, 39, 40, 41
#[tokio::test]
async fn a_closure_makes_the_body_and_the_layer_adds_the_rest_beside_its_headers() {
    let world = World::new().layer(|layer| {
        layer.with_rejection(|refusal: &Refusal| {
            Response::builder()
                .status(refusal.status())
                .header(WWW_AUTHENTICATE, r#"Basic realm="old""#)
                .header(VARY, "origin")
                .header(CACHE_CONTROL, "public")
                .header(CONTENT_LENGTH, "7")
                .header("x-request-id", "42")
                .body(format!("<p>{}</p>", refusal.detail()))
                .unwrap()
        })
    });
    let reply = world.bearer(UNKNOWN).await;
    assert_eq!(reply.status, 401);
    let challenges = [r#"Basic realm="old""#, INVALID];
    assert_eq!(reply.all(WWW_AUTHENTICATE), challenges);
    assert_eq!(reply.all(VARY), ["origin", "authorization"]);
    assert_eq!(reply.one(CACHE_CONTROL), "no-store");
    assert_eq!(reply.one("x-request-id"), "42");
    assert_eq!(reply.body, "<p>The bearer token is not valid.</p>");
    assert_eq!(reply.one(CONTENT_LENGTH), reply.body.len().to_string());
    let reply = world.bearer(FAILING).await;
    assert_eq!((reply.status.as_u16(), reply.one(RETRY_AFTER)), (503, "1"));
}

/// 39
#[tokio::test]
async fn the_default_body_is_problem_details() {
    let world = World::new();
    let titles = [
        "Unauthorized",
        "Unauthorized",
        "Bad Request",
        "Forbidden",
        "Service Unavailable",
    ];
    for ((name, request), title) in refused().into_iter().zip(titles) {
        let reply = world.send(request).await;
        assert_eq!(
            reply.one(CONTENT_TYPE),
            "application/problem+json",
            "{name}"
        );
        let json = reply.json();
        let members = json.as_object().unwrap();
        assert_eq!(members.len(), 4, "{name}: {json}");
        assert_eq!(members["type"], "about:blank", "{name}");
        assert_eq!(members["title"], title, "{name}");
        assert_eq!(members["status"], reply.status.as_u16(), "{name}");
        assert!(members["detail"].as_str().is_some(), "{name}");
    }
}

/// 39, 41
#[tokio::test]
async fn an_empty_body_is_one_setter_away_and_changes_nothing_else() {
    let full = World::new();
    let empty = World::new().layer(|layer| layer.with_rejection(ProblemDetails::empty()));
    for ((name, one), (_, other)) in refused().into_iter().zip(refused()) {
        let (mut full, empty) = (full.send(one).await, empty.send(other).await);
        assert!(empty.body.is_empty(), "{name}");
        assert_eq!(empty.one(CONTENT_LENGTH), "0", "{name}");
        full.headers.retain(|(key, _)| key != "content-type");
        for (key, value) in &mut full.headers {
            if key == "content-length" {
                "0".clone_into(value);
            }
        }
        full.headers.sort();
        let mut headers = empty.headers.clone();
        headers.sort();
        assert_eq!(
            (full.status, full.headers),
            (empty.status, headers),
            "{name}"
        );
    }
}

/// 40, 41
#[tokio::test]
async fn every_refusal_is_uncacheable_varies_and_has_its_exact_length() {
    let world = World::new();
    for (name, request) in refused() {
        let reply = world.send(request).await;
        assert_eq!(reply.one(CACHE_CONTROL), "no-store", "{name}");
        assert!(
            reply.one(VARY).eq_ignore_ascii_case("authorization"),
            "{name}"
        );
        let length = reply.body.len().to_string();
        assert_eq!(reply.one(CONTENT_LENGTH), length, "{name}");
    }
    for (name, mut request) in refused() {
        let grpc = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(CONTENT_TYPE, grpc);
        let reply = world.send(request).await;
        assert_eq!(reply.one(CACHE_CONTROL), "no-store", "{name}");
        assert!(
            reply.one(VARY).eq_ignore_ascii_case("authorization"),
            "{name}"
        );
    }
}

/// 41: with the exact size hint a server needs no chunks.
#[tokio::test]
async fn a_refusals_body_knows_its_size_and_its_end() {
    let world = World::new();
    let inner = service_fn(|_: Request<Empty<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::from("served")))
    });
    let response = world.layer.layer(inner).oneshot(get(&[])).await.unwrap();
    let mut body = response.into_body();
    let length = body.size_hint().exact().unwrap();
    assert!(length > 0 && !body.is_end_stream());
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data.len() as u64, length);
    assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
    assert!(body.frame().await.is_none());
}

/// 41
#[tokio::test]
async fn a_refusal_echoes_nothing_of_the_request() {
    const MARK: &str = "zebra-0123456789";
    let world = World::new();
    let authorizations = [
        format!("Bearer {MARK}"),
        format!("Bearer {MARK},"),
        format!("Basic {MARK}"),
        format!("{MARK} {MARK}"),
    ];
    for value in &authorizations {
        let request = Request::builder()
            .method("ZEBRA")
            .uri(format!("http://{MARK}/{MARK}?{MARK}"))
            .header(AUTHORIZATION, value)
            .header("user-agent", MARK)
            .header("x-request-id", MARK)
            .header(CONTENT_TYPE, MARK)
            .header("cookie", MARK)
            .header("accept", MARK)
            .body(Full::<Bytes>::from(MARK))
            .unwrap();
        let reply = world.send(request).await;
        assert!(reply.status == 401, "{reply:?}");
        assert!(
            !format!("{reply:?}").to_lowercase().contains("zebra"),
            "{reply:?}"
        );
    }
    // What is presented decides who is asked, and never what is said.
    let denied = world.bearer(SUSPENDED).await;
    let failed = world.bearer(FAILING).await;
    for (reply, token) in [(denied, SUSPENDED), (failed, FAILING)] {
        assert!(!format!("{reply:?}").contains(token), "{reply:?}");
    }
}

/// 42
#[tokio::test]
async fn the_loader_is_asked_by_the_digest_of_the_whole_token_and_its_scope() {
    let world = World::new();
    let near = "app-Good-0123456780";
    for token in [GOOD, near] {
        world.bearer(token).await;
    }
    // Both from memory now: the one that is only alike is still not the other.
    world.bearer(GOOD).await.assert_served();
    world.bearer(near).await.assert_refused(401, INVALID);
    let asked = world.database.asked.lock().unwrap();
    let digests: Vec<_> = asked.iter().map(Lookup::digest).collect();
    assert_eq!(digests, [TokenDigest::of(GOOD), TokenDigest::of(near)]);
    assert!(asked.iter().all(|lookup| lookup.scope() == Some("app")));
}

/// What a handler gets: the record, the token, and where the answer came from.
#[tokio::test]
async fn a_good_token_is_in_the_extensions_with_its_origin() {
    let world = World::new();
    world.bearer(GOOD).await.assert_served();
    world.bearer(GOOD).await.assert_served();
    let reached = world.reached.lock().unwrap();
    let seen: Vec<_> = reached
        .iter()
        .map(|parts| {
            let token = parts.extensions.get::<CachedApiToken>().unwrap();
            (token.id(), token.token().expose(), token.origin())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("tok-good", GOOD, Origin::Loaded),
            ("tok-good", GOOD, Origin::Local)
        ]
    );
    assert_eq!(world.calls(), 1);
}

// ---------------------------------------------------------------------------------------------
// On the wire: the same layer behind a real server.

mod wire {
    use std::net::SocketAddr;

    use axum::Router;
    use hyper::body::Incoming;
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;

    struct Server {
        world: World,
        address: SocketAddr,
        task: JoinHandle<std::io::Result<()>>,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    async fn start() -> Server {
        let world = World::new();
        let reached = Arc::clone(&world.reached);
        let handler = move |request: axum::extract::Request| {
            reached.lock().unwrap().push(request.into_parts().0);
            async { "served" }
        };
        let app = Router::new().fallback(handler).layer(world.layer.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async { axum::serve(listener, app).await });
        Server {
            world,
            address,
            task,
        }
    }

    /// An answer as it came, without the date.
    #[derive(PartialEq, Eq)]
    struct Raw {
        head: String,
        body: Vec<u8>,
    }

    impl std::fmt::Debug for Raw {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{}\n{}", self.head, String::from_utf8_lossy(&self.body))
        }
    }

    impl Raw {
        fn values(&self, name: &str) -> Vec<&str> {
            let fields = self.head.lines().filter_map(|line| line.split_once(": "));
            let named = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
            named.map(|(_, value)| value).collect()
        }

        #[track_caller]
        fn assert_refused(&self, status: &str, challenge: &str) {
            assert!(
                self.head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{self:?}"
            );
            assert_eq!(self.values("www-authenticate"), [challenge], "{self:?}");
        }
    }

    impl Server {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// `head` is the request line; `fields` follow it byte for byte.
        async fn send(&self, head: &str, fields: &[&[u8]]) -> Raw {
            let mut stream = self.connect().await;
            let mut request = format!("{head} HTTP/1.1\r\nHost: h\r\n").into_bytes();
            for field in fields {
                request.extend_from_slice(field);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"Connection: close\r\n\r\n");
            stream.write_all(&request).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            raw(&answer)
        }

        async fn authorization(&self, value: &[u8]) -> Raw {
            let field = [b"Authorization:", value].concat();
            self.send("GET /", &[&field]).await
        }

        async fn http2(&self) -> http2::SendRequest<Pending> {
            let io = TokioIo::new(self.connect().await);
            let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            client
        }

        fn request(&self, authorizations: &[&[u8]]) -> Request<Pending> {
            let mut request = get(authorizations).map(|_| Pending { ends: true });
            *request.uri_mut() = format!("http://{}/", self.address).parse().unwrap();
            request
        }
    }

    fn raw(answer: &[u8]) -> Raw {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.expect("the end of the head");
        let head = std::str::from_utf8(&answer[..end]).unwrap();
        let dated = |line: &&str| !line.to_ascii_lowercase().starts_with("date:");
        Raw {
            head: head.lines().filter(dated).collect::<Vec<_>>().join("\n"),
            body: answer[end + 4..].to_vec(),
        }
    }

    /// The body of a request over HTTP/2: none, or one that never arrives.
    struct Pending {
        ends: bool,
    }

    impl Body for Pending {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.ends {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        }

        fn is_end_stream(&self) -> bool {
            self.ends
        }
    }

    async fn http2_reply(response: Response<Incoming>) -> Reply {
        let mut reply = Reply::read(response).await;
        reply.headers.retain(|(name, _)| name != "date");
        reply
    }

    /// 1, 2, 3, 5, 6, 8, 11, 18, 20: the same bytes on the wire.
    #[tokio::test]
    async fn over_http1_every_bad_token_gets_the_same_bytes_and_no_token_a_bare_challenge() {
        let server = start().await;
        let nothing = server.send("GET /", &[]).await;
        nothing.assert_refused("401", BARE);
        for other in [
            &b""[..],
            b" \t ",
            b" Basic YTpi",
            b" Bearerapp-Good-0123456789",
        ] {
            assert_eq!(server.authorization(other).await, nothing);
        }
        let unknown = server.authorization(b" Bearer app-unknown-0123456").await;
        unknown.assert_refused("401", INVALID);
        assert!(unknown.head.contains("401 Unauthorized"), "{unknown:?}");
        for value in [
            &b" Bearer"[..],
            b" Bearer \t ",
            b" Bearer\tapp-Good-0123456789",
            b" Bearer \tapp-Good-0123456789",
            b" Bearer app-Good -0123456789",
            b" Bearer app-Good-012345678\xe9",
            b" Bearer \x80\x81\xfe\xff\xc3\xa9\xa0\xad",
            b" Bearer app-Good-0123456789, Bearer app-Good-0123456789",
            b" Bearer app-revoked-0123456",
            b" Bearer app-expired-0123456",
            b" Bearer dataset-0123456789a",
        ] {
            let reply = server.authorization(value).await;
            assert_eq!(reply, unknown, "{}", String::from_utf8_lossy(value));
        }
        assert!(server.world.reached().is_empty());
        assert_eq!(server.world.calls(), 4);
    }

    /// 4, 5, 6
    #[tokio::test]
    async fn over_http1_case_spaces_and_blanks_around_do_not_matter() {
        let server = start().await;
        for value in [
            &b"Bearer app-Good-0123456789"[..],
            b" bearer app-Good-0123456789",
            b"\t BEARER    app-Good-0123456789 \t",
        ] {
            let reply = server.authorization(value).await;
            assert!(reply.head.starts_with("HTTP/1.1 200 "), "{reply:?}");
            assert_eq!(reply.body, b"served");
        }
    }

    /// 10
    #[tokio::test]
    async fn over_http1_two_authorization_lines_are_ambiguous_in_any_spelling_of_the_name() {
        let server = start().await;
        let good = b"Authorization: Bearer app-Good-0123456789";
        for second in [
            &b"Authorization: Bearer app-Good-0123456789"[..],
            b"AUTHORIZATION: Bearer app-unknown-0123456",
            b"authorization:",
        ] {
            for fields in [[good, second], [second, good]] {
                let reply = server.send("GET /", &fields).await;
                reply.assert_refused("400", AMBIGUOUS);
            }
        }
        server.world.assert_no_lookup();
    }

    /// 33
    #[tokio::test]
    async fn over_http1_head_gets_the_head_of_get() {
        let server = start().await;
        for fields in [
            &[][..],
            &[&b"Authorization: Bearer app-unknown-0123456"[..]],
            &[b"Authorization: Bearer app-suspended-01234"],
            &[b"Authorization: Bearer app-failing-0123456"],
            &[b"Authorization: Bearer a", b"Authorization: Bearer b"],
        ] {
            let get = server.send("GET /", fields).await;
            let head = server.send("HEAD /", fields).await;
            assert_eq!(head.head, get.head);
            assert!(!get.body.is_empty() && head.body.is_empty());
            let length = get.body.len().to_string();
            assert_eq!(get.values("content-length"), [length], "{get:?}");
        }
    }

    /// 35
    #[tokio::test]
    async fn over_http1_a_request_whose_body_never_comes_gets_its_refusal() {
        let server = start().await;
        for (framing, authorization, status) in [
            ("Content-Length: 1000000", "", "401"),
            ("Transfer-Encoding: chunked", "", "401"),
            (
                "Content-Length: 1000000",
                "Authorization: Bearer app-unknown-0123456\r\n",
                "401",
            ),
            (
                "Content-Length: 1000000",
                "Authorization: Bearer app-suspended-01234\r\n",
                "403",
            ),
            (
                "Content-Length: 1000000",
                "Authorization: Bearer app-failing-0123456\r\n",
                "503",
            ),
        ] {
            let mut stream = server.connect().await;
            let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n{authorization}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // The connection stays open: nothing but the answer can end this.
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                let read = stream.read_buf(&mut answer).await.unwrap();
                assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&answer));
            }
            let reply = raw(&answer);
            let line = format!("HTTP/1.1 {status} ");
            assert!(reply.head.starts_with(&line), "{reply:?}");
        }
    }

    /// 1, 4, 8, 10, 18, 20, 22, 24
    #[tokio::test]
    async fn over_http2_the_answers_are_those_of_the_service() {
        let server = start().await;
        let twin = World::new();
        let mut client = server.http2().await;
        let cases: [&[&[u8]]; 10] = [
            &[],
            &[b"Basic YTpi"],
            &[b"Bearer app-unknown-0123456"],
            &[b"Bearer app-revoked-0123456"],
            &[b"Bearer app-expired-0123456"],
            &[b"Bearer app-suspended-01234"],
            &[b"Bearer app-failing-0123456"],
            &[b"Bearer app-Good-012345678\xe9"],
            &[b"Bearer app-Good-0123456789", b"Bearer app-Good-0123456789"],
            &[b"bearer  app-Good-0123456789"],
        ];
        for authorizations in cases {
            let request = server.request(authorizations);
            let reply = http2_reply(client.send_request(request).await.unwrap()).await;
            let expected = twin.send(get(authorizations)).await;
            assert_eq!(
                (reply.status, &reply.body),
                (expected.status, &expected.body)
            );
            if expected.status != StatusCode::OK {
                assert_eq!(reply, expected);
            }
        }
        assert_eq!(server.world.reached(), [Some("tok-good".to_owned())]);
    }

    /// 33, 35
    #[tokio::test]
    async fn over_http2_head_has_no_body_and_a_body_that_never_comes_is_not_waited_for() {
        let server = start().await;
        let mut client = server.http2().await;
        let get = client.send_request(server.request(&[])).await.unwrap();
        let get = http2_reply(get).await;
        let mut head = server.request(&[]);
        *head.method_mut() = Method::HEAD;
        let head = http2_reply(client.send_request(head).await.unwrap()).await;
        assert_eq!(head.headers, get.headers);
        assert!(head.body.is_empty() && !get.body.is_empty());
        let mut post = server.request(&[]);
        *post.method_mut() = Method::POST;
        post.body_mut().ends = false;
        let post = http2_reply(client.send_request(post).await.unwrap()).await;
        assert_eq!(post, get);
    }
}
