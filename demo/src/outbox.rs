//! The outbox: makes "commit, then invalidate" survive a crash in between and an outage of Redis.
//!
//! Every change that affects cached answers writes a row into `pending_invalidations` in its own
//! transaction. The request that made the change tries the invalidation immediately
//! ([`Outbox::confirm`]). A task on every instance ([`Outbox::run`]) repeats the others until they are
//! confirmed.
//!
//! No invalidation is lost: a row is visible only after its commit, so an invalidation that is based on it
//! begins after the commit, as the cache requires. A row is deleted by its id, after such an invalidation
//! was confirmed, and a newer change of the same subject gives the row a new id. Two instances may
//! invalidate the same subject, which costs a command and is harmless.
//!
//! With `KEY_LAYOUT=dify` the cache's keys contain the token's text, which an invalidation needs. It is
//! read from the table of tokens by the digest in the row, so the outbox does not store it.

use std::fmt;
use std::time::Duration;

use tower_api_token::{ApiTokenCache, InvalidateError};

use crate::db::{Database, Pending, Subject};

/// The pause between two reads of the table while invalidations succeed.
const INTERVAL: Duration = Duration::from_secs(1);

/// The maximum pause while invalidations fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How often an unavailable store is probed while invalidations are pending.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How many rows are read at once.
const BATCH: i64 = 100;

/// Performs pending invalidations and deletes them from the table once they are confirmed.
#[derive(Clone, Debug)]
pub struct Outbox {
    database: Database,
    cache: ApiTokenCache,
}

impl Outbox {
    /// Creates an outbox for the database's table and the cache.
    pub fn new(database: Database, cache: ApiTokenCache) -> Self {
        Self { database, cache }
    }

    /// Performs the invalidation of a committed change. With `wait` it returns when no instance can use the
    /// old answer.
    ///
    /// # Errors
    /// Returns an error if the invalidation is not confirmed. The row stays, and the background task
    /// retries.
    pub async fn confirm(&self, pending: &Pending, wait: bool) -> Result<(), InvalidateError> {
        self.invalidate(pending, wait).await?;
        // The invalidation is done even if the row cannot be deleted now. It is then merely repeated.
        if let Err(error) = self.database.delete_pending(pending).await {
            tracing::warn!(%error, "a confirmed invalidation could not be deleted from the outbox and will be repeated");
        }
        Ok(())
    }

    async fn invalidate(&self, pending: &Pending, wait: bool) -> Result<(), InvalidateError> {
        let invalidation = match (&pending.subject, &pending.text) {
            (Subject::Tenant(id), _) => self.cache.invalidate_tenant(id),
            // Works with both layouts.
            (Subject::Token(_), Some(text)) => self.cache.invalidate(text.expose()),
            (Subject::Token(digest), None) => self.cache.invalidate_digest(*digest),
        };
        let result = if wait {
            invalidation.wait_for_all_instances().await
        } else {
            invalidation.await
        };
        if result.as_ref().is_err_and(|error| !error.is_retryable()) {
            // The server does not start with such a database, so a token was added since.
            tracing::error!(
                id = pending.id,
                "KEY_LAYOUT=dify cannot invalidate a token whose text is not in the database: does an \
                 instance with KEY_LAYOUT=digest use the same database?"
            );
        }
        result.map(drop)
    }

    /// Repeats pending invalidations until it is dropped.
    pub async fn run(self) {
        let mut pause = INTERVAL;
        tokio::time::sleep(pause).await;
        loop {
            let round = self.round().await;
            let store_failed = matches!(round, Err(Failed::Store(_)));
            match round {
                Ok(confirmed) => {
                    // Outside of an outage these are rows of requests that still wait for all instances.
                    if confirmed > 0 && pause > INTERVAL {
                        tracing::info!(confirmed, "pending invalidations were confirmed");
                    } else if confirmed > 0 {
                        tracing::debug!(confirmed, "pending invalidations were confirmed");
                    }
                    pause = INTERVAL;
                }
                Err(error) => {
                    // Only the first of consecutive failures is logged.
                    if pause == INTERVAL {
                        tracing::warn!(
                            %error,
                            "pending invalidations cannot be confirmed; retrying"
                        );
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if store_failed {
                let _ = tokio::time::timeout(pause, self.wait_for_store()).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Waits until an unavailable store answers again. From then on it may return what the pending
    /// invalidations are to remove, so they do not wait for the end of a pause. If the store answers at
    /// once, the invalidation failed for another reason, and the usual interval applies.
    async fn wait_for_store(&self) {
        if self.cache.check_store().await.is_ok() {
            return tokio::time::sleep(INTERVAL).await;
        }
        loop {
            tokio::time::sleep(PROBE_INTERVAL).await;
            if self.cache.check_store().await.is_ok() {
                return;
            }
        }
    }

    /// Performs pending invalidations until all are confirmed or one fails: the next would probably fail
    /// too, each after a timeout. A failed one is sorted behind the others, so it cannot block them.
    async fn round(&self) -> Result<usize, Failed> {
        let mut confirmed = 0;
        loop {
            let batch = self.database.pending(BATCH).await?;
            let full = i64::try_from(batch.len()).is_ok_and(|length| length == BATCH);
            for pending in &batch {
                if let Err(error) = self.invalidate(pending, false).await {
                    self.database.count_attempt(&pending.id).await?;
                    return Err(Failed::Store(error));
                }
                self.database.delete_pending(pending).await?;
                confirmed += 1;
            }
            if !full {
                return Ok(confirmed);
            }
        }
    }
}

/// The error that ended a round.
enum Failed {
    Database(sqlx::Error),
    Store(InvalidateError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}
