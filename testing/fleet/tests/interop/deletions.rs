//! Deletions of a token, of one type and of all, by both sides.

use crate::common::{APP, ENTRY, TOKEN, World, found, is_absent, record, record_of};
use fleet::interop::database::Row;
use fleet::interop::python::Version;
use tower_api_token::Answer;

const GLOB: &str = r"*?[]\^a[b-d]*\?";

#[tokio::test]
async fn pythons_deletion_of_a_type_takes_effect_only_there() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        found(&rust, TOKEN).await;
        rust.authenticate(TOKEN).await.unwrap();
        world.database.revoke(TOKEN);
        python.delete(TOKEN, "app");
        assert!(is_absent(&rust, TOKEN).await);
        let elsewhere = rust.authenticate(TOKEN).await.unwrap();
        assert!(matches!(elsewhere, Answer::Valid(_)));
    }
}

#[tokio::test]
async fn pythons_deletion_of_all_types_takes_effect_in_all() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        found(&rust, TOKEN).await;
        rust.authenticate(TOKEN).await.unwrap();
        world.database.revoke(TOKEN);
        python.delete_all_scopes(TOKEN);
        assert!(is_absent(&rust, TOKEN).await);
        let elsewhere = rust.authenticate(TOKEN).await.unwrap();
        assert!(matches!(elsewhere, Answer::Invalid(_)));
    }
}

#[tokio::test]
async fn our_invalidation_of_a_type_takes_effect_only_there() {
    for version in Version::ALL {
        let world = World::new();
        let (rust, mut python) = (world.rust(), world.python(version));
        python.set(APP, &record("py-1", TOKEN));
        python.set(None, &record("py-2", TOKEN));
        rust.invalidate(TOKEN).of_type("app").await.unwrap();
        assert_eq!(python.get(TOKEN, APP).why, "missing");
        assert_eq!(python.fetch_cached(TOKEN, None)["id"], "py-2");
    }
}

#[tokio::test]
async fn our_invalidation_reaches_types_that_only_python_wrote() {
    for version in Version::ALL {
        let world = World::new();
        let (rust, mut python) = (world.rust(), world.python(version));
        let scopes = [None, APP, Some("dataset"), Some("a scope of Python's")];
        for scope in scopes {
            python.set(scope, &record("py-1", TOKEN));
        }
        python.set(APP, &record("py-2", "another-token"));
        rust.invalidate(TOKEN).await.unwrap();
        for scope in scopes {
            assert_eq!(python.get(TOKEN, scope).why, "missing", "{scope:?}");
        }
        assert_eq!(python.get("another-token", APP).why, "record");
    }
}

#[tokio::test]
async fn token_with_glob_characters_works_in_both_directions() {
    for version in Version::ALL {
        let world = World::new();
        world
            .database
            .commit(GLOB, Row::new("tok-1").of_tenant("t-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        found(&rust, GLOB).await;
        assert_eq!(python.fetch_cached(GLOB, APP)["token"], GLOB);
        world.database.revoke(GLOB);
        python.delete(GLOB, "app");
        assert!(is_absent(&rust, GLOB).await);
        python.set(APP, &record("py-1", GLOB));
        assert_eq!(found(&rust, GLOB).await.id(), "py-1");
    }
}

#[tokio::test]
async fn our_invalidation_of_such_a_token_keeps_similar_keys() {
    for version in Version::ALL {
        let world = World::new();
        let (rust, mut python) = (world.rust(), world.python(version));
        // Each matches the token as a pattern, or a partially escaped pattern.
        let near = [
            r"X?[]\^ab*\?",
            "anything at all",
            r"*?[]^a[b-d]*\?",
            r"*?[]\^ac*\?",
            r"\*\?\[\]\\^a\[b-d\]\*\\\?",
        ];
        for token in near {
            python.set(APP, &record("py-1", token));
        }
        for scope in [APP, None] {
            python.set(scope, &record("py-1", GLOB));
        }
        rust.invalidate(GLOB).await.unwrap();
        for scope in [APP, None] {
            assert_eq!(python.get(GLOB, scope).why, "missing");
        }
        for token in near {
            assert_eq!(python.get(token, APP).why, "record", "{token}");
        }
    }
}

#[tokio::test]
async fn token_with_the_same_end_is_another_token() {
    let world = World::new();
    let (rust, mut python) = (world.rust(), world.python(Version::Current));
    let longer = format!("prefix:{TOKEN}");
    python.set(APP, &record("py-1", &longer));
    python.set(APP, &record("py-2", TOKEN));
    python.record_use(TOKEN, APP, "2026-01-02T03:04:05");
    rust.invalidate(TOKEN).await.unwrap();
    assert_eq!(python.get(TOKEN, APP).why, "missing");
    assert_eq!(python.get(&longer, APP).why, "record");
    assert!(python.read_use(TOKEN, APP).is_some());
}

#[tokio::test]
async fn pythons_deletion_removes_our_entry_from_the_index() {
    let world = World::with(Row::new("tok-1").of_tenant("t-1"));
    let (rust, mut python) = (world.rust(), world.python(Version::Current));
    found(&rust, TOKEN).await;
    python.set(APP, &record_of("py-1", "pythons-token", "t-1"));
    let pythons = "api_token:app:pythons-token";
    assert_eq!(world.members("tenant_tokens:t-1"), [ENTRY, pythons]);
    python.delete(TOKEN, "app");
    assert_eq!(world.members("tenant_tokens:t-1"), [pythons]);
}

#[tokio::test]
async fn our_invalidation_removes_pythons_entry_from_its_index() {
    for version in [Version::Second, Version::Current] {
        let world = World::new();
        let (rust, mut python) = (world.rust(), world.python(version));
        for token in ["one", "another"] {
            python.set(APP, &record_of("py-1", token, "t-1"));
            python.set(None, &record_of("py-1", token, "t-1"));
        }
        rust.invalidate("one").await.unwrap();
        let others = ["api_token:any:another", "api_token:app:another"];
        assert_eq!(world.members("tenant_tokens:t-1"), others);
        rust.invalidate("another").of_type("app").await.unwrap();
        assert_eq!(world.members("tenant_tokens:t-1"), others[..1]);
    }
}

#[tokio::test]
async fn invalidation_by_digest_is_an_error() {
    let world = World::new();
    let (rust, mut python) = (world.rust(), world.python(Version::Current));
    python.set(APP, &record("py-1", TOKEN));
    let digest = tower_api_token::TokenDigest::of(TOKEN);
    let error = rust.invalidate_digest(digest).await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(python.get(TOKEN, APP).why, "record");
}
