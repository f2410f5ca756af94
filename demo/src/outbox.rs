//! The outbox: what makes "commit, then invalidate" survive a crash in between and an outage of
//! Redis.
//!
//! Every change that caches must hear of writes a row into `pending_invalidations` in its own
//! transaction. The request that made the change tries the invalidation at once
//! ([`Outbox::confirm`]); whatever is left is repeated by a task on every instance
//! ([`Outbox::run`]) until it is confirmed.
//!
//! Why no confirmation is lost: a row becomes visible with the commit, so whoever reads it begins
//! an invalidation after the commit, as the protocol demands; and a row is deleted by its id, only
//! after such an invalidation of that very id was confirmed. A newer change of the same subject
//! gives the row a new id. Two instances may do the same work twice, which costs a command and is
//! otherwise harmless: invalidating is deleting.
//!
//! With `KEY_LAYOUT=seed` the cache's keys contain the token's text, and only whoever has it can
//! invalidate. It is read from the table of tokens, by the digest that the row names, so that the
//! outbox itself holds no text.

use std::fmt;
use std::time::Duration;

use tower_api_token::{ApiTokenCache, InvalidateError};

use crate::db::{Database, Pending, Subject};

/// The pause between two looks at the table while all is well.
const INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause while invalidations fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How often a store that is away is asked whether it is back, while something is owed.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How many rows are taken at once.
const BATCH: i64 = 100;

/// Confirms invalidations and takes them out of the table.
#[derive(Clone, Debug)]
pub struct Outbox {
    database: Database,
    cache: ApiTokenCache,
}

impl Outbox {
    /// An outbox over the database's table and the cache.
    pub fn new(database: Database, cache: ApiTokenCache) -> Self {
        Self { database, cache }
    }

    /// Invalidates what the change owes; with `wait` it returns when no instance can use the old
    /// answer.
    ///
    /// # Errors
    /// Not confirmed. The row stays, and the background task goes on trying.
    pub async fn confirm(&self, pending: &Pending, wait: bool) -> Result<(), InvalidateError> {
        self.invalidate(pending, wait).await?;
        // The invalidation counts, whether or not the row can be deleted now: left over, it is
        // repeated.
        if let Err(error) = self.database.settle(pending).await {
            tracing::warn!(%error, "a confirmed invalidation stays in the outbox and will be repeated");
        }
        Ok(())
    }

    async fn invalidate(&self, pending: &Pending, wait: bool) -> Result<(), InvalidateError> {
        let invalidation = match (&pending.subject, &pending.text) {
            (Subject::Tenant(id), _) => self.cache.invalidate_tenant(id),
            // Good for either layout.
            (Subject::Token(_), Some(text)) => self.cache.invalidate(text.expose()),
            (Subject::Token(digest), None) => self.cache.invalidate_digest(*digest),
        };
        let result = if wait {
            invalidation.wait_for_all_instances().await
        } else {
            invalidation.await
        };
        if result.as_ref().is_err_and(|error| !error.is_retryable()) {
            // The start refuses such a database; somebody wrote to it since then.
            tracing::error!(
                id = pending.id,
                "KEY_LAYOUT=seed cannot invalidate a token whose text the database lacks: is an \
                 instance with KEY_LAYOUT=digest on the same database?"
            );
        }
        result.map(drop)
    }

    /// Repeats what is left in the table, for ever.
    pub async fn run(self) {
        let mut pause = INTERVAL;
        tokio::time::sleep(pause).await;
        loop {
            let round = self.round().await;
            let store_failed = matches!(round, Err(Failed::Store(_)));
            match round {
                Ok(settled) => {
                    // Without an outage it merely overtook a request that waits for all instances.
                    if settled > 0 && pause > INTERVAL {
                        tracing::info!(settled, "pending invalidations were confirmed");
                    } else if settled > 0 {
                        tracing::debug!(settled, "pending invalidations were confirmed");
                    }
                    pause = INTERVAL;
                }
                Err(error) => {
                    // The first of a row of failures is worth a line, the others are the same news.
                    if pause == INTERVAL {
                        tracing::warn!(
                            %error,
                            "pending invalidations cannot be confirmed, trying again"
                        );
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if store_failed {
                let _ = tokio::time::timeout(pause, self.store_returns()).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Until a store that is away answers again: what is owed then is what it may answer wrongly, and does not wait
    /// for the end of a pause. Of a store that answers all the time this says nothing, and there the usual
    /// interval is kept.
    async fn store_returns(&self) {
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

    /// Tries what is owed until all is settled or something fails: then the next will most likely
    /// fail as well, each after a deadline. The one that failed goes behind the others, so it
    /// cannot hold them up.
    async fn round(&self) -> Result<usize, Failed> {
        let mut settled = 0;
        loop {
            let owed = self.database.pending(BATCH).await?;
            let full = i64::try_from(owed.len()).is_ok_and(|length| length == BATCH);
            for pending in &owed {
                if let Err(error) = self.invalidate(pending, false).await {
                    self.database.count_attempt(&pending.id).await?;
                    return Err(Failed::Store(error));
                }
                self.database.settle(pending).await?;
                settled += 1;
            }
            if !full {
                return Ok(settled);
            }
        }
    }
}

/// Why a round ended early.
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
