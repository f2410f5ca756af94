//! Rotating keys, watching who still uses the predecessor, and undoing it.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tower_api_token::test_util::ManualClock;
use tower_api_token_sqlx::{ChangeError, Error, NewKey};

use crate::world::{World, answer, issue};

const HOUR: Duration = Duration::from_secs(3600);

crate::on_both!(
    rotated_key_is_valid_beside_its_successor_until_the_overlap_ends,
    rotation_without_overlap_revokes_the_key,
    key_is_rotated_once,
    rotation_shows_who_still_uses_the_predecessor,
    rotation_is_undone_within_its_overlap,
    rotation_that_is_over_cannot_be_undone,
    rotation_whose_successor_was_rotated_cannot_be_undone,
);

async fn rotated_key_is_valid_beside_its_successor_until_the_overlap_ends(world: World) {
    let clock = ManualClock::new();
    let builder = world.builder().await.clock(clock.clone());
    let keys = builder.build().await.unwrap();
    let cache = keys.cache().clock(clock.clone()).build().unwrap();
    let end = clock.now() + TimeDelta::hours(2);
    let new = NewKey::new("acme")
        .name("ci")
        .token_type("app")
        .scopes(["a"])
        .metadata(json!([1]))
        .expires_at(end);
    let old = keys.issue(new).await.unwrap().into_inner();
    assert_eq!(answer(&cache, &old.token).await, "valid");

    let rotated = keys.rotate(&old.key.id, HOUR).await.unwrap().into_inner();
    let (new, was) = (&rotated.successor, &rotated.predecessor);
    assert_eq!(new.key.expires_at, old.key.expires_at);
    assert_eq!(new.key.predecessor_id.as_ref(), Some(&old.key.id));
    assert_eq!(was.successor_id.as_ref(), Some(&new.key.id));
    assert_eq!(
        (
            &new.key.name,
            &new.key.token_type,
            &new.key.scopes,
            &new.key.metadata
        ),
        (
            &old.key.name,
            &old.key.token_type,
            &old.key.scopes,
            &old.key.metadata
        )
    );
    assert_eq!(answer(&cache, &old.token).await, "valid");
    assert_eq!(answer(&cache, &new.token).await, "valid");
    clock.advance(HOUR);
    assert_eq!(answer(&cache, &old.token).await, "invalid");
    assert_eq!(answer(&cache, &new.token).await, "valid");
    clock.advance(HOUR);
    assert_eq!(answer(&cache, &new.token).await, "invalid");
}

async fn rotation_without_overlap_revokes_the_key(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let old = issue(&keys).await;
    assert_eq!(answer(&cache, &old.token).await, "valid");
    let rotated = keys.rotate(&old.key.id, Duration::ZERO).await.unwrap();
    assert!(rotated.predecessor.revoked_at.is_some());
    assert_eq!(answer(&cache, &old.token).await, "invalid");
    assert_eq!(answer(&cache, &rotated.successor.token).await, "valid");
    let undone = keys.undo_rotation(&old.key.id).await.unwrap_err();
    assert!(matches!(undone, ChangeError::Failed(Error::Revoked)));
}

async fn key_is_rotated_once(world: World) {
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    let old = issue(&keys).await.key;
    let rotations: Vec<_> = (0..8)
        .map(|_| tokio::spawn(keys.rotate(&old.id, HOUR).into_future()))
        .collect();
    let (mut successors, mut others) = (Vec::new(), Vec::new());
    for rotation in rotations {
        match rotation.await.unwrap() {
            Ok(rotated) => successors.push(rotated.successor.key.id.clone()),
            Err(ChangeError::Failed(Error::AlreadyRotated { successor_id })) => {
                others.push(successor_id);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((successors.len(), others.len()), (1, 7));
    assert!(others.iter().all(|id| *id == successors[0]));

    let revoked = issue(&keys).await.key;
    keys.revoke(&revoked.id).await.unwrap();
    let error = keys.rotate(&revoked.id, HOUR).await.unwrap_err();
    assert!(matches!(error, ChangeError::Failed(Error::Revoked)));
    let error = keys.rotate("key_unknown", HOUR).await.unwrap_err();
    assert!(matches!(error, ChangeError::Failed(Error::UnknownKey)));
}

async fn rotation_shows_who_still_uses_the_predecessor(world: World) {
    let clock = ManualClock::new();
    let builder = world.builder().await.clock(clock.clone());
    let keys = builder.build().await.unwrap();
    let cache = keys.cache().clock(clock.clone()).build().unwrap();
    let old = issue(&keys).await;
    assert_eq!(answer(&cache, &old.token).await, "valid");
    clock.advance(Duration::from_secs(120));
    let rotated = keys.rotate(&old.key.id, HOUR).await.unwrap().into_inner();
    let successor = rotated.successor;

    clock.advance(Duration::from_secs(120));
    assert_eq!(answer(&cache, &successor.token).await, "valid");
    for id in [&old.key.id, &successor.key.id] {
        let rotation = keys.rotation(id).await.unwrap().expect("it was rotated");
        assert_eq!(rotation.predecessor.id, old.key.id);
        assert_eq!(rotation.still_used_at(), None);
        assert!(rotation.predecessor.last_used_at.is_some());
        assert!(rotation.successor.last_used_at.is_some());
    }
    assert_eq!(answer(&cache, &old.token).await, "valid");
    let rotation = keys.rotation(&old.key.id).await.unwrap().unwrap();
    assert_eq!(
        rotation.still_used_at().map(|at| at.timestamp()),
        Some(clock.now().timestamp())
    );
    let mut rotation = rotation;
    rotation.predecessor.last_used_at = rotation.predecessor.rotated_at;
    assert_eq!(rotation.still_used_at(), None, "not after the rotation");
    assert!(
        keys.rotation(&issue(&keys).await.key.id)
            .await
            .unwrap()
            .is_none()
    );
}

async fn rotation_is_undone_within_its_overlap(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let end = Utc::now() + TimeDelta::days(1);
    let new = NewKey::new("acme").expires_at(end);
    let old = keys.issue(new).await.unwrap().into_inner();
    let rotated = keys.rotate(&old.key.id, HOUR).await.unwrap().into_inner();
    let successor = rotated.successor;
    for token in [&old.token, &successor.token] {
        assert_eq!(answer(&cache, token).await, "valid");
    }
    let undone = keys.undo_rotation(&old.key.id).await.unwrap();
    assert_eq!(
        (undone.expires_at, &undone.successor_id, undone.rotated_at),
        (old.key.expires_at, &None, None)
    );
    assert_eq!(answer(&cache, &old.token).await, "valid");
    assert_eq!(answer(&cache, &successor.token).await, "invalid");
    assert_eq!(keys.pending_count().await.unwrap(), 0);
    let again = keys.undo_rotation(&old.key.id).await.unwrap_err();
    assert!(matches!(again, ChangeError::Failed(Error::NotRotated)));
    // It can be rotated once more. The former successor is of no rotation.
    let again = keys.rotate(&old.key.id, HOUR).await.unwrap();
    assert!(keys.rotation(&successor.key.id).await.unwrap().is_none());
    let rotation = keys.rotation(&old.key.id).await.unwrap().unwrap();
    assert_eq!(rotation.successor.id, again.successor.key.id);
}

async fn rotation_that_is_over_cannot_be_undone(world: World) {
    let clock = ManualClock::new();
    let builder = world.builder().await.clock(clock.clone());
    let keys = builder.build().await.unwrap();
    let _cache = keys.cache().clock(clock.clone()).build().unwrap();
    let old = issue(&keys).await.key;
    let rotated = keys.rotate(&old.id, HOUR).await.unwrap().into_inner();
    clock.advance(HOUR);
    let error = keys.undo_rotation(&old.id).await.unwrap_err();
    assert!(matches!(error, ChangeError::Failed(Error::Expired)));
    let successor = keys.get(&rotated.successor.key.id).await.unwrap().unwrap();
    assert_eq!(successor.revoked_at, None);
}

async fn rotation_whose_successor_was_rotated_cannot_be_undone(world: World) {
    let keys = world.keys().await;
    let _cache = keys.cache().build().unwrap();
    let first = issue(&keys).await.key;
    let second = keys.rotate(&first.id, HOUR).await.unwrap().into_inner();
    let second = second.successor.key;
    keys.rotate(&second.id, HOUR).await.unwrap();
    let error = keys.undo_rotation(&first.id).await.unwrap_err();
    assert!(
        matches!(error, ChangeError::Failed(Error::AlreadyRotated { successor_id }) if successor_id == second.id)
    );
    let first = keys.get(&first.id).await.unwrap().unwrap();
    assert_eq!(
        first.successor_id.as_ref(),
        Some(&second.id),
        "it was rolled back"
    );
    // In the other order.
    keys.undo_rotation(&second.id).await.unwrap();
    keys.undo_rotation(&first.id).await.unwrap();
}
