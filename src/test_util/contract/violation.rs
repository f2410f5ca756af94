//! Which rule a service breaks.

use std::error::Error;
use std::fmt;

use crate::error::BoxError;

/// A rule that a service has to keep, so that the crate can keep its promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A change succeeds while the database and the store answer, and a token that was created is valid.
    Succeeds,
    /// A change is invalidated, under the token or tenant that it affects, before it is reported as done.
    InvalidateAfterChange,
    /// A change is committed, and visible to every loader, before it is invalidated.
    CommitBeforeInvalidation,
    /// A change whose invalidation is not confirmed is not reported as done.
    ReportUnconfirmed,
    /// A change that was interrupted between its commit and its invalidation can be repeated, and then invalidates, or
    /// its invalidation is recovered.
    RepeatUntilConfirmed,
    /// The loader reads what was committed before it is called.
    LoadCommittedState,
}

/// A promise that a service breaks, and the rule that would keep it.
#[derive(Debug)]
pub struct Violation {
    rule: Rule,
    change: &'static str,
    found: &'static str,
    source: Option<BoxError>,
}

impl Violation {
    pub(super) fn new(rule: Rule, change: &'static str, found: &'static str) -> Self {
        Self {
            rule,
            change,
            found,
            source: None,
        }
    }

    pub(super) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the rule that is broken.
    pub fn rule(&self) -> Rule {
        self.rule
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            Rule::Succeeds => "a change succeeds while the database and the store answer",
            Rule::InvalidateAfterChange => {
                "invalidate the token, or the tenant, that a change affects, and await it"
            }
            Rule::CommitBeforeInvalidation => "commit first, then invalidate",
            Rule::ReportUnconfirmed => {
                "an error of an invalidation means \"not confirmed\": return it, or repeat until it is `Ok`"
            }
            Rule::RepeatUntilConfirmed => {
                "a repeated change invalidates again, although there is nothing left to commit"
            }
            Rule::LoadCommittedState => {
                "the loader reads the primary, inside no older transaction, and has no cache of its own"
            }
        };
        write!(f, "{}: {}. The rule: {rule}", self.change, self.found)?;
        match &self.source {
            Some(source) => write!(f, ". The cause: {source}"),
            None => Ok(()),
        }
    }
}

impl Error for Violation {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
