//! Awaits a change: its commit, and then its confirmation, by this process or by an instance of the service.

use std::future::pending;
use std::io;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tower_api_token_sqlx::{ApiKeys, Change, ChangeError, Subject};

use crate::exit::{Failure, chain};
use crate::output::note;
use crate::session::Session;
use crate::span::{show, time};

/// How often the outbox is read while a change waits for its confirmation.
const POLL: Duration = Duration::from_millis(100);

/// More rows than this are not searched for a change's own: it then counts as not confirmed.
const MOST_ROWS: u32 = 10_000;

/// How to wait for a confirmation.
#[derive(Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) limit: Duration,
    pub(crate) everywhere: bool,
}

/// When a change was confirmed.
pub(crate) struct Confirmation {
    by: &'static str,
    began: DateTime<Utc>,
    at: DateTime<Utc>,
    effective: DateTime<Utc>,
}

/// A change that is committed.
pub(crate) struct Committed<T> {
    pub(crate) value: T,
    began: DateTime<Utc>,
    confirmation: Option<Confirmation>,
    /// Why the first attempt was not confirmed.
    cause: Option<String>,
}

/// Commits a change, and makes one attempt to confirm it.
///
/// It does not wait any longer, so that the caller can print a new text, which is nowhere else.
pub(crate) async fn commit<T: Send + 'static>(change: Change<T>) -> Result<Committed<T>, Failure> {
    let began = Utc::now();
    match change.await {
        Ok(confirmed) => {
            let confirmation = Confirmation {
                by: "command",
                began,
                at: confirmed.confirmed_at(),
                effective: confirmed.effective_at(),
            };
            Ok(Committed {
                began,
                confirmation: Some(confirmation),
                cause: None,
                value: confirmed.into_inner(),
            })
        }
        Err(ChangeError::Failed(error)) => Err(error.into()),
        Err(ChangeError::Unconfirmed(unconfirmed)) => Ok(Committed {
            began,
            confirmation: None,
            cause: Some(chain(&unconfirmed.cause)),
            value: unconfirmed.value,
        }),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

impl<T> Committed<T> {
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmation.is_some()
    }

    /// Waits for the confirmation of these subjects, up to the limit or until the process is interrupted.
    ///
    /// It is confirmed when the outbox has none of them: a row is deleted by its id after an invalidation that began after
    /// the commit, and a later change of the subject replaces the row and is confirmed after it.
    pub(crate) async fn wait(&mut self, session: &Session, wait: Wait, subjects: &[Subject]) {
        if let Some(cause) = &self.cause {
            let limit = TimeDelta::from_std(wait.limit).unwrap_or(TimeDelta::MAX);
            let cause = if session.cache.is_some() {
                cause.as_str()
            } else {
                "without Redis"
            };
            if !wait.limit.is_zero() {
                let limit = show(limit);
                note(&format!(
                    "committed, not confirmed yet ({cause}); waiting for it up to {limit}"
                ));
            }
            let confirmed = tokio::select! {
                biased;
                () = until_confirmed(session, subjects) => true,
                () = tokio::time::sleep(wait.limit) => false,
                () = interrupted() => false,
            };
            if confirmed {
                let at = Utc::now();
                self.confirmation = Some(Confirmation {
                    by: "outbox",
                    began: self.began,
                    at,
                    effective: at + staleness(session.max_staleness),
                });
            }
        }
        let Some(confirmation) = &self.confirmation else {
            return;
        };
        if wait.everywhere {
            let rest = confirmation.effective - Utc::now();
            tokio::select! {
                () = tokio::time::sleep(rest.to_std().unwrap_or_default()) => {}
                () = interrupted() => {}
            }
        }
    }

    /// Returns how it was confirmed as JSON.
    pub(crate) fn json(&self) -> Value {
        match &self.confirmation {
            None => json!({ "confirmed": false }),
            Some(it) => json!({
                "confirmed": true,
                "confirmed_by": it.by,
                "confirmed_at": time(it.at),
                "effective_at": time(it.effective),
                "took_ms": (it.at - it.began).num_milliseconds().max(0),
            }),
        }
    }

    /// Returns how it was confirmed, for people.
    pub(crate) fn text(&self) -> String {
        match &self.confirmation {
            None => "committed, not confirmed yet: caches may answer from before it until an instance of the service confirms it or their entries expire".to_owned(),
            Some(it) => format!(
                "confirmed{} after {}, in force everywhere from {}",
                if it.by == "outbox" { " through the outbox" } else { "" },
                show(it.at - it.began),
                time(it.effective),
            ),
        }
    }

    /// Returns the end of the command.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        match self.confirmation {
            Some(_) => Ok(()),
            None => Err(Failure::Unconfirmed),
        }
    }
}

/// Returns how long an instance may answer from memory, with the margin for clocks of different rates that
/// [`wait_for_all_instances`](tower_api_token::Invalidation::wait_for_all_instances) adds.
fn staleness(bound: Duration) -> Duration {
    bound + (bound / 20).max(Duration::from_millis(50))
}

/// Returns when the outbox has none of the subjects. Errors of the database do not end it: the change is committed.
async fn until_confirmed(session: &Session, subjects: &[Subject]) {
    loop {
        if session.cache.is_some() {
            // As an instance does in the background. Whether it succeeded is seen in the outbox.
            let _ = session.keys.work_outbox().await;
        }
        if is_confirmed(&session.keys, subjects).await {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn is_confirmed(keys: &ApiKeys, subjects: &[Subject]) -> bool {
    match keys.pending(MOST_ROWS).await {
        Ok(rows) if rows.len() < MOST_ROWS as usize => {
            !rows.iter().any(|row| subjects.contains(&row.subject))
        }
        _ => false,
    }
}

/// Returns when the process is to end.
pub(crate) async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let ended = |error: io::Error| note(&format!("signals cannot be received: {error}"));
        let received = signal(SignalKind::terminate())
            .and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
        match received {
            Ok((mut term, mut interrupt)) => {
                tokio::select! { _ = term.recv() => {} _ = interrupt.recv() => {} }
            }
            Err(error) => {
                ended(error);
                pending::<()>().await;
            }
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        pending::<()>().await;
    }
}
