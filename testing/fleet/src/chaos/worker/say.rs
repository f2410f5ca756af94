//! Converts an engine's answer to a report.

use tower_api_token::{Answer, InvalidReason, Origin as Came, Unavailable, UnavailableKind};

use crate::chaos::ledger::Version;
use crate::chaos::wire::{Origin, Said, Wrong};

/// Converts `answer` to a request for `token`.
pub(super) fn said(token: &str, answer: Result<Answer<u64>, Unavailable>) -> Said {
    match answer {
        Ok(Answer::Valid(found)) if found.id() == token => {
            let origin = match found.origin() {
                Came::Local => Origin::Local,
                Came::Shared => Origin::Shared,
                _ => Origin::Loaded,
            };
            Said::Found(Version::unpack(*found.metadata()), origin)
        }
        Ok(Answer::Valid(_)) => Said::Wrong(Wrong::OtherToken),
        Ok(Answer::Invalid(InvalidReason::Unknown)) => Said::Absent,
        Ok(Answer::Denied(denial)) if denial.token_id() == token => {
            let packed = denial.reason().parse();
            packed.map_or(Said::Wrong(Wrong::Denial), |packed| {
                Said::Denied(Version::unpack(packed))
            })
        }
        Ok(Answer::Denied(_)) => Said::Wrong(Wrong::OtherToken),
        Ok(_) => Said::Wrong(Wrong::Absence),
        Err(error) => match error.kind() {
            UnavailableKind::LoaderFailed
            | UnavailableKind::LoaderTimedOut
            | UnavailableKind::Overloaded => Said::Unavailable,
            _ => Said::Wrong(Wrong::Unavailable),
        },
    }
}
