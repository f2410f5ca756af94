//! Caches of keys: the loader, metadata and layers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_api_token::store::KeyLayout;
use tower_api_token::{Answer, ApiTokenCache, BearerToken, RedisStore};
use tower_api_token_sqlx::NewKey;

use crate::world::{World, answer, issue};

crate::on_both!(
    record_has_all_that_the_key_has,
    metadata_is_read_as_the_services_type,
    metadata_is_ignored_by_a_cache_without_it,
    every_bound_cache_is_invalidated,
    change_waits_for_all_instances_if_it_is_to,
    text_is_looked_up_for_a_layout_that_needs_it,
);

async fn record_has_all_that_the_key_has(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let new = NewKey::new("acme")
        .app_id("chat")
        .token_type("app")
        .scopes(["a", "b"]);
    let issued = keys.issue(new).await.unwrap().into_inner();
    let answered = cache.authenticate_typed(issued.token.expose(), "app").await;
    let token = answered.unwrap().valid().expect("it is valid");
    assert_eq!(token.id(), issued.key.id);
    assert_eq!(
        (token.tenant_id(), token.app_id(), token.token_type()),
        (Some("acme"), Some("chat"), Some("app"))
    );
    assert!(token.has_scope("a") && token.has_scope("b"));
    assert_eq!(token.created_at(), Some(issued.key.created_at));
    let other = cache
        .authenticate_typed(issued.token.expose(), "dataset")
        .await;
    assert!(matches!(other.unwrap(), Answer::Invalid(_)));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    requests_per_minute: u32,
}

async fn metadata_is_read_as_the_services_type(world: World) {
    let keys = world.keys().await;
    let cache: ApiTokenCache<Option<Plan>> = keys.cache_with_metadata().build().unwrap();
    let plan = Plan {
        requests_per_minute: 60,
    };
    let with = keys
        .issue(NewKey::new("acme").metadata(&plan))
        .await
        .unwrap();
    let without = issue(&keys).await;
    let wrong = keys
        .issue(NewKey::new("acme").metadata("gold"))
        .await
        .unwrap();
    let metadata = async |token: &BearerToken| {
        let answered = cache.authenticate(token.expose()).await;
        answered.map(|it| {
            it.valid()
                .expect("it is valid")
                .metadata()
                .as_ref()
                .map(|it| it.requests_per_minute)
        })
    };
    assert_eq!(metadata(&with.token).await.unwrap(), Some(60));
    assert_eq!(metadata(&without.token).await.unwrap(), None);
    assert!(metadata(&wrong.token).await.is_err());
    let read = keys.get(&with.key.id).await.unwrap().unwrap();
    assert_eq!(read.metadata_as::<Plan>().unwrap(), plan);
}

async fn metadata_is_ignored_by_a_cache_without_it(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let new = NewKey::new("acme").metadata(json!({ "plan": "gold" }));
    let issued = keys.issue(new).await.unwrap();
    assert_eq!(answer(&cache, &issued.token).await, "valid");
}

async fn every_bound_cache_is_invalidated(world: World) {
    let keys = world.keys().await;
    let built = keys.cache().build().unwrap();
    let with_metadata = keys
        .cache_with_metadata::<serde_json::Value>()
        .build()
        .unwrap();
    let own = ApiTokenCache::builder(keys.loader()).build().unwrap();
    keys.bind(&own);
    let issued = issue(&keys).await;
    let answers = async || {
        [
            answer(&built, &issued.token).await,
            answer(&with_metadata, &issued.token).await,
            answer(&own, &issued.token).await,
        ]
    };
    assert_eq!(answers().await, ["valid"; 3]);
    keys.revoke(&issued.key.id).await.unwrap();
    assert_eq!(answers().await, ["invalid"; 3]);
}

async fn change_waits_for_all_instances_if_it_is_to(world: World) {
    let redis = test_support::RedisServer::start();
    let (keys, others) = (world.keys().await, world.keys().await);
    let built = [&keys, &others].map(|keys| {
        let store = RedisStore::new(&redis.url()).unwrap();
        let builder = keys.cache().store(store.client_tracking(false));
        builder.max_staleness(Duration::from_secs(5)).build()
    });
    let [_own, other] = built.map(Result::unwrap);
    let (one, another) = (issue(&keys).await, issue(&keys).await);
    for token in [&one.token, &another.token] {
        assert_eq!(answer(&other, token).await, "valid");
    }
    let revoked = keys.revoke(&one.key.id).await.unwrap();
    assert!(revoked.effective_at() > Utc::now(), "it did not wait");
    assert_eq!(answer(&other, &another.token).await, "valid");
    let revoked = keys.revoke(&another.key.id).wait_for_all_instances();
    revoked.await.unwrap();
    assert_eq!(answer(&other, &another.token).await, "invalid");
}

/// With Dify's layout the keys in Redis hold the text, which the service then keeps in a table of its own.
async fn text_is_looked_up_for_a_layout_that_needs_it(world: World) {
    let redis = test_support::RedisServer::start();
    let text = BearerToken::new("app-0123456789abcdef0123456789");
    let (known, asked) = (text.clone(), std::sync::Arc::new(AtomicU32::new(0)));
    let counted = std::sync::Arc::clone(&asked);
    let builder = world.builder().await.texts(move |digest| {
        counted.fetch_add(1, Ordering::SeqCst);
        let known = (digest == known.digest()).then(|| known.clone());
        async move { Ok(known) }
    });
    let keys = builder.outbox_interval(None).build().await.unwrap();
    let store = RedisStore::new(&redis.url())
        .unwrap()
        .key_layout(KeyLayout::dify());
    let cache = keys
        .cache()
        .token_types(["app"])
        .store(store)
        .build()
        .unwrap();
    let new = NewKey::new("acme").token_type("app");
    let imported = keys.import(text.digest(), new.clone()).await.unwrap();
    let found = async || {
        let answered = cache.authenticate_typed(text.expose(), "app").await;
        answered.unwrap().valid().is_some()
    };
    assert!(found().await);
    keys.revoke(&imported.id).await.unwrap();
    assert!(!found().await);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // A key whose text is unknown cannot be confirmed there.
    let unknown = keys.issue(new).await.unwrap();
    keys.revoke(&unknown.key.id).await.unwrap_err();
}
