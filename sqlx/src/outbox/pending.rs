//! The outbox table: invalidations that are not confirmed.

use chrono::{DateTime, Utc};
use tower_api_token::TokenDigest;

use crate::core::Core;
use crate::database::pool::on_connection;
use crate::database::time::Timestamp;
use crate::error::Error;
use crate::random;

/// Writes a row in the transaction of the change, so that both are committed or neither.
///
/// If the subject has a row already, the row gets the new id. That keeps the table small during a long
/// outage. The confirmation of the older invalidation deletes by the older id, so it deletes nothing.
// guard: K3
pub(crate) const INSERT: &str = "\
    INSERT INTO ~outbox (id, kind, subject, created_at, attempts) VALUES ($1, $2, $3, $4, 0) \
    ON CONFLICT (kind, subject) DO UPDATE SET id = excluded.id, created_at = excluded.created_at, attempts = 0";

/// The first are those that failed least often, so that one that can never succeed does not delay the others.
// guard: K4
pub(crate) const SELECT: &str = "\
    SELECT id, kind, subject, created_at, attempts FROM ~outbox ORDER BY attempts, created_at LIMIT $1";

/// The subject of an invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// One key, by the digest of its text.
    Key(TokenDigest),
    /// All keys of a tenant.
    Tenant(String),
}

impl Subject {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Tenant(_) => "tenant",
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Key(digest) => digest.to_string(),
            Self::Tenant(id) => id.clone(),
        }
    }

    fn parse(kind: &str, text: String) -> Option<Self> {
        match kind {
            "key" => text.parse().ok().map(Self::Key),
            "tenant" => Some(Self::Tenant(text)),
            _ => None,
        }
    }
}

/// A row of the outbox: a committed change whose invalidation is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// The id of the row.
    pub id: String,
    /// What has to be invalidated.
    pub subject: Subject,
    /// When the change was made.
    pub since: DateTime<Utc>,
    /// How often the background task has failed to invalidate it.
    pub attempts: u64,
}

impl Pending {
    pub(crate) fn new(subject: Subject, now: DateTime<Utc>) -> Result<Self, Error> {
        Ok(Self {
            id: random::id("inv_", now)?,
            subject,
            since: now,
            attempts: 0,
        })
    }

    pub(crate) fn of_key(digest: TokenDigest, now: DateTime<Utc>) -> Result<Self, Error> {
        Self::new(Subject::Key(digest), now)
    }

    pub(crate) fn of_tenant(id: &str, now: DateTime<Utc>) -> Result<Self, Error> {
        Self::new(Subject::Tenant(id.to_owned()), now)
    }
}

/// The first rows of the outbox.
pub(crate) struct Batch {
    pub(crate) pending: Vec<Pending>,
    /// The ids of those that cannot be read.
    pub(crate) unreadable: Vec<String>,
}

impl Core {
    /// Returns pending invalidations.
    pub(crate) async fn pending(&self, limit: u32) -> Result<Batch, sqlx::Error> {
        let select = self.sql(SELECT);
        let rows: Vec<(String, String, String, Timestamp, i64)> = on_connection!(&self.database, connection => sqlx::query_as(&select).persistent(false).bind(i64::from(limit)).fetch_all(connection).await);
        let (mut all, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
        for (id, kind, subject, since, attempts) in rows {
            if let Some(subject) = Subject::parse(&kind, subject) {
                all.push(Pending {
                    id,
                    subject,
                    since: since.into(),
                    attempts: attempts.try_into().unwrap_or(0),
                });
            } else {
                tracing::error!(
                    id,
                    kind,
                    "a pending invalidation cannot be read; its row stays"
                );
                unreadable.push(id);
            }
        }
        Ok(Batch {
            pending: all,
            unreadable,
        })
    }

    pub(crate) async fn pending_count(&self) -> Result<u64, sqlx::Error> {
        let select = self.sql("SELECT count(*) FROM ~outbox");
        let count: i64 = on_connection!(&self.database, connection => sqlx::query_scalar(&select).persistent(false).fetch_one(connection).await);
        Ok(count.try_into().unwrap_or(0))
    }

    /// Deletes confirmed invalidations from the outbox. A newer one of the same subject has another id,
    /// and stays.
    pub(crate) async fn delete_pending(&self, ids: &[&str]) -> Result<(), sqlx::Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let parameters: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
        let delete = format!(
            "DELETE FROM ~outbox WHERE id IN ({})",
            parameters.join(", ")
        );
        let delete = self.sql(&delete);
        on_connection!(&self.database, connection => {
            let mut statement = sqlx::query(&delete).persistent(false);
            for id in ids {
                statement = statement.bind(id);
            }
            statement.execute(connection).await.map(drop)
        });
        Ok(())
    }

    /// Counts a failed attempt.
    pub(crate) async fn count_attempt(&self, id: &str) -> Result<(), sqlx::Error> {
        let update = self.sql("UPDATE ~outbox SET attempts = attempts + 1 WHERE id = $1");
        on_connection!(&self.database, connection => sqlx::query(&update).persistent(false).bind(id).execute(connection).await.map(drop));
        Ok(())
    }
}

/// Runs [`INSERT`] for a [`Pending`] in a transaction of either database.
macro_rules! insert_pending {
    ($core:expr, $transaction:expr, $pending:expr) => {
        sqlx::query(&$core.sql($crate::outbox::pending::INSERT))
            .persistent(false)
            .bind(&$pending.id)
            .bind($pending.subject.kind())
            .bind($pending.subject.text())
            .bind($crate::database::time::Timestamp::from($pending.since))
            .execute(&mut *$transaction)
            .await
    };
}
pub(crate) use insert_pending;
