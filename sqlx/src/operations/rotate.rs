//! Rotation: a key is replaced by a successor, and both are valid for a while.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::arguments::is_id;
use crate::audit::{Entry, insert_audit};
use crate::core::Core;
use crate::database::pool::on_pool;
use crate::database::time::Timestamp;
use crate::error::Error;
use crate::key::{COLUMNS, IssuedKey, Key, Row};
use crate::operations::issue::{NewRow, insert_key};
use crate::outbox::commit::{Actor, Committed};
use crate::outbox::pending::{Pending, insert_pending};

/// The result of a rotation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rotated {
    /// The key that takes the other's place, with its text.
    pub successor: IssuedKey,
    /// The key that was rotated. It expires at the end of the overlap, or is revoked if there is none.
    pub predecessor: Key,
}

/// A rotation, as [`ApiKeys::rotation`](crate::ApiKeys::rotation) returns it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rotation {
    /// The key that was rotated. It expires at the end of the overlap.
    pub predecessor: Key,
    /// The key that takes its place.
    pub successor: Key,
}

impl Rotation {
    /// Returns when the predecessor was last used after the rotation: somebody still has the old text. Returns `None` if
    /// it was not used since.
    pub fn still_used_at(&self) -> Option<DateTime<Utc>> {
        let (used, rotated) = (self.predecessor.last_used_at?, self.predecessor.rotated_at?);
        Some(used).filter(|used| *used > rotated)
    }
}

/// Claims the key for this rotation, if it is valid and was not rotated. Of two concurrent
/// rotations, the later one waits for the row (PostgreSQL) or the file (SQLite), and then finds a
/// successor.
// guard: K9
const CLAIM: &str = "\
    UPDATE ~keys SET successor_id = $2, rotated_at = $3, unrotated_expires_at = expires_at \
    WHERE id = $1 AND successor_id IS NULL AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3) \
    RETURNING ";

const END: &str = "UPDATE ~keys SET expires_at = $2, revoked_at = $3 WHERE id = $1 RETURNING ";

const WHY_NOT: &str = "SELECT successor_id, revoked_at FROM ~keys WHERE id = $1";

/// Creates a successor of the same tenant, application, type, name, scopes and metadata. The key expires after
/// `overlap`; if that is zero, it is revoked. The successor expires when the key would have: a
/// rotation changes the secret, not what was granted.
///
/// Only the key has to be invalidated. The new text is random, so no cache holds an answer to it.
pub(crate) async fn rotate(
    core: &Core,
    id: &str,
    overlap: Duration,
    actor: Actor,
) -> Result<Committed<Rotated>, Error> {
    if !is_id(id) {
        return Err(Error::UnknownKey);
    }
    // Before the transaction: storing its text takes a connection of its own, and SQLite has one writer. The type
    // of a key does not change.
    let old = crate::operations::list::get(core, id)
        .await?
        .ok_or(Error::UnknownKey)?;
    let token = core.generate(old.token_type.as_deref())?;
    core.store_text(&token).await?;
    let now = core.now();
    let successor_id = core.key_id(now)?;
    let (claim, finish) = (format!("{CLAIM}{COLUMNS}"), format!("{END}{COLUMNS}"));
    let (claim, finish, why_not) = (core.sql(&claim), core.sql(&finish), core.sql(WHY_NOT));
    let (rotated, pending) = on_pool!(&core.database, pool => {
        let mut transaction = pool.begin().await?;
        let old: Option<Row> = sqlx::query_as(&claim).persistent(false)
            .bind(id)
            .bind(&successor_id)
            .bind(Timestamp::from(now))
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(Row(old)) = old else {
            let state = sqlx::query_as(&why_not).persistent(false).bind(id).fetch_optional(&mut *transaction).await?;
            return Err(explain(state));
        };
        let (expires_at, revoked_at) = ends(&old, now, overlap);
        let Row(predecessor) = sqlx::query_as(&finish).persistent(false)
            .bind(id)
            .bind(expires_at.map(Timestamp::from))
            .bind(revoked_at.map(Timestamp::from))
            .fetch_one(&mut *transaction)
            .await?;
        let row = successor_of(&old, successor_id, token.digest(), now);
        let key = insert_key!(core, transaction, &row)?;
        let pending = Pending::of_key(old.digest, now)?;
        insert_pending!(core, transaction, pending)?;
        insert_audit!(core, transaction, Entry {
            at: now,
            action: "rotated",
            key_id: Some(id),
            tenant: Some(&old.tenant_id),
            actor: actor.as_deref(),
            detail: Some(&row.id),
        })?;
        transaction.commit().await?;
        let successor = IssuedKey { key, token };
        (Rotated { successor, predecessor }, pending)
    });
    Ok(Committed {
        value: rotated,
        pending: vec![pending],
    })
}

fn explain(state: Option<(Option<String>, Option<Timestamp>)>) -> Error {
    match state {
        None => Error::UnknownKey,
        // First, because the successor is what the caller needs.
        Some((Some(successor_id), _)) => Error::AlreadyRotated { successor_id },
        Some((None, Some(_))) => Error::Revoked,
        Some((None, None)) => Error::Expired,
    }
}

/// Returns when the rotated key expires and when it was revoked. A rotation never extends a key's life.
fn ends(
    old: &Key,
    now: DateTime<Utc>,
    overlap: Duration,
) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    if overlap.is_zero() {
        return (old.expires_at, Some(now));
    }
    let overlap = chrono::TimeDelta::from_std(overlap).ok();
    let end = overlap.and_then(|overlap| now.checked_add_signed(overlap));
    let earlier = [old.expires_at, end].into_iter().flatten().min();
    (earlier, None)
}

fn successor_of(
    old: &Key,
    id: String,
    digest: tower_api_token::TokenDigest,
    now: DateTime<Utc>,
) -> NewRow {
    NewRow {
        id,
        tenant: old.tenant_id.clone(),
        app_id: old.app_id.clone(),
        token_type: old.token_type.clone(),
        name: old.name.clone(),
        scopes: old.scopes.join(" "),
        metadata: old.metadata.as_ref().map(ToString::to_string),
        digest,
        created_at: now,
        expires_at: old.expires_at,
        predecessor_id: Some(old.id.clone()),
    }
}

/// Gives the rotated key its expiry back, if it is still valid, and locks its row.
const RESTORE: &str = "\
    UPDATE ~keys SET successor_id = NULL, rotated_at = NULL, expires_at = unrotated_expires_at, \
        unrotated_expires_at = NULL \
    WHERE id = $1 AND successor_id = $2 AND rotated_at IS NOT NULL AND revoked_at IS NULL \
        AND (expires_at IS NULL OR expires_at > $3) \
    RETURNING ";

/// Revokes the successor, if it was not rotated itself.
// guard: K10
const RECALL: &str = "\
    UPDATE ~keys SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1 AND successor_id IS NULL RETURNING ";

/// Undoes the rotation of a key: the key keeps its former expiry, and its successor is revoked.
pub(crate) async fn undo(core: &Core, id: &str, actor: Actor) -> Result<Committed<Key>, Error> {
    if !is_id(id) {
        return Err(Error::UnknownKey);
    }
    let key = crate::operations::list::get(core, id)
        .await?
        .ok_or(Error::UnknownKey)?;
    let successor_id = key.successor_id.ok_or(Error::NotRotated)?;
    let now = core.now();
    let (restore, recall) = (format!("{RESTORE}{COLUMNS}"), format!("{RECALL}{COLUMNS}"));
    let (restore, recall, why_not) = (core.sql(&restore), core.sql(&recall), core.sql(WHY_NOT));
    let (key, pending) = on_pool!(&core.database, pool => {
        let mut transaction = pool.begin().await?;
        let restored: Option<Row> = sqlx::query_as(&restore).persistent(false)
            .bind(id)
            .bind(&successor_id)
            .bind(Timestamp::from(now))
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(Row(key)) = restored else {
            let state: Option<(Option<String>, Option<Timestamp>)> =
                sqlx::query_as(&why_not).persistent(false).bind(id).fetch_optional(&mut *transaction).await?;
            return Err(match state {
                None => Error::UnknownKey,
                Some((None, _)) => Error::NotRotated,
                Some((Some(_), Some(_))) => Error::Revoked,
                Some((Some(_), None)) => Error::Expired,
            });
        };
        let recalled: Option<Row> = sqlx::query_as(&recall).persistent(false)
            .bind(&successor_id)
            .bind(Timestamp::from(now))
            .fetch_optional(&mut *transaction)
            .await?;
        let mut pending = Vec::new();
        if let Some(Row(successor)) = recalled {
            pending.push(Pending::of_key(successor.digest, now)?);
        } else {
            let state: Option<(Option<String>, Option<Timestamp>)> =
                sqlx::query_as(&why_not).persistent(false).bind(&successor_id).fetch_optional(&mut *transaction).await?;
            // The transaction is rolled back: somebody may have the successor's successor alone. A successor that
            // was purged is no obstacle.
            if state.is_some() {
                return Err(Error::AlreadyRotated { successor_id });
            }
        }
        pending.push(Pending::of_key(key.digest, now)?);
        for one in &pending {
            insert_pending!(core, transaction, one)?;
        }
        insert_audit!(core, transaction, Entry {
            at: now,
            action: "rotation_undone",
            key_id: Some(id),
            tenant: Some(&key.tenant_id),
            actor: actor.as_deref(),
            detail: Some(&successor_id),
        })?;
        transaction.commit().await?;
        (key, pending)
    });
    Ok(Committed {
        value: key,
        pending,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_never_extends_a_life_and_may_be_as_long_as_one_likes() {
        let now = Utc::now();
        let key = |expires_at| Key {
            expires_at,
            ..key_at(now)
        };
        let (hour, second) = (now + chrono::TimeDelta::hours(1), Duration::from_secs(1));
        assert_eq!(
            ends(&key(Some(hour)), now, Duration::ZERO),
            (Some(hour), Some(now))
        );
        let soon = Some(now + chrono::TimeDelta::seconds(1));
        assert_eq!(ends(&key(Some(hour)), now, second), (soon, None));
        assert_eq!(ends(&key(None), now, second), (soon, None));
        assert_eq!(
            ends(&key(Some(hour)), now, Duration::MAX),
            (Some(hour), None)
        );
        assert_eq!(ends(&key(None), now, Duration::MAX), (None, None));
    }

    fn key_at(now: DateTime<Utc>) -> Key {
        Key {
            id: "key_1".to_owned(),
            tenant_id: "acme".to_owned(),
            tenant_suspended: false,
            app_id: None,
            token_type: None,
            name: None,
            scopes: Vec::new(),
            metadata: None,
            digest: tower_api_token::TokenDigest::of("a key's text"),
            created_at: now,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            successor_id: None,
            predecessor_id: None,
            rotated_at: None,
        }
    }
}
