//! Issuing, importing, reading, revoking and purging keys.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tower_api_token::{BearerToken, TokenDigest, TokenFormat};
use tower_api_token_sqlx::{
    AuditQuery, ChangeError, Error, KeyQuery, KeyStatus, NewKey, UnconfirmedCause,
};

use crate::world::{World, answer, issue};

crate::on_both!(
    key_is_read_as_it_was_issued,
    issued_text_has_the_format_of_its_type,
    text_that_was_tried_before_is_accepted_once_it_is_imported,
    imported_text_cannot_be_imported_again,
    revoked_key_is_returned_as_it_was_issued,
    revoked_key_is_rejected_and_stays_revoked,
    revocation_without_a_cache_is_committed_and_not_confirmed,
    key_whose_metadata_cannot_be_read_is_revoked,
    all_keys_of_a_tenant_are_revoked_at_once,
    every_change_is_in_the_audit_with_its_actor,
    failed_change_leaves_neither_a_pending_invalidation_nor_an_audit_row,
    purge_deletes_what_ended_and_nothing_else,
    purge_goes_on_after_a_full_statement,
    failing_database_is_no_duplicate,
    every_time_in_a_row_can_be_read,
);

async fn key_is_read_as_it_was_issued(world: World) {
    let keys = world.keys().await;
    let end = Utc::now() + TimeDelta::days(90);
    let new = NewKey::new("acme")
        .app_id("chat")
        .token_type("app")
        .name("continuous integration")
        .scopes(["orders:read", "orders:write"])
        .metadata(json!({ "plan": "gold", "rate": 0.1 }))
        .expires_at(end);
    let issued = keys.issue(new).await.unwrap().into_inner();
    let read = keys.get(&issued.key.id).await.unwrap().expect("it exists");
    assert_eq!(read, issued.key);
    assert_eq!(
        keys.find(issued.token.digest()).await.unwrap(),
        Some(read.clone())
    );
    assert_eq!(
        (read.tenant_id.as_str(), read.app_id.as_deref()),
        ("acme", Some("chat"))
    );
    assert_eq!(read.scopes, ["orders:read", "orders:write"]);
    assert_eq!(read.metadata, Some(json!({ "plan": "gold", "rate": 0.1 })));
    assert_eq!(
        read.expires_at.map(|end| end.timestamp_micros()),
        Some(end.timestamp_micros())
    );
    assert_eq!(read.status_at(Utc::now()), KeyStatus::Active);
    assert_eq!(read.status_at(end), KeyStatus::Expired);
    assert!(!format!("{issued:?}").contains(issued.token.expose()));
    assert_eq!(keys.get("key_unknown").await.unwrap(), None);
    assert_eq!(keys.get("\0").await.unwrap(), None);
}

async fn issued_text_has_the_format_of_its_type(world: World) {
    let (plain, special) = (
        TokenFormat::from_static("acme_"),
        TokenFormat::from_static("acme_dataset_"),
    );
    let builder = world.builder().await.format(plain.clone());
    let builder = builder.format_of("dataset", special.clone());
    let keys = builder.id_prefix("tok_").build().await.unwrap();
    let of_type = async |token_type: &str| {
        let new = NewKey::new("acme").token_type(token_type);
        keys.issue(new).await.unwrap().into_inner()
    };
    let (app, dataset) = (of_type("app").await, of_type("dataset").await);
    assert!(plain.matches(app.token.expose()));
    assert!(special.matches(dataset.token.expose()));
    assert!(app.key.id.starts_with("tok_"));
}

async fn text_that_was_tried_before_is_accepted_once_it_is_imported(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let token = BearerToken::new("a-key-from-before-0123456789");
    assert_eq!(answer(&cache, &token).await, "invalid");
    let imported = keys.import(token.digest(), NewKey::new("acme")).await;
    assert_eq!(imported.unwrap().tenant_id, "acme");
    assert_eq!(answer(&cache, &token).await, "valid");
    assert_eq!(keys.pending_count().await.unwrap(), 0);
}

async fn imported_text_cannot_be_imported_again(world: World) {
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    let digest = TokenDigest::of("a-key-from-before-0123456789");
    let first = keys.import(digest, NewKey::new("acme")).await.unwrap();
    keys.revoke(&first.id).await.unwrap();
    let again = keys.import(digest, NewKey::new("globex")).await;
    assert!(matches!(
        again.unwrap_err(),
        ChangeError::Failed(Error::Duplicate)
    ));
}

async fn revoked_key_is_returned_as_it_was_issued(world: World) {
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    let new = NewKey::new("acme").metadata(json!({ "plan": "gold" }));
    let mut issued = keys.issue(new).await.unwrap().key.clone();
    let revoked = keys.revoke(&issued.id).await.unwrap().into_inner();
    issued.revoked_at = revoked.revoked_at;
    assert_eq!(revoked, issued);
}

async fn revoked_key_is_rejected_and_stays_revoked(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    assert_eq!(answer(&cache, &issued.token).await, "valid");

    let revoked = keys.revoke(&issued.key.id).await.unwrap();
    let revoked_at = revoked.revoked_at.expect("it is revoked");
    assert!(revoked.effective_at() >= revoked.confirmed_at());
    assert_eq!(revoked.status_at(Utc::now()), KeyStatus::Revoked);
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
    assert_eq!(keys.pending_count().await.unwrap(), 0);

    let again = keys.revoke(&issued.key.id).wait_for_all_instances().await;
    assert_eq!(again.unwrap().revoked_at, Some(revoked_at));
    let unknown = keys.revoke("key_unknown").await.unwrap_err();
    assert!(matches!(unknown, ChangeError::Failed(Error::UnknownKey)));
}

async fn revocation_without_a_cache_is_committed_and_not_confirmed(world: World) {
    let keys = world.keys().await;
    let issued = issue(&keys).await;
    let error = keys.revoke(&issued.key.id).await.unwrap_err();
    let ChangeError::Unconfirmed(unconfirmed) = error else {
        panic!("{error}");
    };
    assert!(matches!(unconfirmed.cause, UnconfirmedCause::NoCache));
    assert!(unconfirmed.value.revoked_at.is_some());
    assert_eq!(keys.pending_count().await.unwrap(), 1);
    assert!(keys.work_outbox().await.is_err());

    // Another process, which has a cache.
    let builder = world.builder().await.outbox_interval(None);
    let other = builder.build().await.unwrap();
    let _cache = other.cache().build().unwrap();
    assert_eq!(other.work_outbox().await.unwrap(), 1);
    assert_eq!(keys.pending_count().await.unwrap(), 0);
}

async fn key_whose_metadata_cannot_be_read_is_revoked(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    assert_eq!(answer(&cache, &issued.token).await, "valid");
    world.execute("UPDATE ~keys SET metadata = '{'").await;
    assert!(keys.get(&issued.key.id).await.is_err());
    let revoked = keys.revoke(&issued.key.id).await.unwrap();
    assert_eq!(revoked.metadata, None);
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
}

async fn all_keys_of_a_tenant_are_revoked_at_once(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let (one, other) = (issue(&keys).await, issue(&keys).await);
    let foreign = keys.issue(NewKey::new("globex")).await.unwrap();
    for token in [&one.token, &other.token, &foreign.token] {
        assert_eq!(answer(&cache, token).await, "valid");
    }
    keys.revoke(&one.key.id).await.unwrap();
    assert_eq!(*keys.revoke_all("acme").await.unwrap(), 1);
    assert_eq!(*keys.revoke_all("acme").await.unwrap(), 0);
    assert_eq!(answer(&cache, &one.token).await, "invalid");
    assert_eq!(answer(&cache, &other.token).await, "invalid");
    assert_eq!(answer(&cache, &foreign.token).await, "valid");
    let later = issue(&keys).await;
    assert_eq!(answer(&cache, &later.token).await, "valid");
    let unknown = keys.revoke_all("acmee").await.unwrap_err();
    assert!(matches!(unknown, ChangeError::Failed(Error::UnknownTenant)));
}

async fn every_change_is_in_the_audit_with_its_actor(world: World) {
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    let issued = keys.issue(NewKey::new("acme")).by("alice").await.unwrap();
    let id = issued.key.id.as_str();
    let rotated = keys.rotate(id, Duration::from_secs(60)).by("bob").await;
    let successor = rotated.unwrap().successor.key.id.clone();
    keys.undo_rotation(id).await.unwrap();
    keys.suspend("acme").by("carol").await.unwrap();
    keys.resume("acme").await.unwrap();
    keys.revoke(id).await.unwrap();
    keys.revoke_all("acme").await.unwrap();
    keys.purge(Utc::now()).by("cron").await.unwrap();
    let digest = TokenDigest::of("a-key-from-before-0123456789");
    keys.import(digest, NewKey::new("globex")).await.unwrap();

    let all = keys.audit(AuditQuery::new()).await.unwrap();
    let actions: Vec<_> = all.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "issued",
            "rotated",
            "rotation_undone",
            "suspended",
            "resumed",
            "revoked",
            "all_revoked",
            "purged",
            "imported",
        ]
    );
    let actors: Vec<_> = all.iter().filter_map(|it| it.actor.as_deref()).collect();
    assert_eq!(actors, ["alice", "bob", "carol", "cron"]);
    assert_eq!(all[1].detail.as_deref(), Some(successor.as_str()));

    let of_key = keys.audit(AuditQuery::new().key(id)).await.unwrap();
    assert_eq!(of_key.len(), 4);
    let of_tenant = keys.audit(AuditQuery::new().tenant("acme")).await.unwrap();
    assert_eq!(of_tenant.len(), 7);
    let rest = AuditQuery::new().tenant("acme").after(of_key[2].id);
    let rest = keys.audit(rest.limit(2)).await.unwrap();
    assert_eq!(rest.len(), 2);
    assert_eq!(
        (rest[0].action.as_str(), &rest[0].key_id),
        ("suspended", &None)
    );
}

async fn failed_change_leaves_neither_a_pending_invalidation_nor_an_audit_row(world: World) {
    let keys = world.keys().await;
    let digest = TokenDigest::of("a-key-from-before-0123456789");
    let _ = keys.import(digest, NewKey::new("acme")).await;
    let (pending, audit) = (1, 1);
    let _ = keys.import(digest, NewKey::new("acme")).await.unwrap_err();
    let _ = keys.revoke("key_unknown").await.unwrap_err();
    let _ = keys.suspend("nobody").await.unwrap_err();
    let _ = keys.issue(NewKey::new("\0")).await.unwrap_err();
    let _ = keys.issue(NewKey::new("acme")).by("").await.unwrap_err();
    assert_eq!(keys.pending_count().await.unwrap(), pending);
    let rows = keys.audit(AuditQuery::new()).await.unwrap();
    assert_eq!(rows.len(), audit);
    // Abandoned transactions hold no lock.
    issue(&keys).await;
}

async fn purge_deletes_what_ended_and_nothing_else(world: World) {
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    let (kept, revoked) = (issue(&keys).await.key, issue(&keys).await.key);
    let later = NewKey::new("acme").expires_at(Utc::now() + TimeDelta::hours(1));
    let later = keys.issue(later).await.unwrap().key.clone();
    let expired = issue(&keys).await.key;
    keys.revoke(&revoked.id).await.unwrap();
    let times = match &world {
        World::Sqlite(_) => "1000000",
        World::Postgres(..) => "'2001-01-01'",
    };
    world
        .execute(&format!(
            "UPDATE ~keys SET expires_at = {times} WHERE id = '{}'",
            expired.id
        ))
        .await;

    let long_ago = Utc::now() - TimeDelta::days(365);
    assert_eq!(*keys.purge(long_ago).await.unwrap(), 1);
    assert_eq!(keys.get(&expired.id).await.unwrap(), None);
    // A time in the future deletes no key that is still valid.
    let future = Utc::now() + TimeDelta::days(365);
    assert_eq!(*keys.purge(future).await.unwrap(), 1);
    let left = keys.list(KeyQuery::new()).await.unwrap().keys;
    let left: Vec<_> = left.into_iter().map(|key| key.id).collect();
    assert!(left.contains(&kept.id) && left.contains(&later.id) && left.len() == 2);
}

async fn purge_goes_on_after_a_full_statement(world: World) {
    let keys = world.keys().await;
    // One more than a statement deletes.
    let insert = match &world {
        World::Sqlite(_) => {
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1001) \
             INSERT INTO ~keys (id, tenant_id, digest, created_at, expires_at) \
             SELECT 'key_' || n, 'acme', randomblob(32), 1, 1 FROM n"
        }
        World::Postgres(..) => {
            "INSERT INTO ~keys (id, tenant_id, digest, created_at, expires_at) \
             SELECT 'key_' || n, 'acme', sha256(n::text::bytea), '2001-01-01', '2001-01-01' \
             FROM generate_series(1, 1001) AS n"
        }
    };
    assert_eq!(world.execute(insert).await, 1_001);
    assert_eq!(*keys.purge(Utc::now()).await.unwrap(), 1_001);
}

async fn failing_database_is_no_duplicate(world: World) {
    let keys = world.keys().await;
    world.execute("ALTER TABLE ~keys DROP COLUMN name").await;
    let digest = TokenDigest::of("a-key-from-before-0123456789");
    let error = keys.import(digest, NewKey::new("acme")).await.unwrap_err();
    let failed = matches!(error, ChangeError::Failed(Error::Database(_)));
    assert!(failed, "{error}");
}

/// A row that cannot be read would make every request for the list fail.
async fn every_time_in_a_row_can_be_read(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let values: &[(&str, &str)] = match &world {
        World::Sqlite(_) => &[
            ("9223372036854775807", "valid"),
            ("253402300800000000", "valid"),
            ("-9223372036854775807", "invalid"),
        ],
        World::Postgres(..) => &[
            ("'infinity'", "valid"),
            ("'10000-01-01'", "valid"),
            ("'-infinity'", "invalid"),
            ("'0044-03-15 BC'", "invalid"),
        ],
    };
    for (value, expected) in values {
        let issued = issue(&keys).await;
        let id = &issued.key.id;
        let update = format!(
            "UPDATE ~keys SET created_at = {value}, expires_at = {value}, last_used_at = {value} WHERE id = '{id}'"
        );
        world.execute(&update).await;
        assert_eq!(answer(&cache, &issued.token).await, *expected, "{value}");
        let listed = keys.list(KeyQuery::new().limit(1_000)).await.unwrap();
        let listed = listed.keys.iter().find(|key| key.id == *id).unwrap();
        assert_eq!(listed.expires_at.is_none(), *expected == "valid", "{value}");
        if *expected == "valid" {
            let rotated = keys.rotate(id, Duration::ZERO).await.unwrap();
            assert_eq!(rotated.successor.key.expires_at, None, "{value}");
        }
    }
}
