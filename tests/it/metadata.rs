//! Tests of typed metadata through Redis, including releases that change the type.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::redis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use test_support::RedisServer;
use tower_api_token::store::KeyLayout;
use tower_api_token::{ApiTokenCache, CachedApiToken, Lookup, Origin, TokenDigest, TokenRecord};

const TOKEN: &str = "app-0123456789abcdef";

fn key() -> String {
    format!("api_token:token:{{{}}}", TokenDigest::of(TOKEN))
}

/// An instance of one release, whose loader returns one value of metadata.
struct Release<M> {
    cache: ApiTokenCache<M>,
    loads: Arc<AtomicUsize>,
}

impl<M> Release<M>
where
    M: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn of(server: &RedisServer, metadata: M) -> Self {
        Self::with(server, KeyLayout::digest(), metadata)
    }

    fn with(server: &RedisServer, layout: KeyLayout, metadata: M) -> Self {
        let loads = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&loads);
        let loader = move |_: Lookup| {
            counted.fetch_add(1, Ordering::SeqCst);
            let record = TokenRecord::new("tok-1")
                .token_type("app")
                .metadata(metadata.clone());
            async { Ok::<_, Infallible>(Some(record)) }
        };
        let builder = ApiTokenCache::builder(loader).store(redis(server).key_layout(layout));
        let builder = builder.local_capacity(0).token_types(["app"]);
        let cache = builder.build().unwrap();
        Self { cache, loads }
    }

    async fn ask(&self) -> CachedApiToken<M> {
        let answer = self.cache.authenticate_typed(TOKEN, "app").await.unwrap();
        answer.valid().expect("a valid token")
    }

    fn loads(&self) -> usize {
        self.loads.swap(0, Ordering::SeqCst)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Trial { days: u8 },
    Paid(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Limits {
    per_second: Option<f64>,
    kinds: Vec<Kind>,
    names: BTreeMap<String, i64>,
    text: String,
}

/// Checks that another instance reads the metadata that one wrote.
async fn comes_back<M>(metadata: M)
where
    M: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let server = RedisServer::start();
    let one = Release::of(&server, metadata.clone());
    assert_eq!(one.ask().await.origin(), Origin::Loaded);
    let two = Release::of(&server, metadata.clone());
    let read = two.ask().await;
    assert_eq!(
        (read.origin(), read.metadata()),
        (Origin::Shared, &metadata)
    );
    assert_eq!((one.loads(), two.loads()), (1, 0));
}

#[tokio::test]
async fn metadata_is_read_back_unchanged() {
    comes_back(()).await;
    comes_back(u64::MAX).await;
    comes_back("a \"text\", \u{0} and é\u{1f600}".to_owned()).await;
    comes_back(None::<String>).await;
    comes_back(Some(vec![1, 2])).await;
    comes_back(Limits {
        per_second: Some(0.1),
        kinds: vec![Kind::Trial { days: 14 }, Kind::Paid("team".to_owned())],
        names: BTreeMap::from([("rows".to_owned(), -1)]),
        text: "}{\n".to_owned(),
    })
    .await;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Old {
    plan: String,
}

/// Has one field more without a default, so that it cannot be read from what the old release wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct New {
    plan: String,
    seats: u32,
}

/// Has one field more, which may be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lenient {
    plan: String,
    #[serde(default)]
    seats: u32,
}

fn old(plan: &str) -> Old {
    let plan = plan.to_owned();
    Old { plan }
}

#[tokio::test]
async fn an_entry_with_unreadable_metadata_is_a_miss_and_is_replaced() {
    let server = RedisServer::start();
    let before = Release::of(&server, old("team"));
    before.ask().await;
    let seats = 5;
    let plan = "team".to_owned();
    let after = Release::of(&server, New { plan, seats });
    let peeked = after.cache.peek(TOKEN).await.unwrap();
    assert!(peeked.is_none(), "not a valid entry: {peeked:?}");
    assert_eq!(after.ask().await.metadata().seats, seats);
    assert_eq!((after.loads(), after.cache.stats().corrupt), (1, 1));
    // The entry is replaced, and the old release can read it too.
    assert_eq!(after.ask().await.origin(), Origin::Shared);
    let value = String::from_utf8(server.get(&key()).unwrap()).unwrap();
    assert!(
        value.contains(r#""metadata":{"plan":"team","seats":5}"#),
        "{value}"
    );
    assert_eq!(before.ask().await.metadata(), &old("team"));
    assert_eq!((before.loads(), after.loads()), (1, 0));
    assert_eq!(after.cache.stats().store_errors, 0);
}

#[tokio::test]
async fn a_new_field_with_a_default_costs_no_reload() {
    let server = RedisServer::start();
    Release::of(&server, old("team")).ask().await;
    let plan = "team".to_owned();
    let after = Release::of(&server, Lenient { plan, seats: 5 });
    let read = after.ask().await;
    // The entry is unchanged until the next load.
    assert_eq!((read.origin(), read.metadata().seats), (Origin::Shared, 0));
    assert_eq!((after.loads(), after.cache.stats().corrupt), (0, 0));
}

#[tokio::test]
async fn metadata_may_be_added_or_removed_by_a_release() {
    let server = RedisServer::start();
    let with = Release::of(&server, old("team"));
    with.ask().await;
    let without = Release::of(&server, None::<Old>);
    assert_eq!(without.ask().await.metadata(), &Some(old("team")));
    without.cache.invalidate(TOKEN).await.unwrap();
    assert_eq!(without.ask().await.metadata(), &None);
    // A type that requires metadata does not accept an entry without it.
    assert_eq!(with.ask().await.metadata(), &old("team"));
    assert_eq!((with.loads(), with.cache.stats().corrupt), (2, 1));
}

/// Metadata whose serialization fails.
#[derive(Debug, Clone, Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_written_is_answered_and_not_cached() {
    let server = RedisServer::start();
    let release = Release::of(&server, Unwritable);
    for _ in 0..2 {
        assert_eq!(release.ask().await.origin(), Origin::Loaded);
    }
    assert_eq!((release.loads(), release.cache.stats().unwritable), (2, 2));
    assert_eq!(server.get(&key()), None);
}

/// Metadata with faults that an implementation may have.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bad {
    PanicsWhenWritten,
    PanicsWhenRead,
    /// It is serialized as something that it cannot be read from.
    IsNotRead,
    /// It is serialized as null, from which it cannot be read.
    IsNothing,
}

impl Serialize for Bad {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PanicsWhenWritten => panic!("the test panics on purpose"),
            Self::PanicsWhenRead => to.serialize_str("panic"),
            Self::IsNotRead => to.serialize_str("error"),
            Self::IsNothing => to.serialize_unit(),
        }
    }
}

impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match String::deserialize(from)?.as_str() {
            "panic" => panic!("the test panics on purpose"),
            text => Err(serde::de::Error::custom(text)),
        }
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_read_back_is_answered_not_cached() {
    for layout in [KeyLayout::digest(), KeyLayout::dify()] {
        for bad in [
            Bad::PanicsWhenWritten,
            Bad::PanicsWhenRead,
            Bad::IsNotRead,
            Bad::IsNothing,
        ] {
            let server = RedisServer::start();
            let release = Release::with(&server, layout.clone(), bad);
            for _ in 0..2 {
                let answer = release.ask().await;
                assert_eq!((answer.origin(), answer.metadata()), (Origin::Loaded, &bad));
                assert_eq!(server.keys("api_token:*:{*"), [""; 0], "{bad:?}");
            }
            let stats = release.cache.stats();
            assert_eq!((release.loads(), stats.unwritable), (2, 2), "{bad:?}");
            assert_eq!((stats.corrupt, stats.fills_refused), (0, 0), "{bad:?}");
        }
    }
}

#[tokio::test]
async fn an_entry_whose_metadata_panics_is_a_miss_and_is_replaced() {
    let server = RedisServer::start();
    Release::of(&server, "panic".to_owned()).ask().await;
    // The metadata that this release loads can be written and read.
    let after = Release::of(&server, Some(Careless));
    assert_eq!(after.ask().await.origin(), Origin::Loaded);
    assert_eq!(after.ask().await.origin(), Origin::Shared);
    assert_eq!((after.loads(), after.cache.stats().corrupt), (1, 1));
}

/// Our field in the Dify layout once had the name `metadata`, which Python may use for itself.
#[tokio::test]
async fn metadata_that_panics_under_the_former_name_is_ignored() {
    let server = RedisServer::start();
    let after = Release::with(&server, KeyLayout::dify(), Careless);
    let former = format!(
        r#"{{"id":"tok-1","app_id":null,"tenant_id":null,"type":"app","token":"{TOKEN}",
        "last_used_at":null,"created_at":null,"metadata":"panic"}}"#
    );
    let key = format!("api_token:app:{TOKEN}");
    server.command(&["SET", &key, &former]).ok();
    assert_eq!(after.ask().await.origin(), Origin::Shared);
    assert_eq!(after.loads(), 0);
}

/// Metadata that panics on an unknown value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Careless;

impl<'de> Deserialize<'de> for Careless {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let known = serde_json::Value::deserialize(from)?.is_null();
        assert!(known, "the test panics on purpose");
        Ok(Self)
    }
}
