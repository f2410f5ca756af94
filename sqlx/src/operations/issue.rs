//! New keys.

use chrono::{DateTime, Utc};
use tower_api_token::{BearerToken, TokenDigest};

use crate::audit::{Entry, insert_audit};
use crate::core::Core;
use crate::database::pool::on_pool;
use crate::error::Error;
use crate::key::{COLUMNS, IssuedKey, Key};
use crate::new_key::NewKey;
use crate::outbox::commit::{Actor, Committed};
use crate::outbox::pending::{Pending, insert_pending};

/// Adds a key. It returns the row, so that what is shown is what was stored.
const INSERT: &str = "\
    INSERT INTO ~keys (id, tenant_id, app_id, token_type, name, scopes, metadata, digest, created_at, expires_at, \
        predecessor_id) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING ";

/// A key's row, as it is inserted.
pub(crate) struct NewRow {
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) app_id: Option<String>,
    pub(crate) token_type: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) scopes: String,
    pub(crate) metadata: Option<String>,
    pub(crate) digest: TokenDigest,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) predecessor_id: Option<String>,
}

pub(crate) fn insert_statement(core: &Core) -> String {
    core.sql(&format!("{INSERT}{COLUMNS}"))
}

/// Runs [`INSERT`] for a [`NewRow`] in a transaction of either database, and returns the [`Key`].
macro_rules! insert_key {
    ($core:expr, $transaction:expr, $row:expr) => {{
        let row: &$crate::operations::issue::NewRow = $row;
        sqlx::query_as(&$crate::operations::issue::insert_statement($core))
            .persistent(false)
            .bind(&row.id)
            .bind(&row.tenant)
            .bind(&row.app_id)
            .bind(&row.token_type)
            .bind(&row.name)
            .bind(&row.scopes)
            .bind(&row.metadata)
            .bind(row.digest.as_bytes().as_slice())
            .bind($crate::database::time::Timestamp::from(row.created_at))
            .bind(row.expires_at.map($crate::database::time::Timestamp::from))
            .bind(&row.predecessor_id)
            .fetch_one(&mut *$transaction)
            .await
            .map(|$crate::key::Row(key)| key)
    }};
}
pub(crate) use insert_key;

fn row(core: &Core, key: NewKey, digest: TokenDigest, now: DateTime<Utc>) -> Result<NewRow, Error> {
    let metadata = key.json()?;
    Ok(NewRow {
        id: core.key_id(now)?,
        tenant: key.tenant,
        app_id: key.app_id,
        token_type: key.token_type,
        name: key.name,
        scopes: key.scopes.join(" "),
        metadata,
        digest,
        created_at: now,
        expires_at: key.expires_at,
        predecessor_id: None,
    })
}

/// Creates a key with a text that is random, so that no cache holds an answer to it and nothing has to be invalidated.
pub(crate) async fn issue(
    core: &Core,
    key: NewKey,
    actor: Actor,
) -> Result<Committed<IssuedKey>, Error> {
    let now = core.now();
    key.check(now)?;
    let token = core.generate(key.token_type.as_deref())?;
    let row = row(core, key, token.digest(), now)?;
    core.store_text(&token).await?; // guard: K22
    let key: Key = on_pool!(&core.database, pool => {
        let mut transaction = pool.begin().await?;
        let key = insert_key!(core, transaction, &row)?;
        insert_audit!(core, transaction, entry("issued", &row, &actor))?;
        transaction.commit().await?;
        key
    });
    Ok(Committed {
        value: IssuedKey { key, token },
        pending: Vec::new(),
    })
}

/// Adds a key whose text exists. Somebody may have tried it before, so that "unknown" is cached.
pub(crate) async fn import(
    core: &Core,
    digest: TokenDigest,
    text: Option<&BearerToken>,
    key: NewKey,
    actor: Actor,
) -> Result<Committed<Key>, Error> {
    let now = core.now();
    key.check(now)?;
    let row = row(core, key, digest, now)?;
    if let Some(text) = text {
        core.store_text(text).await?;
    }
    let pending = Pending::of_key(digest, now)?;
    let key: Key = on_pool!(&core.database, pool => {
        let mut transaction = pool.begin().await?;
        let key = insert_key!(core, transaction, &row).map_err(duplicate)?;
        insert_pending!(core, transaction, pending)?;
        insert_audit!(core, transaction, entry("imported", &row, &actor))?;
        transaction.commit().await?;
        key
    });
    Ok(Committed {
        value: key,
        pending: vec![pending],
    })
}

fn entry<'a>(action: &'static str, row: &'a NewRow, actor: &'a Actor) -> Entry<'a> {
    Entry {
        at: row.created_at,
        action,
        key_id: Some(&row.id),
        tenant: Some(&row.tenant),
        actor: actor.as_deref(),
        detail: None,
    }
}

/// The id is random, so a duplicate is one of the digest.
fn duplicate(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::Database(inner) if inner.is_unique_violation() => Error::Duplicate,
        other => Error::Database(other),
    }
}
