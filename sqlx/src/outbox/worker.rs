//! The outbox: makes "commit, then invalidate" survive a crash in between and an outage of Redis.
//!
//! Every change that affects cached answers writes a row into the outbox in its own transaction. The change tries the
//! invalidation immediately. A task on every instance repeats the others until they are confirmed.
//!
//! No invalidation is lost: a row is visible only after its commit, so an invalidation that is based on it
//! begins after the commit, as the cache requires. A row is deleted by its id, after such an invalidation
//! was confirmed, and a newer change of the same subject gives the row a new id. Two instances may
//! invalidate the same subject, which costs a command and is harmless.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError};
use tower_api_token::InvalidateErrorKind;

use crate::error::UnconfirmedCause;
use crate::outbox::shared::Shared;

/// The maximum pause while invalidations fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How often an unavailable store is probed while invalidations are pending.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How many rows are read at once.
const BATCH: u32 = 100;

/// Starts the task, if the settings have it and it does not run.
pub(crate) fn start(shared: &Arc<Shared>) {
    if let Some(interval) = shared.interval {
        shared.spawn(run(Arc::clone(shared), interval));
    }
}

/// Starts the task again if its runtime has ended.
pub(crate) fn restart(shared: &Arc<Shared>) {
    if shared.has_lost_its_task() {
        start(shared);
    }
}

/// Ends a round with the task that waits for it.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort(); // guard: K24
    }
}

/// Performs pending invalidations, forever.
async fn run(shared: Arc<Shared>, interval: Duration) {
    let clock = &shared.core.clock;
    let mut pause = interval;
    loop {
        // A task of its own, so that a panic in the service's code ends one round and not all. guard: K6
        let work = Arc::clone(&shared);
        let round = tokio::spawn(async move { round(&work).await });
        let _end = AbortOnDrop(round.abort_handle());
        let round = round
            .await
            .unwrap_or_else(|error| Err(Failed::Panicked(error)));
        let store_failed = matches!(round, Err(Failed::Invalidation(_)));
        match round {
            Ok(confirmed) => {
                // Outside of an outage these are rows of changes that still wait for all instances.
                if confirmed > 0 && pause > interval {
                    tracing::info!(confirmed, "pending invalidations were confirmed");
                } else if confirmed > 0 {
                    tracing::debug!(confirmed, "pending invalidations were confirmed");
                }
                pause = interval;
            }
            Err(error) => {
                // Only the first of consecutive failures is logged.
                if pause == interval {
                    error.log();
                }
                pause = longer(pause, interval);
            }
        }
        if store_failed {
            tokio::select! {
                () = clock.sleep(pause) => {}
                () = wait_for_stores(&shared, interval) => {} // guard: K5
            }
        } else {
            tokio::select! {
                () = clock.sleep(pause) => {}
                () = shared.unconfirmed.notified() => {}
            }
        }
    }
}

/// Returns the pause after one more failure.
fn longer(pause: Duration, interval: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE.max(interval * 2))
}

/// Waits until an unavailable store answers again. From then on it may return what the pending
/// invalidations are to remove, so they do not wait for the end of a pause. If the stores answer at
/// once, the invalidation failed for another reason, and the usual interval applies.
async fn wait_for_stores(shared: &Shared, interval: Duration) {
    let clock = &shared.core.clock;
    if all_answer(shared).await {
        return clock.sleep(interval).await;
    }
    loop {
        clock.sleep(PROBE_INTERVAL).await;
        if all_answer(shared).await {
            return;
        }
    }
}

async fn all_answer(shared: &Shared) -> bool {
    for cache in shared.caches() {
        if cache.check_store().await.is_err() {
            return false;
        }
    }
    true
}

/// Tries each pending invalidation once, and returns the first failure after that: one that can never succeed must not
/// delay the others. It ends earlier if no store answers, because the next would fail too, each after a timeout.
pub(crate) async fn round(shared: &Shared) -> Result<u64, Failed> {
    let core = &shared.core;
    if let Some(cause) = shared.check_stores().await? {
        return Err(Failed::Invalidation(cause)); // guard: K25
    }
    let mut confirmed = 0;
    let (mut failed, mut first) = (HashSet::new(), None);
    loop {
        let batch = core.step(core.pending(BATCH)).await?;
        let (mut batch, unreadable) = (batch.pending, batch.unreadable);
        let is_last = batch.len() + unreadable.len() < BATCH as usize;
        batch.retain(|pending| !failed.contains(&pending.id));
        // Counted as failures, so that they are sorted behind the rows that can be read.
        for id in unreadable {
            if failed.insert(id.clone()) {
                core.step(core.count_attempt(&id)).await?;
            }
        }
        let (mut ids, mut are_away) = (Vec::new(), false);
        for pending in &batch {
            match shared.invalidate(&pending.subject, shared.wait).await {
                Ok(_) => ids.push(pending.id.as_str()),
                // guard: K21
                Err(cause) => {
                    core.step(core.count_attempt(&pending.id)).await?;
                    failed.insert(pending.id.clone());
                    are_away = may_be_away(&cause) && !any_answers(shared).await;
                    first.get_or_insert(cause);
                    if are_away {
                        break;
                    }
                }
            }
        }
        // In one statement. If the process is killed before, they are merely repeated.
        core.step(core.delete_pending(&ids)).await?;
        confirmed += ids.len() as u64;
        // Those that failed are the last ones.
        if are_away || is_last || batch.is_empty() {
            return match first {
                None => Ok(confirmed),
                Some(cause) => Err(Failed::Invalidation(cause)),
            };
        }
    }
}

/// Returns whether the next invalidation would fail too, if no store answers.
fn may_be_away(cause: &UnconfirmedCause) -> bool {
    match cause {
        UnconfirmedCause::NoCache => true,
        UnconfirmedCause::Invalidation(error) => error.kind() == InvalidateErrorKind::NotConfirmed,
        _ => false,
    }
}

async fn any_answers(shared: &Shared) -> bool {
    for cache in shared.caches() {
        if cache.check_store().await.is_ok() {
            return true;
        }
    }
    false
}

/// The error that ended a round.
#[derive(Debug)]
pub(crate) enum Failed {
    Database(sqlx::Error),
    Invalidation(UnconfirmedCause),
    Panicked(JoinError),
}

impl Failed {
    fn log(&self) {
        match self {
            // There may be nothing to confirm.
            Self::Database(error) => {
                tracing::warn!(%error, "the database failed while the outbox was worked; retrying");
            }
            Self::Invalidation(_) | Self::Panicked(_) => {
                tracing::warn!(error = %self, "pending invalidations cannot be confirmed; retrying");
            }
        }
    }
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
            Self::Invalidation(cause) => f.write_str(&cause.chain()),
            // The panic's message may contain what the service's code handled, such as a token.
            Self::Panicked(_) => f.write_str("the service's code panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_eight_seconds_or_two_intervals() {
        for (interval, expected) in [(1, [2, 4, 8, 8]), (5, [10, 10, 10, 10])] {
            let interval = Duration::from_secs(interval);
            let mut pause = interval;
            let pauses = expected.map(|_| {
                pause = longer(pause, interval);
                pause.as_secs()
            });
            assert_eq!(pauses, expected);
        }
    }
}
