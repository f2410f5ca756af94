//! The events that led to a violation, to find its cause.

use std::fmt::{Debug, Write};
use std::time::Duration;

use crate::chaos::clock::{Stamp, millis_after, nanos};
use crate::chaos::instance::Instance;
use crate::chaos::ledger::{History, Ledger, Row};
use crate::chaos::oracle::Violation;
use crate::chaos::wire::{Answered, Said};

/// How long before the request the timeline begins.
const BEFORE: Duration = Duration::from_secs(4);

/// An injected fault.
#[derive(Debug, Clone)]
pub struct Injected {
    /// When it began.
    pub began: Stamp,
    /// When it ended, if it did.
    pub mended: Option<Stamp>,
    /// The name under which it is counted.
    pub kind: &'static str,
    /// Its description.
    pub what: String,
}

/// Formats the events, in milliseconds before and after the request's start.
pub(crate) fn describe(
    ledger: &Ledger,
    faults: &[Injected],
    by: Instance,
    answered: &Answered,
    violation: Violation,
) -> String {
    let Answered {
        token,
        start,
        end,
        said,
    } = *answered;
    let mut events = vec![
        (start, "the request starts".to_owned()),
        (end, format!("it is answered: {said:?}")),
    ];
    if let Some(token) = token {
        let history = ledger.token(token);
        events.extend(story(&format!("token {token}"), history));
        for tenant in tenants(history, said) {
            let history = ledger.tenant(tenant);
            events.extend(story(&format!("tenant {tenant}"), history));
        }
    }
    for fault in faults {
        events.push((fault.began, format!("fault: {}", fault.what)));
        if let Some(mended) = fault.mended {
            events.push((mended, format!("mended: {}", fault.what)));
        }
    }
    events.retain(|(at, _)| (start.saturating_sub(nanos(BEFORE))..=end).contains(at));
    events.sort_by_key(|(at, _)| *at);
    let mut text = format!(
        "{violation}\n  token {token:?}, instance {}, bound {:?}",
        by.id, by.bound
    );
    for (at, what) in events {
        let _ = write!(text, "\n  {:>10.3} ms  {what}", millis_after(start, at));
    }
    text
}

/// Returns the tenants of the token in the version of the answer and in later ones.
fn tenants(history: &History<Row>, said: Said) -> Vec<usize> {
    let from = match said {
        Said::Found(version, _) | Said::Denied(version) => version.token,
        _ => history.newest(),
    };
    let mut tenants: Vec<usize> = history
        .commits()
        .iter()
        .skip(from)
        .filter_map(|commit| match commit.state {
            Row::Good(tenant) => tenant,
            Row::Absent => None,
        })
        .collect();
    tenants.sort_unstable();
    tenants.dedup();
    tenants
}

fn story<S: Copy + Debug>(name: &str, history: &History<S>) -> Vec<(Stamp, String)> {
    let commits = history.commits().iter().enumerate();
    let mut events: Vec<_> = commits
        .map(|(version, commit)| {
            let text = format!("{name}: version {version} is committed, {:?}", commit.state);
            (commit.at, text)
        })
        .collect();
    for (version, confirmed) in history.confirmed() {
        let all = if confirmed.all { "everything, " } else { "" };
        let kind = if confirmed.waited {
            "wait_for_all_instances"
        } else {
            "plain"
        };
        let by = match confirmed.instance {
            Some(instance) => format!("instance {instance}"),
            None => "the operator".to_owned(),
        };
        let what = format!("of {all}version {version}, {kind}, by {by}");
        events.push((
            confirmed.started,
            format!("{name}: invalidation {what} starts"),
        ));
        events.push((
            confirmed.returned,
            format!("{name}: invalidation {what} is Ok"),
        ));
    }
    events
}
