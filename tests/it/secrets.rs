//! Tests that the crate does not disclose a token: in the `Debug` output of its types, in its errors and their
//! sources, or in Redis. The demo server's tests check logs and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Db, Row, found, is_invalid, redis};
use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use test_support::{Needles, RedisServer, free_port};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_api_token::last_use::{LastUse, LastUseRecorder};
use tower_api_token::metrics::Outcome;
use tower_api_token::middleware::{MissingApiToken, MultipleTokens, Verification};
use tower_api_token::rejection::{ProblemDetails, RequestHead, ResponseForRejection, StatusOnly};
use tower_api_token::store::{KeyLayout, RedisTls};
use tower_api_token::test_util::contract::Contract;
use tower_api_token::test_util::{ManualClock, SyncPoint, SyncPoints};
use tower_api_token::{
    Answer, ApiTokenCache, ApiTokenLayer, BearerToken, CachedApiToken, InvalidReason, Lookup,
    MemoryStore, RedisStore, Rejection, RevocationCanary, TokenDigest, TokenFormat, TokenRecord,
    TokenSource,
};

const TOKEN: &str = "app-7hQ2mXv9LpT4wZ8kRb3N";
const UNKNOWN: &str = "app-Yt5rEw3qPl9oKj2h";
const PEPPER: &str = "pepper-Jd6cYs0aUe5G";
const PASSWORD: &str = "Qf8nWi2oKx7tHr4y";
const METADATA: &str = "Vb1gMz6uCj9eSl3d";

/// Metadata whose derived `Debug` shows everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Account {
    upstream_key: String,
}

type Cache = ApiTokenCache<Account>;

fn needles() -> Needles {
    let mut needles = Needles::new();
    needles.add("the token", TOKEN);
    needles.add("a pepper", PEPPER);
    needles.add("Redis' password", PASSWORD);
    needles.add("metadata", METADATA);
    needles
}

fn record() -> TokenRecord<Account> {
    let upstream_key = METADATA.to_owned();
    TokenRecord::new("tok-1")
        .token_type("app")
        .tenant_id("t-1".to_owned())
        .digest(TokenDigest::of(TOKEN))
        .metadata(Account { upstream_key })
}

/// Records what a policy or a rejection response can see of a request.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<String>>);

impl Seen {
    fn write(&self, request: &RequestHead<'_>) {
        let headers = ["authorization", "x-api-key", "cookie", "a"];
        let headers = headers.map(|name| request.header(name));
        let query = request.query();
        *self.0.lock().unwrap() += &format!("{request:?} {request:#?} {headers:?} {query:?}\n");
    }
}

impl ResponseForRejection for Seen {
    fn response_for_rejection(
        &self,
        rejection: &Rejection,
        request: &RequestHead<'_>,
    ) -> Response<Bytes> {
        self.write(request);
        ProblemDetails::new().response_for_rejection(rejection, request)
    }
}

/// The `Debug` output of types, by the type's name.
#[derive(Default)]
struct Shown(BTreeMap<&'static str, String>);

impl Shown {
    fn of(&mut self, name: &'static str, value: &dyn Debug) {
        let text = self.0.entry(name).or_default();
        *text += &format!("{value:?}\n{value:#?}\n");
    }

    /// Adds the `Display` and `Debug` output of an error and of all its sources.
    fn error(&mut self, name: &'static str, error: &(dyn Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.of(name, &error);
            *self.0.entry(name).or_default() += &format!("{error}\n");
            next = error.source();
        }
    }

    async fn of_denials(&mut self) {
        let loader =
            |_: Lookup| async { Ok::<_, Infallible>(Some(record().denied("tenant suspended"))) };
        let cache = ApiTokenCache::builder(loader).build().unwrap();
        let answer = cache.authenticate_typed(TOKEN, "app").await.unwrap();
        self.of("Answer", &answer);
        match answer {
            Answer::Denied(denial) => self.of("Denial", &denial),
            answer => panic!("{answer:?}"),
        }
    }

    async fn of_lookups(&mut self) {
        let asked = Arc::new(Mutex::new(None));
        let ask = Arc::clone(&asked);
        let loader = move |lookup: Lookup| {
            *ask.lock().unwrap() = Some(lookup);
            async { Ok::<_, Infallible>(Some(record())) }
        };
        let used = Arc::new(Mutex::new(Vec::new()));
        let uses = Arc::clone(&used);
        let sink = move |batch: Vec<LastUse>| {
            uses.lock().unwrap().extend(batch);
            async { Ok::<_, Infallible>(()) }
        };
        let layout = KeyLayout::peppered(PEPPER).previous_peppers([PEPPER]);
        let store = RedisStore::new("redis://127.0.0.1").unwrap();
        let none = |_: Lookup| async { Ok::<_, Infallible>(None::<TokenRecord>) };
        let builder = ApiTokenCache::builder(none).store(store.key_layout(layout));
        self.of("ApiTokenCacheBuilder", &builder);
        let builder = ApiTokenCache::builder(loader).last_use(LastUseRecorder::new(sink));
        let cache: Cache = builder.build().unwrap();
        let answer = cache.authenticate_typed(TOKEN, "app").await.unwrap();
        self.of("Answer", &answer);
        let token = answer.valid().unwrap();
        self.of("CachedApiToken", &token);
        self.of("Revoked", &token.revoked());
        self.of("Origin", &token.origin());
        self.of("BearerToken", token.token());
        self.of("TokenDigest", &token.token().digest());
        self.of("Lookup", asked.lock().unwrap().as_ref().unwrap());
        for invalidation in [
            cache
                .invalidate(TOKEN)
                .wait_for_all_instances()
                .wait_for_replicas(1),
            cache
                .invalidate_digest(TokenDigest::of(TOKEN))
                .of_type("app"),
            cache.invalidate_tenant("t-1"),
        ] {
            self.of("Invalidation", &invalidation);
        }
        let receipt = cache.invalidate(TOKEN).await.unwrap();
        self.of("InvalidationReceipt", &receipt);
        self.of("Stats", &cache.stats());
        self.of("ApiTokenCache", &cache);
        assert_eq!(cache.shutdown().await, 0);
        self.of("LastUse", used.lock().unwrap().first().unwrap());
        self.of_http(cache.clone()).await;
        self.of_sources(cache).await;
    }

    /// A policy and the inner service can print a request without its token, whatever the source.
    async fn of_sources(&mut self, cache: Cache) {
        let sources = [
            TokenSource::bearer(),
            TokenSource::header("x-api-key"),
            TokenSource::cookie("session"),
            TokenSource::query("access_token"),
        ];
        for source in &sources {
            self.of("TokenSource", source);
        }
        let seen = Arc::new(Mutex::new(String::new()));
        let (policy, inner) = (Seen::default(), Arc::clone(&seen));
        let by_policy = policy.clone();
        let (rejected, is_rejected) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let rejects = Arc::clone(&is_rejected);
        let builder = ApiTokenLayer::builder(cache)
            .token_type("app")
            .sources(sources)
            .rejection_response(rejected.clone())
            .policy(move |token, request| {
                policy.write(request);
                *policy.0.lock().unwrap() += &format!("{token:?}\n");
                if rejects.load(Ordering::SeqCst) {
                    return Err(Rejection::INSUFFICIENT_SCOPE);
                }
                Ok(())
            });
        self.of("ApiTokenLayerBuilder", &builder);
        let layer = builder.build().unwrap();
        let mut service = layer.layer(service_fn(move |request: Request<()>| {
            *inner.lock().unwrap() += &format!("{request:?}\n");
            async { Ok::<_, Infallible>(Response::new(String::new())) }
        }));
        for (field, value, uri) in [
            ("authorization", format!("Bearer {TOKEN}"), "/".to_owned()),
            ("x-api-key", TOKEN.to_owned(), "/".to_owned()),
            ("cookie", format!("a=b; session={TOKEN}"), "/".to_owned()),
            ("a", "b".to_owned(), format!("/?a=b&access_token={TOKEN}")),
        ] {
            for (rejects, status) in [(false, 200), (true, 403)] {
                is_rejected.store(rejects, Ordering::SeqCst);
                let request = Request::builder().uri(&uri).header(field, &value);
                let response = service.call(request.body(()).unwrap()).await.unwrap();
                assert_eq!(response.status(), status, "{field}");
            }
        }
        self.of("ApiTokenService", &seen.lock().unwrap().clone());
        for (seen, count) in [(by_policy, 16), (rejected, 8)] {
            let text = seen.0.lock().unwrap().clone();
            assert_eq!(text.matches("RequestHead").count(), count, "{text}");
            self.of("RequestHead", &text);
        }
    }

    async fn of_http(&mut self, cache: Cache) {
        let layer = ApiTokenLayer::builder(cache.clone())
            .token_type("app")
            .build()
            .unwrap();
        self.of("ApiTokenLayer", &layer);
        // What an inner layer may print.
        let seen = Arc::new(Mutex::new(String::new()));
        let inner = Arc::clone(&seen);
        let mut service = layer.layer(service_fn(move |request: Request<()>| {
            let account = request.extensions().get::<CachedApiToken<Account>>();
            *inner.lock().unwrap() += &format!("{request:?}\n{request:#?}\n{account:?}\n");
            async { Ok::<_, Infallible>(Response::new(String::new())) }
        }));
        let request = |scheme: &str, text: &str| {
            let line = format!("{scheme} {text}");
            Request::builder()
                .header("authorization", line)
                .body(())
                .unwrap()
        };
        for (scheme, text) in [
            ("Bearer", TOKEN),
            ("Basic", TOKEN),
            ("Bearer", "app-unknown"),
        ] {
            let future = service.call(request(scheme, text));
            self.of("ResponseFuture", &future);
            let response = future.await.unwrap();
            self.of("ResponseBody", response.body());
        }
        self.of("ApiTokenService", &service);
        let text = seen.lock().unwrap().clone();
        assert!(text.contains("Sensitive"), "{text}");
        self.of("ApiTokenService", &text);
        let (mut parts, ()) = Request::new(()).into_parts();
        let missing = CachedApiToken::<Account>::from_request_parts(&mut parts, &()).await;
        let missing: MissingApiToken = missing.unwrap_err();
        self.error("MissingApiToken", &missing);

        // Without a service, and with tokens of another kind, of which none is ours.
        let decisions = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&decisions);
        let layer = ApiTokenLayer::builder(cache.clone())
            .token_type("app")
            .on_decision(move |decision| *told.lock().unwrap() += &format!("{decision:?}"))
            .build()
            .unwrap();
        for text in [TOKEN, "app-unknown"] {
            let (parts, ()) = request("Bearer", text).into_parts();
            let _ = layer.verify(&parts).await;
        }
        let decisions = decisions.lock().unwrap().clone();
        assert_eq!(decisions.matches("Decision").count(), 2);
        self.of("Decision", &decisions);
        let layer = ApiTokenLayer::builder(cache.clone())
            .token_type("app")
            .token_format(TokenFormat::from_static("ours-"))
            .pass_other_tokens()
            .build()
            .unwrap();
        let (parts, ()) = request("Bearer", TOKEN).into_parts();
        let verification = layer.verify(&parts).await.unwrap();
        self.of("Verification", &verification);
        let Verification::Unverified(other) = verification else {
            panic!("{verification:?}");
        };
        assert_eq!(other.token().expose(), TOKEN);
        self.of("UnverifiedToken", &other);
        let (parts, ()) = request("Bearer", &format!("ours-{TOKEN}")).into_parts();
        let rejected = layer.verify(&parts).await.unwrap_err();
        self.error("Rejected", &rejected);
        let service = layer.layer(service_fn(async |request: Request<()>| {
            let (mut parts, ()) = request.into_parts();
            let refused = CachedApiToken::<Account>::from_request_parts(&mut parts, &()).await;
            let mut response = Response::new(String::new());
            response.extensions_mut().insert(refused.unwrap_err());
            Ok::<_, Infallible>(response)
        }));
        let response = service.oneshot(request("Bearer", TOKEN)).await.unwrap();
        let refused = response.extensions().get::<MissingApiToken>().unwrap();
        self.error("MissingApiToken", refused);
    }

    fn of_values(&mut self) {
        self.of("TokenRecord", &record());
        self.of(
            "Answer",
            &Answer::<Account>::Invalid(InvalidReason::Unknown),
        );
        self.of("InvalidReason", &InvalidReason::WrongTokenType);
        self.of("Outcome", &Outcome::Valid);
        self.of("MemoryStore", &MemoryStore::new());
        self.of(
            "KeyLayout",
            &KeyLayout::peppered(PEPPER).previous_peppers([PEPPER]),
        );
        self.of("KeyLayout", &KeyLayout::dify());
        self.of("ProblemDetails", &ProblemDetails::new());
        self.of("StatusOnly", &StatusOnly);
        for rejection in [
            Rejection::insufficient_scope("orders:write").unwrap(),
            Rejection::MissingToken,
            Rejection::InvalidToken,
            Rejection::MultipleTokens,
            Rejection::MissingProtocol,
            Rejection::Denied("tenant suspended".into()),
            Rejection::TooManyRequests {
                retry_after: Duration::from_secs(1),
            },
            Rejection::Unavailable {
                retry_after: Duration::from_secs(1),
            },
        ] {
            self.of("Rejection", &rejection);
        }
        self.of("MultipleTokens", &MultipleTokens::Reject);
        self.of("TokenFormat", &TokenFormat::from_static("app-"));
        let sink = |_: Vec<LastUse>| async { Ok::<_, Infallible>(()) };
        self.of("LastUseRecorder", &LastUseRecorder::new(sink));
        self.of("ManualClock", &ManualClock::new());
        self.of("SyncPoints", &SyncPoints::new(|_| async {}));
        self.of("SyncPoint", &SyncPoint::Read);
    }

    async fn of_a_contract(&mut self) {
        let loader = |_: Lookup| async { Ok::<_, Infallible>(Some(record())) };
        let contract = Contract::new(ApiTokenCache::builder(loader))
            .create(|_| async { Ok(BearerToken::new(TOKEN)) })
            .revoke(|_, _| async { Ok(()) });
        self.of("Contract", &contract);
        let violation = contract.run().await.unwrap_err();
        self.of("Rule", &violation.rule());
        self.error("Violation", &violation);
    }

    async fn of_a_canary(&mut self) {
        let server = RedisServer::start();
        let store = || redis(&server).key_layout(KeyLayout::peppered(PEPPER));
        let cache = Db::new().cache().store(store()).build().unwrap();
        let canary = RevocationCanary::new(&cache, store()).unwrap();
        self.of("RevocationCanary", &canary);
        let measured = canary.measure().await.unwrap();
        self.of("MeasuredRevocation", &measured);
        self.of("InvalidationReceipt", &measured.receipt().to_string());
        server.kill();
        self.error("CanaryError", &canary.measure().await.unwrap_err());
    }

    async fn of_errors(&mut self) {
        self.error(
            "ParseDigestError",
            &TOKEN.parse::<TokenDigest>().unwrap_err(),
        );
        let url = format!("redis://user:{PASSWORD}@127.0.0.1:{}", free_port());
        for broken in [
            format!("{url}x"),
            url.replace("redis:", "http:"),
            format!("{url}/{PASSWORD}"),
        ] {
            self.error("ConfigError", &RedisStore::new(&broken).unwrap_err());
        }
        let sentinels = url.replace("redis:", "redis+sentinel:");
        let sentinels = format!("{sentinels}/name?sentinel_password={PASSWORD}");
        let store = RedisStore::new(&sentinels).unwrap();
        self.of("RedisStore", &store);
        self.error(
            "ConfigError",
            &RedisStore::new(&format!("{sentinels}&{PASSWORD}")).unwrap_err(),
        );
        let tls = RedisTls::new()
            .identity(PASSWORD, PASSWORD)
            .ca_certificate(PASSWORD);
        self.of("RedisTls", &tls);
        let store = RedisStore::new(&url).unwrap();
        self.of("RedisStore", &store);
        let provided = store
            .clone()
            .credentials_provider(async || (None, PASSWORD.to_owned()));
        self.of("RedisStore", &provided.tls(tls));
        for layout in [
            KeyLayout::peppered(PEPPER).previous_peppers([PEPPER]),
            KeyLayout::dify(),
        ] {
            let loader = |_: Lookup| async { Err::<Option<TokenRecord<Account>>, _>("away") };
            let cache = ApiTokenCache::builder(loader)
                .store(store.clone().key_layout(layout))
                .token_types(["app"])
                .build()
                .unwrap();
            let unavailable = cache.authenticate_typed(TOKEN, "app").await.unwrap_err();
            self.of("UnavailableKind", &unavailable.kind());
            self.error("Unavailable", &unavailable);
            let error = cache.peek(TOKEN).await.unwrap_err();
            self.of("StoreErrorKind", &error.kind());
            self.error("StoreError", &error);
            self.error(
                "InvalidateError",
                &cache.invalidate(TOKEN).await.unwrap_err(),
            );
            let nowhere = cache.invalidate(TOKEN).of_type("no type of ours").await;
            let nowhere = nowhere.unwrap_err();
            self.of("InvalidateErrorKind", &nowhere.kind());
            self.error("InvalidateError", &nowhere);
        }
    }
}

/// Collects the public types of `src/`.
fn public_types(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            public_types(&path, found);
            continue;
        }
        // The fuzzers' hidden module, which shows them what they read.
        if path.ends_with("src/fuzzing.rs") {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line = line.trim_start();
            let rest = ["pub struct ", "pub enum ", "pub union "]
                .into_iter()
                .find_map(|kind| line.strip_prefix(kind));
            if let Some(rest) = rest {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                found.insert(rest[..end.unwrap_or(rest.len())].to_owned());
            }
        }
    }
}

#[tokio::test]
async fn no_public_type_or_error_shows_a_token() {
    let mut shown = Shown::default();
    shown.of_lookups().await;
    shown.of_denials().await;
    shown.of_values();
    shown.of_errors().await;
    shown.of_a_contract().await;
    shown.of_a_canary().await;
    let needles = needles();
    for (name, text) in &shown.0 {
        needles.assert_none_in(name, text);
    }

    // This test has to print every public type, except those that a user cannot name or hold, and an error that
    // needs an operating system without random bytes.
    let out_of_reach = ["Erased", "Optional", "Parts", "Present", "GenerateError"];
    let mut types = BTreeSet::new();
    public_types(Path::new("src"), &mut types);
    let is_checked = |name: &&String| {
        shown.0.contains_key(name.as_str()) || out_of_reach.contains(&name.as_str())
    };
    assert!(types.len() > 30, "{types:?}");
    let missing: Vec<_> = types.iter().filter(|name| !is_checked(name)).collect();
    assert!(missing.is_empty(), "this test must print {missing:?}");
}

#[test]
fn a_shown_token_would_be_found() {
    let token = BearerToken::new(TOKEN);
    let account = Account {
        upstream_key: METADATA.to_owned(),
    };
    for shown in [format!("{:?}", token.expose()), format!("{account:?}")] {
        assert!(needles().find(shown.as_bytes()).is_some(), "{shown}");
    }
}

/// Runs every operation on Redis, and returns all commands and all contents.
async fn recorded(layout: KeyLayout) -> String {
    let server = RedisServer::start();
    let mut monitor = server.monitor();
    let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
    let build = |layout: &KeyLayout| {
        let store = redis(&server).key_layout(layout.clone());
        let builder = db.cache().store(store).local_capacity(0);
        builder.build().unwrap()
    };
    let cache = build(&layout);
    let mut contents = String::new();
    let mut look = || contents += &String::from_utf8_lossy(&server.contents());

    found(&cache, TOKEN).await;
    found(&cache, TOKEN).await;
    assert!(is_invalid(&cache, UNKNOWN).await);
    cache.authenticate(TOKEN).await.unwrap();
    cache.authenticate_typed(TOKEN, "dataset").await.unwrap();
    cache.peek(TOKEN).await.unwrap();
    let recorder = db.cache().store(redis(&server).key_layout(layout.clone()));
    let recorder = recorder
        .last_use(LastUseRecorder::store_only())
        .build()
        .unwrap();
    found(&recorder, TOKEN).await;
    assert_eq!(recorder.shutdown().await, 0);
    let used = cache.last_used_at(TOKEN).await.unwrap();
    assert!(used.is_some());
    look();
    // A denial, an invalid entry, a key of another type, and a record that is too large.
    db.suspend("t-1");
    cache.invalidate_tenant("t-1").await.unwrap();
    assert!(matches!(
        cache.authenticate_typed(TOKEN, "app").await,
        Ok(Answer::Denied(_))
    ));
    look();
    db.resume("t-1");
    let entries = server.keys("api_token:token:*");
    assert_eq!(entries.len(), 2, "{entries:?}");
    server.command(&["SET", &entries[0], "V1{}"]).ok();
    server.command(&["DEL", &entries[1]]).int();
    server.command(&["SADD", &entries[1], "x"]).int();
    found(&cache, TOKEN).await;
    assert!(is_invalid(&cache, UNKNOWN).await);
    db.change(TOKEN, |row| row.id = "x".repeat(20_000));
    cache
        .invalidate(TOKEN)
        .wait_for_all_instances()
        .await
        .unwrap();
    found(&cache, TOKEN).await;
    assert_eq!(cache.stats().unwritable, 1);
    db.revoke(TOKEN);
    cache
        .invalidate_digest(TokenDigest::of(TOKEN))
        .await
        .unwrap();
    assert!(is_invalid(&cache, TOKEN).await);
    look();
    let told = monitor.take().join("\n");
    for command in ["SET", "GET", "EVAL", "DEL", "SADD", "SMEMBERS"] {
        let quoted = format!("\"{command}\"");
        assert!(told.contains(&quoted), "{command} was not recorded");
    }
    assert!(
        contents.contains("tok-1") && told.contains("tok-1"),
        "records are readable"
    );
    told + &contents
}

#[tokio::test]
async fn nothing_in_redis_reveals_a_token() {
    let mut texts = needles();
    texts.add("an unknown token", UNKNOWN);
    for layout in [
        KeyLayout::digest(),
        KeyLayout::peppered(PEPPER).previous_peppers([""]),
    ] {
        texts.assert_none_in("Redis", recorded(layout).await);
    }
}

/// With a pepper a dump does not even show whether a known token is in use.
#[tokio::test]
async fn with_a_pepper_redis_does_not_hold_a_tokens_digest() {
    let digest = TokenDigest::of(UNKNOWN).to_string();
    let pepper_alone = KeyLayout::peppered(PEPPER);
    assert!(!recorded(pepper_alone).await.contains(&digest));
    assert!(recorded(KeyLayout::digest()).await.contains(&digest));
}
