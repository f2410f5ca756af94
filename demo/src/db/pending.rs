//! The outbox table: pending invalidations.

use std::io;

use tower_api_token::{BearerToken, TokenDigest};

use super::{Database, on_connection};
use crate::random;

/// Writes a row in the transaction of the change, so that both are committed or neither.
///
/// If the subject has a row already, the row gets the new id. That keeps the table small during a long
/// outage. The confirmation of the older invalidation deletes by the older id, so it deletes nothing.
pub(super) const INSERT: &str = "\
    INSERT INTO pending_invalidations (id, kind, subject, created_at, attempts) VALUES ($1, $2, $3, $4, 0) \
    ON CONFLICT (kind, subject) DO UPDATE SET id = excluded.id, created_at = excluded.created_at, attempts = 0";

/// The subject of an invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The invalidation is of one token.
    Token(TokenDigest),
    /// The invalidation is of all tokens of a tenant.
    Tenant(String),
}

impl Subject {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token_digest",
            Self::Tenant(_) => "tenant",
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Token(digest) => digest.to_string(),
            Self::Tenant(id) => id.clone(),
        }
    }

    fn parse(kind: &str, text: String) -> Option<Self> {
        match kind {
            "token_digest" => text.parse().ok().map(Self::Token),
            "tenant" => Some(Self::Tenant(text)),
            _ => None,
        }
    }
}

/// A row of the outbox: a committed change whose invalidation is not confirmed yet.
#[derive(Clone, Debug)]
#[must_use = "caches hold the old answer until the invalidation is confirmed"]
pub struct Pending {
    /// The id of the row.
    pub id: String,
    /// What has to be invalidated.
    pub subject: Subject,
    /// The token's text, if the table of tokens stores it. The outbox does not.
    pub text: Option<BearerToken>,
}

impl Pending {
    pub(super) fn of_token(digest: TokenDigest, text: Option<BearerToken>) -> io::Result<Self> {
        Ok(Self {
            id: random::id("inv")?,
            subject: Subject::Token(digest),
            text,
        })
    }

    pub(super) fn of_tenant(id: &str) -> io::Result<Self> {
        Ok(Self {
            id: random::id("inv")?,
            subject: Subject::Tenant(id.to_owned()),
            text: None,
        })
    }
}

impl Database {
    /// Returns pending invalidations, ordered by the number of failures, so that one that can never
    /// succeed does not delay the others.
    pub async fn pending(&self, limit: i64) -> Result<Vec<Pending>, sqlx::Error> {
        const SELECT: &str = "\
            SELECT pending.id, pending.kind, pending.subject, tokens.token \
            FROM pending_invalidations AS pending LEFT JOIN tokens \
                ON pending.kind = 'token_digest' AND tokens.digest = pending.subject \
            ORDER BY pending.attempts, pending.created_at LIMIT $1";
        let rows: Vec<(String, String, String, Option<String>)> = on_connection!(self, connection => sqlx::query_as(SELECT).persistent(false).bind(limit).fetch_all(connection).await);
        let mut all = Vec::with_capacity(rows.len());
        for (id, kind, subject, text) in rows {
            if let Some(subject) = Subject::parse(&kind, subject) {
                let text = text.map(BearerToken::new);
                all.push(Pending { id, subject, text });
            } else {
                // Counted as a failure, so that it is sorted behind the rows that can be read.
                tracing::error!(
                    id,
                    kind,
                    "a pending invalidation cannot be read; its row stays"
                );
                self.count_attempt(&id).await?;
            }
        }
        Ok(all)
    }

    /// Returns the number of pending invalidations.
    pub async fn pending_count(&self) -> Result<i64, sqlx::Error> {
        const SELECT: &str = "SELECT count(*) FROM pending_invalidations";
        Ok(
            on_connection!(self, connection => sqlx::query_scalar(SELECT).persistent(false).fetch_one(connection).await),
        )
    }

    /// Deletes a confirmed invalidation from the outbox. A newer one of the same subject has another id,
    /// and stays.
    pub async fn delete_pending(&self, pending: &Pending) -> Result<(), sqlx::Error> {
        const DELETE: &str = "DELETE FROM pending_invalidations WHERE id = $1";
        on_connection!(self, connection => sqlx::query(DELETE).persistent(false).bind(&pending.id).execute(connection).await.map(drop));
        Ok(())
    }

    /// Counts a failed attempt.
    pub async fn count_attempt(&self, id: &str) -> Result<(), sqlx::Error> {
        const UPDATE: &str =
            "UPDATE pending_invalidations SET attempts = attempts + 1 WHERE id = $1";
        on_connection!(self, connection => sqlx::query(UPDATE).persistent(false).bind(id).execute(connection).await.map(drop));
        Ok(())
    }
}

/// Binds a [`Pending`] to [`INSERT`] and runs it in a transaction of either database.
macro_rules! insert_pending {
    ($transaction:expr, $pending:expr) => {
        sqlx::query($crate::db::pending::INSERT)
            .persistent(false)
            .bind(&$pending.id)
            .bind($pending.subject.kind())
            .bind($pending.subject.text())
            .bind($crate::db::Timestamp::now())
            .execute(&mut *$transaction)
            .await
    };
}
pub(super) use insert_pending;
