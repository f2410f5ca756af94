//! The outbox table: invalidations that are owed.

use std::io;

use tower_api_token::{BearerToken, TokenDigest};

use super::{Database, on_connection};
use crate::random;

/// Writes a row in the transaction of the change that owes the invalidation: both are committed, or
/// neither.
///
/// A row of the same subject that is still there gets the new id. That keeps the table small during
/// a long outage, and whoever confirms the older invalidation deletes by the older id, hence
/// nothing.
pub(super) const INSERT: &str = "\
    INSERT INTO pending_invalidations (id, kind, subject, created_at, attempts) VALUES ($1, $2, $3, $4, 0) \
    ON CONFLICT (kind, subject) DO UPDATE SET id = excluded.id, created_at = excluded.created_at, attempts = 0";

/// What an invalidation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One token.
    Token(TokenDigest),
    /// All tokens of a tenant.
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

/// A committed change whose invalidation is not confirmed yet: a row of the outbox.
#[derive(Clone, Debug)]
#[must_use = "the caches still hold the old answer until the invalidation is confirmed"]
pub struct Pending {
    /// The row's name.
    pub id: String,
    /// What has to be invalidated.
    pub subject: Subject,
    /// The token's text, if the database keeps it: read from the table of tokens, as the outbox
    /// itself holds no text.
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
    /// Owed invalidations, those first that failed least: one that can never succeed does not hold
    /// up the others.
    pub async fn pending(&self, limit: i64) -> Result<Vec<Pending>, sqlx::Error> {
        const SELECT: &str = "\
            SELECT owed.id, owed.kind, owed.subject, tokens.token \
            FROM pending_invalidations AS owed LEFT JOIN tokens \
                ON owed.kind = 'token_digest' AND tokens.digest = owed.subject \
            ORDER BY owed.attempts, owed.created_at LIMIT $1";
        let rows: Vec<(String, String, String, Option<String>)> = on_connection!(self, connection => sqlx::query_as(SELECT).persistent(false).bind(limit).fetch_all(connection).await);
        let mut owed = Vec::with_capacity(rows.len());
        for (id, kind, subject, text) in rows {
            if let Some(subject) = Subject::parse(&kind, subject) {
                let text = text.map(BearerToken::new);
                owed.push(Pending { id, subject, text });
            } else {
                // Counted as a failure, so that it goes behind the rows that can be read.
                tracing::error!(
                    id,
                    kind,
                    "a pending invalidation cannot be read; its row stays"
                );
                self.count_attempt(&id).await?;
            }
        }
        Ok(owed)
    }

    /// How many invalidations are owed.
    pub async fn pending_count(&self) -> Result<i64, sqlx::Error> {
        const SELECT: &str = "SELECT count(*) FROM pending_invalidations";
        Ok(
            on_connection!(self, connection => sqlx::query_scalar(SELECT).persistent(false).fetch_one(connection).await),
        )
    }

    /// Takes a confirmed invalidation out of the outbox; a newer one of the same subject has
    /// another id and stays.
    pub async fn settle(&self, pending: &Pending) -> Result<(), sqlx::Error> {
        const DELETE: &str = "DELETE FROM pending_invalidations WHERE id = $1";
        on_connection!(self, connection => sqlx::query(DELETE).persistent(false).bind(&pending.id).execute(connection).await.map(drop));
        Ok(())
    }

    /// Counts an attempt that failed.
    pub async fn count_attempt(&self, id: &str) -> Result<(), sqlx::Error> {
        const UPDATE: &str =
            "UPDATE pending_invalidations SET attempts = attempts + 1 WHERE id = $1";
        on_connection!(self, connection => sqlx::query(UPDATE).persistent(false).bind(id).execute(connection).await.map(drop));
        Ok(())
    }
}

/// Binds a row's columns to [`INSERT`] and runs it in a transaction of either database.
macro_rules! owe {
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
pub(super) use owe;
