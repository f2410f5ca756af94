//! What is logged. Without the `tracing` feature all of this is nothing.
//!
//! A text of a token is never among the fields, nor is a loader's error at a level above debug: it
//! may quote a query.

use crate::loader::BoxError;

/// Why a sink did not write.
pub(crate) enum UsageFailure {
    Failed(
        #[cfg_attr(
            not(feature = "tracing"),
            expect(dead_code, reason = "for the log alone")
        )]
        BoxError,
    ),
    Panicked,
    TimedOut,
}

#[cfg(feature = "tracing")]
impl UsageFailure {
    fn name(&self) -> &'static str {
        match self {
            Self::Failed(_) => "the usage sink failed",
            Self::Panicked => "the usage sink panicked",
            Self::TimedOut => "the usage sink did not answer in time",
        }
    }
}

#[cfg(feature = "tracing")]
mod on {
    use std::future::Future;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime};

    use tracing::field::Empty;
    use tracing::{Instrument as _, Span};

    use super::UsageFailure;
    use crate::cache::Answer;
    use crate::error::Unavailable;
    use crate::metrics::Origin;
    use crate::metrics::Reason;
    use crate::store::StoreError;

    /// The span of a look-up that no local answer was found for; a local hit has none. A child of the
    /// request's own, if there is one.
    pub(crate) struct LookupSpan(Span);

    impl LookupSpan {
        pub(crate) fn start(scope: &str) -> Self {
            Self(tracing::info_span!(
                target: "tower_api_token",
                "api_token.lookup",
                scope,
                joined = false,
                outcome = Empty,
                origin = Empty,
                reason = Empty,
            ))
        }

        pub(crate) fn around<F: Future>(
            &self,
            future: F,
        ) -> impl Future<Output = F::Output> + use<F> {
            future.instrument(self.0.clone())
        }

        /// It shares the flight of another look-up, whose span has the loader's.
        pub(crate) fn joined(&self) {
            self.0.record("joined", true);
        }

        pub(crate) fn ends<M>(&self, with: &Result<(Answer<M>, Origin), Unavailable>) {
            let (outcome, origin) = match with {
                Ok((answer, origin)) => (answer.outcome().as_str(), origin.as_str()),
                Err(_) => ("unavailable", "none"),
            };
            self.0.record("outcome", outcome);
            self.0.record("origin", origin);
            match with {
                Ok((Answer::Absent(why), _)) => {
                    self.0.record("reason", Reason::from(*why).as_str());
                }
                Ok(_) => {}
                Err(error) => {
                    self.0.record("reason", error.kind().as_str());
                }
            }
        }
    }

    /// A task's work, within the span that the task is begun in.
    pub(crate) fn in_span<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
        future.in_current_span()
    }

    /// Under a target of its own, so that it can be switched on alone. The client is told less.
    pub(crate) fn refused(reason: &'static str, scope: &str) {
        tracing::debug!(target: "tower_api_token::refusal", reason, scope, "a request was refused");
    }

    /// At most one line a second for each kind: an outage must not become a flood of logs.
    struct Limit {
        second: AtomicU64,
        dropped: AtomicU64,
    }

    impl Limit {
        const fn new() -> Self {
            Self {
                second: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
            }
        }

        /// How many were left out since the last, if this one may be written.
        fn pass(&self) -> Option<u64> {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.map_or(0, |since| since.as_secs());
            let last = self.second.load(Ordering::Relaxed);
            let first = now != last
                && self
                    .second
                    .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
            if first {
                return Some(self.dropped.swap(0, Ordering::Relaxed));
            }
            self.dropped.fetch_add(1, Ordering::Relaxed);
            None
        }
    }

    /// Every error of the chain, without newlines between them.
    fn chain(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    pub(crate) fn store_failed(error: &StoreError) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::warn!(target: "tower_api_token", error = chain(error), dropped, "the token store failed; answering from the loader, uncached");
        }
    }

    pub(crate) fn not_registered(error: &StoreError) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::warn!(target: "tower_api_token", error = chain(error), dropped, "this instance could not enter its scopes into the token store; what it reads there it does not keep");
        }
    }

    pub(crate) fn load_failed(error: &Unavailable) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::warn!(target: "tower_api_token", error = %error, dropped, "a token could not be loaded; answering unavailable");
            tracing::debug!(target: "tower_api_token", error = chain(error), "the loader's error");
        }
    }

    pub(crate) fn corrupt_entry() {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::warn!(target: "tower_api_token", dropped, "an entry in the token store does not count and is replaced");
        }
    }

    pub(crate) fn unwritable() {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::warn!(target: "tower_api_token", dropped, "a record is too large to be cached, or cannot be written");
        }
    }

    pub(crate) fn staleness_bounds_differ(scope: &str, theirs: Duration, ours: Duration) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::error!(target: "tower_api_token", scope, ?theirs, ?ours, dropped, "an instance keeps another staleness bound; and_wait sleeps for the longest");
        }
    }

    pub(crate) fn unknown_scope(scope: &str) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::error!(target: "tower_api_token", scope, dropped, "a look-up in a scope that is not declared; answering unavailable");
        }
    }

    pub(crate) fn usage_not_stored(error: &StoreError) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::warn!(target: "tower_api_token", error = chain(error), dropped, "last uses could not be put into the token store; they are tried again");
        }
    }

    pub(crate) fn usage_not_written(failure: &UsageFailure) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::warn!(target: "tower_api_token", failure = failure.name(), dropped, "last uses could not be written; they are tried again");
            if let UsageFailure::Failed(error) = failure {
                tracing::debug!(target: "tower_api_token", error = chain(&**error), "the usage sink's error");
            }
        }
    }

    pub(crate) fn too_many_unconfirmed(capacity: usize) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::error!(target: "tower_api_token", capacity, dropped, "too many invalidations are not confirmed; for a time to live nothing is answered from the token store");
        }
    }

    pub(crate) fn invalidation_failed(error: &dyn std::error::Error) {
        static LIMIT: Limit = Limit::new();
        if let Some(dropped) = LIMIT.pass() {
            tracing::error!(target: "tower_api_token", error = chain(error), dropped, "an invalidation was not confirmed; repeat it");
        }
    }
}

#[cfg(feature = "tracing")]
pub(crate) use on::*;

#[cfg(not(feature = "tracing"))]
mod off {
    use std::time::Duration;

    use super::UsageFailure;
    use crate::cache::Answer;
    use crate::error::Unavailable;
    use crate::metrics::Origin;
    use crate::store::StoreError;

    pub(crate) struct LookupSpan;

    impl LookupSpan {
        pub(crate) fn start(_: &str) -> Self {
            Self
        }

        pub(crate) fn around<F>(&self, future: F) -> F {
            future
        }

        pub(crate) fn joined(&self) {}
        pub(crate) fn ends<M>(&self, _: &Result<(Answer<M>, Origin), Unavailable>) {}
    }

    pub(crate) fn in_span<F>(future: F) -> F {
        future
    }

    pub(crate) fn refused(_: &'static str, _: &str) {}
    pub(crate) fn store_failed(_: &StoreError) {}
    pub(crate) fn not_registered(_: &StoreError) {}
    pub(crate) fn load_failed(_: &Unavailable) {}
    pub(crate) fn corrupt_entry() {}
    pub(crate) fn unwritable() {}
    pub(crate) fn staleness_bounds_differ(_: &str, _: Duration, _: Duration) {}
    pub(crate) fn unknown_scope(_: &str) {}
    pub(crate) fn usage_not_stored(_: &StoreError) {}
    pub(crate) fn usage_not_written(_: &UsageFailure) {}
    pub(crate) fn too_many_unconfirmed(_: usize) {}
    pub(crate) fn invalidation_failed(_: &dyn std::error::Error) {}
}

#[cfg(not(feature = "tracing"))]
pub(crate) use off::*;
