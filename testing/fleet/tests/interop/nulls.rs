//! Nulls: our side uses those of both sides, and Python may overwrite them at any time.

use crate::common::{APP, ENTRY, TOKEN, World, found, found_shared, is_absent, record};
use fleet::interop::database::Row;
use fleet::interop::python::Version;
use serde_json::Value;

#[tokio::test]
async fn pythons_null_is_an_answer_for_us() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        world.python(version).set_null(TOKEN, APP);
        assert_eq!(world.text(ENTRY).as_deref(), Some("null"));
        assert!(is_absent(&world.rust(), TOKEN).await);
        assert_eq!(world.database.loads(), 0);
    }
}

#[tokio::test]
async fn our_null_is_a_miss_for_python_which_may_overwrite_it() {
    for version in Version::ALL {
        let world = World::new();
        let (rust, mut python) = (world.rust(), world.python(version));
        assert!(is_absent(&rust, TOKEN).await);
        assert_eq!(world.text(ENTRY).as_deref(), Some("null"));
        assert_eq!(python.get(TOKEN, APP).why, "null");
        python.fetch_loaded(TOKEN, APP, &record("py-1", TOKEN));
        assert_eq!(found_shared(&rust, TOKEN).await.id(), "py-1");
        assert_eq!(world.database.loads(), 1);
    }
}

#[tokio::test]
async fn token_that_python_cached_as_unknown_needs_no_load() {
    for version in Version::ALL {
        let world = World::new();
        let mut python = world.python(version);
        python.fetch_loaded(TOKEN, APP, &Value::Null);
        assert!(is_absent(&world.rust(), TOKEN).await);
        assert_eq!(world.database.loads(), 0);
    }
}

#[tokio::test]
async fn created_token_is_found_after_python_deleted_the_null() {
    for version in Version::ALL {
        let world = World::new();
        let (rust, mut python) = (world.rust(), world.python(version));
        assert!(is_absent(&rust, TOKEN).await);
        world.database.commit(TOKEN, Row::new("tok-1"));
        python.delete(TOKEN, "app");
        assert_eq!(found(&rust, TOKEN).await.id(), "tok-1");
    }
}

#[tokio::test]
async fn without_a_type_python_finds_nothing() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        // Python queries its database for `type IS NULL`.
        assert!(python.fetch_loaded(TOKEN, None, &Value::Null).is_null());
        let any = format!("api_token:any:{TOKEN}");
        assert_eq!(world.text(&any).as_deref(), Some("null"));
        // A layer without a type then rejects a valid token, so the guide says to name a type.
        let answer = rust.authenticate(TOKEN).await.unwrap();
        assert!(answer.valid().is_none());
        assert_eq!(found(&rust, TOKEN).await.id(), "tok-1");
    }
}
