//! Tests of tokens with a wrong prefix or checksum (http.md line 17).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{Cache, Db, Row, redis};
use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use test_support::{Monitor, RedisServer};
use tower::{Layer, ServiceExt, service_fn};
use tower_api_token::metrics::Stats;
use tower_api_token::test_util::SyncPoints;
use tower_api_token::{ApiTokenLayer, ApiTokenLayerBuilder, CachedApiToken, TokenFormat};

fn format() -> TokenFormat {
    TokenFormat::from_static("acme_")
}

fn generate(format: &TokenFormat) -> String {
    format.generate().unwrap().expose().to_owned()
}

/// A layer on a real Redis whose commands are monitored, and a database that counts its loads.
struct World {
    server: RedisServer,
    db: Arc<Db>,
    cache: Cache,
    layer: ApiTokenLayer<u64>,
    /// The number of points of the protocol that calls have passed.
    steps: Arc<AtomicUsize>,
}

impl World {
    fn new(configure: impl FnOnce(ApiTokenLayerBuilder<u64>) -> ApiTokenLayerBuilder<u64>) -> Self {
        let server = RedisServer::start();
        let (db, steps) = (Db::new(), Arc::new(AtomicUsize::new(0)));
        let passed = Arc::clone(&steps);
        let sync_points = SyncPoints::new(move |_| {
            passed.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        });
        let builder = db.cache().store(redis(&server)).sync_points(sync_points);
        let cache = builder.token_types(["app"]).build().unwrap();
        let layer = configure(ApiTokenLayer::builder(cache.clone()).token_type("app"))
            .build()
            .unwrap();
        Self {
            server,
            db,
            cache,
            layer,
            steps,
        }
    }

    /// Returns the whole answer: status, headers and body.
    async fn bearer(&self, token: impl AsRef<[u8]>) -> (u16, Vec<(String, Bytes)>, Bytes) {
        let mut request = Request::new(());
        let value = [b"Bearer ", token.as_ref()].concat();
        let value = HeaderValue::from_bytes(&value).unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
        let service = self.layer.layer(service_fn(async |request: Request<()>| {
            let token = request.extensions().get::<CachedApiToken<u64>>();
            let id = token.map_or("anonymous", CachedApiToken::id).to_owned();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(id)))
        }));
        let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| {
            let value = Bytes::copy_from_slice(value.as_bytes());
            (name.to_string(), value)
        });
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), headers.collect(), body)
    }

    async fn is_served(&self, token: &str) -> bool {
        let (status, _, body) = self.bearer(token).await;
        assert!(status == 200 || status == 401, "{status}");
        assert_eq!(status == 200, &body[..] == b"tok-1");
        status == 200
    }
}

/// Returns the commands about entries, without heartbeats and the like.
fn entries(monitor: &mut Monitor) -> Vec<String> {
    let mut lines = monitor.take();
    lines.retain(|line| line.contains("api_token:token:"));
    lines
}

/// Returns every text that differs from the token in one character.
fn substitutions(token: &str) -> impl Iterator<Item = String> {
    let characters = (b'!'..=b'~').filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let characters: Vec<u8> = characters.collect();
    (0..token.len()).flat_map(move |place| {
        let token = token.as_bytes().to_vec();
        let others = characters.clone().into_iter();
        let others = others.filter({
            let was = token[place];
            move |byte| *byte != was
        });
        others.map(move |byte| {
            let mut token = token.clone();
            token[place] = byte;
            String::from_utf8(token).unwrap()
        })
    })
}

/// Returns every text with two different neighbours of the token swapped.
fn swaps(token: &str) -> impl Iterator<Item = String> {
    (1..token.len()).filter_map(move |place| {
        let mut swapped = token.as_bytes().to_vec();
        swapped.swap(place - 1, place);
        (swapped != token.as_bytes()).then(|| String::from_utf8(swapped).unwrap())
    })
}

#[test]
fn every_typing_mistake_in_one_character_is_detected() {
    let format = format();
    let token = generate(&format);
    assert!(format.matches(&token));
    let mut tried = 0;
    for mistyped in substitutions(&token) {
        assert!(!format.matches(&mistyped), "{mistyped} for {token}");
        tried += 1;
    }
    assert_eq!(tried, token.len() * 62);
    for place in 0..token.len() {
        let lost = [&token[..place], &token[place + 1..]].concat();
        let doubled = [&token[..=place], &token[place..]].concat();
        assert!(
            !format.matches(&lost) && !format.matches(&doubled),
            "{token}"
        );
    }
}

#[test]
fn swapped_neighbours_are_detected() {
    // A fixed token, because one in 2^32 swaps between the random part and the checksum is not detected.
    let token = "acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17";
    let format = TokenFormat::from_static("acme_");
    assert!(format.matches(token));
    let mut tried = 0;
    for swapped in swaps(token) {
        assert!(!format.matches(&swapped), "{swapped}");
        tried += 1;
    }
    assert_eq!(tried, token.len() - 1, "no two neighbours of it are equal");
}

#[test]
fn generated_tokens_are_distinct_and_match_their_format() {
    for length in [22, 30, 31, 128] {
        let format = format().random_length(length).unwrap();
        let (one, other) = (generate(&format), generate(&format));
        assert_ne!(one, other);
        for token in [one, other] {
            assert!(format.matches(&token));
            assert!(token.starts_with("acme_"));
            assert_eq!(token.len(), 5 + length + 6);
            assert_eq!(token.len(), format.token_length());
            assert!(token[5..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
    }
}

#[test]
fn an_invalid_prefix_is_rejected() {
    let long = "a".repeat(33);
    for bad in ["", &long, "acme ", "acme+", "acme=", "acme/", "acm\u{e9}_"] {
        let error = TokenFormat::new(bad).unwrap_err();
        assert_eq!(error.setting(), "prefix", "{error}");
    }
    for good in ["a", "acme_", "A-z.0_9~", &long[1..]] {
        assert!(TokenFormat::new(good).is_ok(), "{good:?}");
    }
}

#[test]
fn fewer_random_characters_than_128_bits_need_are_rejected() {
    let least = (128.0 / 62_f64.log2()).ceil() as usize;
    assert_eq!(least, 22);
    for bad in [0, 1, least - 1, 129, usize::MAX] {
        assert!(format().random_length(bad).is_err(), "{bad}");
    }
    assert_eq!(
        format().random_length(least).unwrap().token_length(),
        5 + 22 + 6
    );
}

/// 17
#[tokio::test]
async fn a_token_that_fails_its_format_is_rejected_without_a_lookup() {
    let world = World::new(|layer| layer.token_format(format()));
    let good = generate(&format());
    world.db.insert(&good, Row::new("app"));
    let mut monitor = world.server.monitor();

    let unknown = world.bearer(generate(&format())).await;
    assert_eq!(unknown.0, 401);
    let challenge = unknown
        .1
        .iter()
        .find(|(name, _)| **name == WWW_AUTHENTICATE);
    let (_, challenge) = challenge.expect("a challenge");
    assert_eq!(challenge, r#"Bearer realm="api", error="invalid_token""#);
    assert_eq!(world.db.loads(), 1);
    assert!(
        !entries(&mut monitor).is_empty(),
        "an unknown token is looked up"
    );

    // All counters except the rejections, which the layer itself counts.
    let asked = |stats: Stats| {
        let lookups: Vec<_> = stats.lookups().collect();
        (lookups, stats.joined, stats.refreshes, stats.store_errors)
    };
    let (counted, kept) = (
        asked(world.cache.stats()),
        crate::common::local_entries(&world.cache),
    );
    let steps = world.steps.load(Ordering::SeqCst);
    let mut bad: Vec<Vec<u8>> = substitutions(&good)
        .chain(swaps(&good))
        .map(String::into_bytes)
        .collect();
    let other = generate(&TokenFormat::from_static("other_"));
    let longer = generate(&format().random_length(31).unwrap());
    for text in [
        &good[..good.len() - 1],
        &good[5..],
        &other,
        &longer,
        "acme_",
        "whatever-it-is",
    ] {
        bad.push(text.as_bytes().to_vec());
    }
    bad.push([good.as_bytes(), b"="].concat());
    bad.push([&good.as_bytes()[..good.len() - 1], b"\xff"].concat());
    for token in bad {
        let shown = String::from_utf8_lossy(&token).into_owned();
        assert_eq!(world.bearer(token).await, unknown, "{shown}");
    }
    assert_eq!(world.db.loads(), 1, "the loader was called");
    assert_eq!(entries(&mut monitor), [""; 0], "the store was asked");
    // The cache was not asked, and only the cache computes digests.
    assert_eq!(asked(world.cache.stats()), counted, "something was counted");
    assert_eq!(
        crate::common::local_entries(&world.cache),
        kept,
        "something was cached"
    );
    assert_eq!(
        world.steps.load(Ordering::SeqCst),
        steps,
        "a call was started"
    );

    assert!(world.is_served(&good).await);
    assert_eq!(world.db.loads(), 2);
}

#[tokio::test]
async fn without_a_format_every_token_of_the_grammar_is_looked_up() {
    let world = World::new(|layer| layer);
    world.db.insert("app-older-than-formats", Row::new("app"));
    assert!(world.is_served("app-older-than-formats").await);
    assert!(!world.is_served("acme_what-somebody-made-up").await);
    assert_eq!(world.db.loads(), 2);
}

#[tokio::test]
async fn a_token_of_any_of_several_formats_passes() {
    let (live, test) = (
        TokenFormat::from_static("live_"),
        TokenFormat::from_static("test_").random_length(40).unwrap(),
    );
    let world = World::new(|layer| {
        let layer = layer.token_format(live.clone());
        layer.token_format(test.clone())
    });
    for format in [&live, &test] {
        let token = generate(format);
        world.db.insert(&token, Row::new("app"));
        assert!(world.is_served(&token).await, "{token}");
    }
    let loads = world.db.loads();
    // The length of one format with the prefix of the other.
    let crossed = generate(&TokenFormat::from_static("live_").random_length(40).unwrap());
    world.db.insert(&crossed, Row::new("app"));
    assert!(!world.is_served(&crossed).await);
    assert_eq!(world.db.loads(), loads);
}

#[tokio::test]
async fn the_layers_length_limits_apply_to_a_format_too() {
    let world = World::new(|layer| layer.token_format(format()).token_length(41..=41));
    // The token is a byte longer or shorter than the limits allow.
    for lengths in [8..=40, 42..=512] {
        let layer = || ApiTokenLayer::builder(world.cache.clone()).token_type("app");
        let format_first = layer().token_format(format()).token_length(lengths.clone());
        let length_first = layer().token_length(lengths).token_format(format());
        for rejected in [format_first, length_first] {
            let error = rejected.build().unwrap_err();
            assert_eq!(error.setting(), "token_format");
            let message = error.to_string();
            assert!(message.contains("token_length"), "{message}");
            assert!(message.contains("acme_"), "{message}");
        }
    }
    let token = generate(&format());
    world.db.insert(&token, Row::new("app"));
    assert!(world.is_served(&token).await);
}
