//! The command `check`: what is known of a token, which is read from standard input.

use std::io::{self, Read as _};

use chrono::Utc;
use serde_json::{Value, json};
use tower_api_token::{Answer, BearerToken, InvalidReason};
use tower_api_token_sqlx::{Error, Key, KeyStatus, Subject};

use crate::exit::{Failure, chain};
use crate::output::Output;
use crate::session::Session;
use crate::settings::Settings;
use crate::shape;

/// More bytes than a token has.
const LONGEST: u64 = 64 * 1024;

/// How many rows of the outbox are searched for the key.
const MOST_ROWS: u32 = 10_000;

/// What Redis has of the token.
enum Cached {
    /// This command does not ask Redis.
    NotAsked,
    Nothing,
    Valid,
    /// The answer is a refusal, for this reason.
    Refused(&'static str),
    Failed(String),
}

impl Cached {
    fn text(&self) -> String {
        match self {
            Self::NotAsked => "not asked".to_owned(),
            Self::Nothing => "has no answer to it".to_owned(),
            Self::Valid => "answers that it is valid".to_owned(),
            Self::Refused(reason) => format!("answers that it is {reason}"),
            Self::Failed(error) => format!("did not answer: {error}"),
        }
    }

    fn json(&self) -> Value {
        let (answer, error) = match self {
            Self::NotAsked => return Value::Null,
            Self::Nothing => ("none", None),
            Self::Valid => ("valid", None),
            Self::Refused(reason) => (*reason, None),
            Self::Failed(error) => ("failed", Some(error)),
        };
        json!({ "answer": answer, "error": error })
    }
}

/// `check`
pub(crate) async fn check(out: Output, settings: &Settings) -> Result<(), Failure> {
    let token = read_token()?;
    let session = Session::for_reading(settings).await?;
    let key = session.keys.find(token.digest()).await?;
    let cached = peek(&session, &token).await;
    let pending = match &key {
        Some(key) => is_pending(&session, key).await?,
        None => false,
    };
    let is_malformed = settings.is_format_checked && !settings.format.matches(token.expose());
    let reason = reason(is_malformed, key.as_ref(), &cached);

    let now = Utc::now();
    out.json(|| {
        json!({
            "accepted": reason.is_none(),
            "reason": reason,
            "key": key.as_ref().map(|key| shape::key(key, now)),
            "redis": cached.json(),
            "pending": pending,
        })
    })?;
    match reason {
        None => out.text("accepted")?,
        Some(reason) => out.text(&format!("refused: {reason}"))?,
    }
    for (name, value) in key.iter().flat_map(|key| shape::fields(key, now)) {
        out.text(&format!("{name:<12} {value}"))?;
    }
    out.text(&format!("{:<12} {}", "redis", cached.text()))?;
    if pending {
        out.text(&format!(
            "{:<12} a change of it is committed and not confirmed",
            "outbox"
        ))?;
    }
    match (reason, key) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Failure::Refused),
        (Some(_), None) => Err(Failure::NotFound("no key has this text".to_owned())),
    }
}

/// Returns why a service refuses the token. The database is asked first: what Redis answers differs from it while a change
/// is not confirmed, and after one that was made by hand.
fn reason(is_malformed: bool, key: Option<&Key>, cached: &Cached) -> Option<&'static str> {
    if is_malformed {
        return Some("malformed");
    }
    let Some(key) = key else {
        return Some("unknown");
    };
    match (key.status_at(Utc::now()), cached) {
        (KeyStatus::Active, Cached::Refused(_)) => Some("refused_by_cache"),
        (KeyStatus::Active, _) => None,
        (other, _) => Some(other.as_str()),
    }
}

async fn peek(session: &Session, token: &BearerToken) -> Cached {
    let Some(cache) = &session.cache else {
        return Cached::NotAsked;
    };
    match cache.peek(token.expose()).await {
        Ok(None) => Cached::Nothing,
        Ok(Some(Answer::Valid(_))) => Cached::Valid,
        Ok(Some(Answer::Invalid(InvalidReason::Expired))) => Cached::Refused("expired"),
        Ok(Some(Answer::Invalid(_))) => Cached::Refused("unknown"),
        Ok(Some(_)) => Cached::Refused("denied"),
        Err(error) => Cached::Failed(chain(&error)),
    }
}

async fn is_pending(session: &Session, key: &Key) -> Result<bool, Error> {
    let subjects = [
        Subject::Key(key.digest),
        Subject::Tenant(key.tenant_id.clone()),
    ];
    let rows = session.keys.pending(MOST_ROWS).await?;
    Ok(rows.iter().any(|row| subjects.contains(&row.subject)))
}

/// Reads the token. No error has any of it.
fn read_token() -> Result<BearerToken, Failure> {
    let mut text = String::new();
    let read = io::stdin().take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("standard input: {}", error.kind())))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure::usage(
            "standard input: empty; the token is read from it",
        ));
    }
    if token.contains(char::is_whitespace) {
        return Err(Failure::usage("standard input: more than one token"));
    }
    Ok(BearerToken::new(token))
}
