//! Rotation: a token is replaced by a successor.

use std::time::Duration;

use chrono::DateTime;
use tower_api_token::BearerToken;

use super::pending::{Pending, insert_pending};
use super::tokens::{NewToken, StoredForm, add_token, read_digest};
use super::{Database, Timestamp, on_pool};
use crate::{format, random};

/// A committed rotation.
#[derive(Debug)]
pub struct Rotation {
    /// The new token's row.
    pub successor: NewToken,
    /// The new token's text, to be shown once.
    pub text: BearerToken,
    /// When the old token expires.
    pub old_expires_at: Option<Timestamp>,
    /// When the old token was revoked: now, if there is no overlap.
    pub old_revoked_at: Option<Timestamp>,
    /// The invalidation of the old token, whose former expiry may be cached.
    pub pending: Pending,
}

/// An error of [`Database::rotate_token`].
#[derive(Debug)]
pub enum RotateError {
    /// No token has this id.
    NoSuchToken,
    /// The token is revoked.
    Revoked,
    /// The token has expired.
    Expired,
    /// The token was rotated already, and this is its successor.
    Rotated(String),
    /// The database failed; the rotation may or may not have happened.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for RotateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Claims the old token for this rotation, if it is valid and was not rotated. Of two concurrent
/// rotations, the later one waits for the row (PostgreSQL) or the file (SQLite), and then finds a
/// successor.
const CLAIM: &str = "\
    UPDATE tokens SET successor_id = $2 \
    WHERE id = $1 AND successor_id IS NULL AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3) \
    RETURNING tenant_id, app_id, type, digest, token, expires_at";

const END: &str = "UPDATE tokens SET expires_at = $2, revoked_at = $3 WHERE id = $1";

const WHY_NOT: &str = "SELECT successor_id, revoked_at FROM tokens WHERE id = $1";

/// What [`CLAIM`] returns.
type Old = (
    String,
    Option<String>,
    String,
    String,
    Option<String>,
    Option<Timestamp>,
);

impl Database {
    /// Creates a successor of the same tenant, application and type. The old token expires after
    /// `overlap`; if that is zero, it is revoked. The successor expires when the old token would have: a
    /// rotation changes the secret, not what was granted.
    ///
    /// Only the old token has to be invalidated. The new text is random, so no cache holds an answer to it.
    ///
    /// # Errors
    /// Returns an error if the old token does not exist, is not valid, or has a successor.
    pub async fn rotate_token(
        &self,
        id: &str,
        overlap: Duration,
        form: StoredForm,
    ) -> Result<Rotation, RotateError> {
        let successor_id = random::id("tok").map_err(sqlx::Error::from)?;
        let now = Timestamp::now();
        on_pool!(self, pool => {
            let mut transaction = pool.begin().await?;
            let old: Option<Old> = sqlx::query_as(CLAIM).persistent(false)
                .bind(id)
                .bind(&successor_id)
                .bind(now)
                .fetch_optional(&mut *transaction)
                .await?;
            let Some(old) = old else {
                let state = sqlx::query_as(WHY_NOT).persistent(false).bind(id).fetch_optional(&mut *transaction).await?;
                return Err(why_not(state));
            };
            let rotation = plan(old, successor_id, now, overlap, form)?;
            sqlx::query(END).persistent(false)
                .bind(id)
                .bind(rotation.old_expires_at)
                .bind(rotation.old_revoked_at)
                .execute(&mut *transaction)
                .await?;
            let successor = &rotation.successor;
            add_token!(transaction, successor)?;
            let pending = &rotation.pending;
            insert_pending!(transaction, pending)?;
            transaction.commit().await?;
            Ok(rotation)
        })
    }
}

fn why_not(state: Option<(Option<String>, Option<Timestamp>)>) -> RotateError {
    match state {
        None => RotateError::NoSuchToken,
        // First, because the successor is what the caller needs.
        Some((Some(successor), _)) => RotateError::Rotated(successor),
        Some((None, Some(_))) => RotateError::Revoked,
        Some((None, None)) => RotateError::Expired,
    }
}

fn plan(
    old: Old,
    successor_id: String,
    now: Timestamp,
    overlap: Duration,
    form: StoredForm,
) -> Result<Rotation, sqlx::Error> {
    let (tenant_id, app_id, token_type, digest, old_text, expires_at) = old;
    let expires_at = Timestamp::end(expires_at);
    let token_type = match token_type.as_str() {
        "app" => "app",
        "dataset" => "dataset",
        _ => return Err(sqlx::Error::Decode("tokens.type is unknown".into())),
    };
    let digest = read_digest(&digest)?;
    let text = format::of_type(token_type)
        .generate()
        .map_err(std::io::Error::other)?;
    let (old_expires_at, old_revoked_at) = if overlap.is_zero() {
        (expires_at, Some(now))
    } else {
        let end = Timestamp::from(DateTime::from(now) + overlap);
        // A rotation never extends a token's life.
        (
            Some(expires_at.map_or(end, |earlier| earlier.min(end))),
            None,
        )
    };
    Ok(Rotation {
        successor: NewToken {
            id: successor_id,
            tenant_id,
            app_id,
            token_type,
            digest: text.digest(),
            text: form.text(&text),
            created_at: now,
            expires_at,
        },
        text,
        old_expires_at,
        old_revoked_at,
        pending: Pending::of_token(digest, old_text.map(BearerToken::new))?,
    })
}
