//! Entries: each side reads every field that the other wrote, without a load.

use crate::common::{
    APP, ENTRY, TOKEN, World, found, found_shared, micros_after, record, record_of,
};
use fleet::interop::database::Row;
use fleet::interop::python::Version;
use serde_json::json;
use tower_api_token::{Answer, ApiTokenCache, Lookup, Origin, TokenRecord};

#[tokio::test]
async fn every_field_of_pythons_entries_is_read() {
    for version in Version::ALL {
        let world = World::new();
        let written = json!({
            "id": "9c1b5f1e-8f6b-4d52-8d2c-6b1f0f7f7a10",
            "app_id": "app-17",
            "tenant_id": "t-42",
            "type": "app",
            "token": TOKEN,
            "last_used_at": "2026-01-02T03:04:05",
            "created_at": "2026-01-02T03:04:05.000006",
        });
        world.python(version).set(APP, &written);
        let token = found_shared(&world.rust(), TOKEN).await;
        assert_eq!(token.id(), "9c1b5f1e-8f6b-4d52-8d2c-6b1f0f7f7a10");
        assert_eq!(token.app_id(), Some("app-17"));
        assert_eq!(token.tenant_id(), Some("t-42"));
        assert_eq!(token.token_type(), Some("app"));
        assert_eq!(token.token().expose(), TOKEN);
        assert_eq!(token.last_used_at(), Some(micros_after(0)));
        assert_eq!(token.created_at(), Some(micros_after(6)));
        assert_eq!(token.expires_at(), None);
        assert_eq!(world.database.loads(), 0);
    }
}

#[tokio::test]
async fn python_reads_every_field_of_our_entries() {
    for version in Version::ALL {
        let mut row = Row::new("tok-1").of_tenant("t-42");
        row.app_id = Some("app-17".to_owned());
        row.last_used_at = Some(micros_after(0));
        row.created_at = Some(micros_after(6));
        let world = World::with(row);
        found(&world.rust(), TOKEN).await;
        let expected = json!({
            "id": "tok-1",
            "app_id": "app-17",
            "tenant_id": "t-42",
            "type": "app",
            "token": TOKEN,
            "last_used_at": "2026-01-02T03:04:05",
            "created_at": "2026-01-02T03:04:05.000006",
        });
        let seen = world.python(version).get(TOKEN, APP);
        assert_eq!(seen.record, Some(expected));
    }
}

#[tokio::test]
async fn optional_fields_may_be_null_on_both_sides() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let mut python = world.python(version);
        python.set(APP, &record("py-1", TOKEN));
        let rust = world.rust();
        let token = found_shared(&rust, TOKEN).await;
        assert_eq!((token.app_id(), token.tenant_id()), (None, None));
        assert_eq!((token.last_used_at(), token.created_at()), (None, None));
        python.delete(TOKEN, "app");
        found(&rust, TOKEN).await;
        let seen = python.get(TOKEN, APP).record;
        assert_eq!(seen, Some(record("tok-1", TOKEN)));
    }
}

#[tokio::test]
async fn entries_of_the_other_side_need_no_load() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        found(&rust, TOKEN).await;
        assert_eq!(python.fetch_cached(TOKEN, APP)["id"], "tok-1");
        rust.invalidate(TOKEN).await.unwrap();
        python.fetch_loaded(TOKEN, APP, &record("py-1", TOKEN));
        assert_eq!(found_shared(&rust, TOKEN).await.id(), "py-1");
        assert_eq!(world.database.loads(), 1);
    }
}

#[tokio::test]
async fn text_outside_of_ascii_works_in_both_directions() {
    let strange = "Büro \"№ 5\" \\ 日本語 \u{1f980}\u{7}";
    for version in Version::ALL {
        let mut row = Row::new(strange).of_tenant("t-é/日本");
        row.app_id = Some(strange.to_owned());
        let world = World::with(row);
        let (rust, mut python) = (world.rust(), world.python(version));
        let mut written = record_of(strange, TOKEN, "t-é/日本");
        written["app_id"] = strange.into();
        python.set(APP, &written);
        let raw = world.text(ENTRY).unwrap();
        let escaped = raw.contains("\\u65e5\\u672c") && raw.contains("\\ud83e\\udd80");
        let utf8 = raw.contains("日本語 \u{1f980}");
        assert_eq!(escaped, version != Version::Current, "{raw}");
        assert_eq!(utf8, version == Version::Current, "{raw}");
        let token = found_shared(&rust, TOKEN).await;
        assert_eq!((token.id(), token.app_id()), (strange, Some(strange)));
        assert_eq!(token.tenant_id(), Some("t-é/日本"));
        python.delete(TOKEN, "app");
        found(&rust, TOKEN).await;
        assert_eq!(python.get(TOKEN, APP).record, Some(written));
    }
}

#[tokio::test]
async fn missing_type_is_the_word_any_in_both_directions() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        python.set(None, &record("py-1", TOKEN));
        let answer = rust.authenticate(TOKEN).await.unwrap();
        assert_eq!(answer.valid().unwrap().id(), "py-1");
        rust.invalidate(TOKEN).await.unwrap();
        assert_eq!(python.get(TOKEN, None).why, "missing");
        rust.authenticate(TOKEN).await.unwrap();
        assert_eq!(python.fetch_cached(TOKEN, None)["id"], "tok-1");
        assert_eq!(python.get(TOKEN, APP).why, "missing");
        assert_eq!(
            world.redis.keys("api_token:*"),
            [format!("api_token:any:{TOKEN}")]
        );
    }
}

#[tokio::test]
async fn entry_of_another_type_than_its_key_is_ignored_and_kept() {
    let world = World::with(Row::new("tok-1"));
    let mut python = world.python(Version::Current);
    // Python queries its database by type, so it never writes such an entry.
    python.set(Some("dataset"), &record("py-1", TOKEN));
    let answer = world
        .rust()
        .authenticate_typed(TOKEN, "dataset")
        .await
        .unwrap();
    assert!(matches!(answer, Answer::Invalid(_)));
    assert_eq!(python.get(TOKEN, Some("dataset")).why, "record");
}

#[tokio::test]
async fn entries_have_the_same_ttl_on_both_sides() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1").of_tenant("t-1"));
        let mut python = world.python(version);
        let left = |name: &str| world.redis.command(&["TTL", name]).int();
        python.set(APP, &record_of("py-1", "pythons-token", "t-1"));
        python.set_null("a-null", APP);
        // A second may have passed, and our TTL may be randomly reduced by a tenth.
        assert!((590..=600).contains(&left("api_token:app:pythons-token")));
        assert!((50..=60).contains(&left("api_token:app:a-null")));
        let rust = world.rust();
        found(&rust, TOKEN).await;
        assert!((530..=600).contains(&left(ENTRY)));
        assert!((650..=660).contains(&left("tenant_tokens:t-1")));
    }
}

#[tokio::test]
async fn our_own_members_are_ignored_by_python() {
    for version in Version::ALL {
        let mut row = Row::new("tok-1").of_tenant("t-1");
        row.expires_at = Some(chrono::Utc::now() + std::time::Duration::from_secs(3600));
        let world = World::with(row.clone());
        let (rust, mut python) = (world.rust(), world.python(version));
        found(&rust, TOKEN).await;
        let raw = world.text(ENTRY).unwrap();
        assert!(raw.contains("\"~expires_at\":\"20") && raw.contains("\"~generation\":\""));
        let seen = python.fetch_cached(TOKEN, APP);
        assert_eq!(seen, record_of("tok-1", TOKEN, "t-1"));
        assert!(found_shared(&rust, TOKEN).await.expires_at().is_some());
    }
}

/// Returns a cache with metadata and the same Redis.
fn with_metadata<M>(world: &World, metadata: M) -> ApiTokenCache<M>
where
    M: Clone + serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let loader = move |_: Lookup| {
        let record = TokenRecord::new("tok-1")
            .token_type("app")
            .metadata(metadata.clone());
        async move { Ok::<_, std::io::Error>(Some(record)) }
    };
    ApiTokenCache::builder(loader)
        .store(
            fleet::interop::database::patient(&world.redis)
                .key_layout(tower_api_token::store::KeyLayout::dify()),
        )
        .token_types(["app"])
        .local_capacity(0)
        .build()
        .unwrap()
}

#[tokio::test]
async fn optional_metadata_works_with_pythons_entries() {
    let world = World::new();
    let mut python = world.python(Version::Current);
    let rust = with_metadata(&world, Some("pro".to_owned()));
    python.set(APP, &record("py-1", TOKEN));
    let token = rust.authenticate_typed(TOKEN, "app").await.unwrap();
    assert_eq!(*token.valid().unwrap().metadata(), None);
    python.delete(TOKEN, "app");
    let token = rust.authenticate_typed(TOKEN, "app").await.unwrap();
    assert_eq!(token.valid().unwrap().metadata().as_deref(), Some("pro"));
    assert_eq!(python.fetch_cached(TOKEN, APP)["id"], "tok-1");
    let token = rust.authenticate_typed(TOKEN, "app").await.unwrap();
    assert_eq!(token.valid().unwrap().metadata().as_deref(), Some("pro"));
}

#[tokio::test]
async fn required_metadata_makes_pythons_entry_a_miss() {
    let world = World::new();
    let mut python = world.python(Version::Current);
    let rust = with_metadata(&world, "pro".to_owned());
    python.set(APP, &record("py-1", TOKEN));
    let token = rust.authenticate_typed(TOKEN, "app").await.unwrap();
    let token = token.valid().unwrap();
    assert_eq!((token.id(), token.origin()), ("tok-1", Origin::Loaded));
    assert_eq!(python.fetch_cached(TOKEN, APP)["id"], "tok-1");
}
