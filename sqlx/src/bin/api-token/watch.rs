//! The command `watch`: changes, and invalidations that wait for a confirmation, as they happen.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use clap::ArgMatches;
use serde_json::json;
use tower_api_token_sqlx::{ApiKeys, AuditEntry, AuditQuery, Error, Pending, Subject};

use crate::arguments::Values;
use crate::confirm::interrupted;
use crate::exit::Failure;
use crate::output::{Output, clean};
use crate::session::Session;
use crate::settings::Settings;
use crate::span::{show, time};

/// How many numbers before the last are read again: a transaction may commit after one with a greater number.
const WINDOW: i64 = 100;

/// How many entries are read at once.
const BATCH: u32 = 1_000;

/// The most rows of the outbox that are watched. A confirmation of others is not reported.
const MOST_ROWS: u32 = 1_000;

/// `watch`
pub(crate) async fn watch(
    out: Output,
    settings: &Settings,
    arguments: &ArgMatches,
) -> Result<(), Failure> {
    let session = Session::without_redis(settings).await?;
    let interval = arguments
        .span("interval")
        .unwrap_or_default()
        .max(Duration::from_millis(10));
    let first = match arguments.get_one::<i64>("after") {
        Some(first) => *first,
        None => last_entry(&session.keys).await?,
    };
    let mut watched = Watched {
        out,
        keys: session.keys,
        first,
        last: first,
        seen: BTreeSet::new(),
        waiting: HashMap::new(),
    };
    let end = arguments.span("for").map(|span| Instant::now() + span);
    let rounds = async {
        loop {
            watched.round().await?;
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
            tokio::time::sleep(interval).await;
        }
    };
    tokio::select! {
        result = rounds => result,
        () = interrupted() => Ok(()),
    }
}

struct Watched {
    out: Output,
    keys: ApiKeys,
    /// Entries up to this number are not printed.
    first: i64,
    last: i64,
    /// The numbers of entries within the window that were printed.
    seen: BTreeSet<i64>,
    /// By their subjects: a later change of a subject replaces its row, which confirms nothing.
    waiting: HashMap<String, Waiting>,
}

/// A row of the outbox that was printed.
struct Waiting {
    row: Pending,
    /// The id of its key, unless that was purged.
    key_id: Option<String>,
}

impl Waiting {
    /// Returns the id of the key or the tenant, for people.
    fn text(&self) -> String {
        match (&self.row.subject, &self.key_id) {
            (Subject::Tenant(id), _) => format!("tenant {}", clean(id)),
            (_, Some(id)) => clean(id),
            (Subject::Key(_), None) => "a key that was purged".to_owned(),
            _ => "another subject".to_owned(),
        }
    }
}

impl Watched {
    async fn round(&mut self) -> Result<(), Failure> {
        // Read before the entries and printed after them, so that a change comes before its confirmation.
        let rows = self.keys.pending(MOST_ROWS).await?;
        loop {
            let after = (self.last - WINDOW).max(self.first);
            let entries = self
                .keys
                .audit(AuditQuery::new().after(after).limit(BATCH))
                .await?;
            let is_full = entries.len() == BATCH as usize;
            for entry in entries {
                if self.seen.insert(entry.id) {
                    self.last = self.last.max(entry.id);
                    self.print_entry(&entry)?;
                }
            }
            self.seen = self.seen.split_off(&(self.last - WINDOW));
            if !is_full {
                break;
            }
        }
        self.outbox(rows).await
    }

    async fn outbox(&mut self, rows: Vec<Pending>) -> Result<(), Failure> {
        let is_full = rows.len() == MOST_ROWS as usize;
        let present: Vec<_> = rows.iter().map(|row| name(&row.subject)).collect();
        for row in rows {
            let name = name(&row.subject);
            let is_known = self.waiting.get(&name).is_some_and(|it| it.row == row);
            if !is_known {
                let key_id = self.key_id(&row.subject).await?;
                let waiting = Waiting { row, key_id };
                self.print_waiting("waiting", &waiting)?;
                self.waiting.insert(name, waiting);
            }
        }
        let is_gone = |name: &String| !is_full && !present.contains(name);
        let gone: Vec<_> = self
            .waiting
            .keys()
            .filter(|name| is_gone(name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(waiting) = self.waiting.remove(&name) {
                self.print_waiting("confirmed", &waiting)?;
            }
        }
        Ok(())
    }

    async fn key_id(&self, subject: &Subject) -> Result<Option<String>, Error> {
        let Subject::Key(digest) = subject else {
            return Ok(None);
        };
        let key = self.keys.find(*digest).await?;
        Ok(key.map(|key| key.id))
    }

    fn print_entry(&self, entry: &AuditEntry) -> Result<(), Failure> {
        let texts = [
            ("", &entry.key_id),
            ("of ", &entry.tenant_id),
            ("by ", &entry.actor),
            ("to ", &entry.detail),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(word, text)| Some(format!(" {word}{}", clean(text.as_deref()?))));
        self.out.text(&format!(
            "{} {}{}",
            time(entry.at),
            clean(&entry.action),
            texts.collect::<String>()
        ))?;
        self.out.json(|| {
            json!({
                "event": "change",
                "id": entry.id,
                "at": time(entry.at),
                "action": entry.action,
                "token_id": entry.key_id,
                "tenant_id": entry.tenant_id,
                "actor": entry.actor,
                "detail": entry.detail,
            })
        })?;
        Ok(())
    }

    fn print_waiting(&self, event: &str, waiting: &Waiting) -> Result<(), Failure> {
        let (row, subject) = (&waiting.row, waiting.text());
        let tenant = match &row.subject {
            Subject::Tenant(id) => Some(id),
            _ => None,
        };
        let now = Utc::now();
        let age = (now - row.since).max(TimeDelta::zero());
        let text = if event == "waiting" {
            format!(
                "{} waiting for a confirmation: {subject}, since {}, {} attempts failed",
                time(now),
                show(age),
                row.attempts
            )
        } else {
            format!("{} confirmed: {subject}, within {}", time(now), show(age))
        };
        self.out.text(&text)?;
        self.out.json(|| {
            json!({
                "event": event,
                "at": time(now),
                "token_id": waiting.key_id,
                "tenant_id": tenant,
                "since": time(row.since),
                "attempts": row.attempts,
                "age_ms": age.num_milliseconds(),
            })
        })?;
        Ok(())
    }
}

fn name(subject: &Subject) -> String {
    match subject {
        Subject::Key(digest) => digest.to_string(),
        Subject::Tenant(id) => format!("tenant {id}"),
        _ => String::new(),
    }
}

/// Returns the number of the last entry, in about twice as many steps as it has binary digits.
async fn last_entry(keys: &ApiKeys) -> Result<i64, Error> {
    let first_after = async |number: i64| {
        let entries = keys.audit(AuditQuery::new().after(number).limit(1)).await?;
        Ok::<_, Error>(entries.first().map(|entry| entry.id))
    };
    let (mut last, mut step) = (0, 1_i64);
    while let Some(found) = first_after(last + step - 1).await? {
        last = found;
        step *= 2;
    }
    // The last is less than `step` numbers ahead.
    while step > 1 {
        step /= 2;
        last = first_after(last + step - 1).await?.unwrap_or(last);
    }
    Ok(last)
}
