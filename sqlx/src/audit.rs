//! The audit table: who changed what, and when.

use chrono::{DateTime, Utc};

use crate::arguments::{checked_limit, is_id};
use crate::core::Core;
use crate::database::pool::on_connection;
use crate::database::time::Timestamp;
use crate::error::Error;

pub(crate) const INSERT: &str = "\
    INSERT INTO ~audit (at, action, key_id, tenant_id, actor, detail) VALUES ($1, $2, $3, $4, $5, $6)";

/// A change, as [`ApiKeys::audit`](crate::ApiKeys::audit) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// The number of the entry. Later entries have greater numbers, apart from those of concurrent changes.
    pub id: i64,
    /// When it happened, by the clock of the instance that changed it.
    pub at: DateTime<Utc>,
    /// What happened: `issued`, `imported`, `rotated`, `rotation_undone`, `revoked`, `all_revoked`, `suspended`,
    /// `resumed`, `purged` or `invalidation_discarded`.
    pub action: String,
    /// The key that was changed, if it was one.
    pub key_id: Option<String>,
    /// The tenant that was changed, or that the key belongs to.
    pub tenant_id: Option<String>,
    /// Who changed it, if [`Change::by`](crate::Change::by) said so.
    pub actor: Option<String>,
    /// The successor of a rotation, a number of keys, or the subject of an invalidation.
    pub detail: Option<String>,
}

/// Which entries of the audit table to return. They are ordered by their numbers.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct AuditQuery {
    key_id: Option<String>,
    tenant: Option<String>,
    after: i64,
    limit: Option<u32>,
}

impl AuditQuery {
    /// Selects the first 100 entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects entries of this key.
    pub fn key(mut self, id: impl Into<String>) -> Self {
        self.key_id = Some(id.into());
        self
    }

    /// Selects entries of this tenant and its keys.
    pub fn tenant(mut self, id: impl Into<String>) -> Self {
        self.tenant = Some(id.into());
        self
    }

    /// Selects entries whose number is greater.
    pub fn after(mut self, id: i64) -> Self {
        self.after = id;
        self
    }

    /// Sets the maximum number of entries, from 1 to 1,000. Defaults to 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }
}

type Columns = (
    i64,
    Timestamp,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

impl Core {
    pub(crate) async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditEntry>, Error> {
        let limit = checked_limit(query.limit)?;
        let mut texts = Vec::new();
        let mut conditions = String::new();
        for (column, text) in [("key_id", query.key_id), ("tenant_id", query.tenant)] {
            let Some(text) = text else { continue };
            if !is_id(&text) {
                return Ok(Vec::new());
            }
            texts.push(text);
            conditions += &format!(" AND {column} = ${}", texts.len() + 2);
        }
        let select = format!(
            "SELECT id, at, action, key_id, tenant_id, actor, detail FROM ~audit WHERE id > $1{conditions} ORDER BY id LIMIT $2"
        );
        let select = self.sql(&select);
        let rows: Vec<Columns> = on_connection!(&self.database, connection => {
            let mut statement = sqlx::query_as(&select).persistent(false).bind(query.after).bind(i64::from(limit));
            for text in &texts {
                statement = statement.bind(text);
            }
            statement.fetch_all(connection).await
        });
        let entry = |(id, at, action, key_id, tenant_id, actor, detail): Columns| AuditEntry {
            id,
            at: at.into(),
            action,
            key_id,
            tenant_id,
            actor,
            detail,
        };
        Ok(rows.into_iter().map(entry).collect())
    }
}

/// What a change writes into the table.
pub(crate) struct Entry<'a> {
    pub(crate) at: DateTime<Utc>,
    pub(crate) action: &'static str,
    pub(crate) key_id: Option<&'a str>,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) actor: Option<&'a str>,
    pub(crate) detail: Option<&'a str>,
}

/// Runs [`INSERT`] for an [`Entry`] in a transaction of either database.
macro_rules! insert_audit {
    ($core:expr, $transaction:expr, $entry:expr) => {{
        let entry = $entry;
        sqlx::query(&$core.sql($crate::audit::INSERT))
            .persistent(false)
            .bind($crate::database::time::Timestamp::from(entry.at))
            .bind(entry.action)
            .bind(entry.key_id)
            .bind(entry.tenant)
            .bind(entry.actor)
            .bind(entry.detail)
            .execute(&mut *$transaction)
            .await
    }};
}
pub(crate) use insert_audit;
