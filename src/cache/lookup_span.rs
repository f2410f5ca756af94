//! The span of a lookup.

use std::future::Future;

#[cfg(feature = "tracing")]
use tracing::{Instrument as _, Span, field::Empty};

use super::answer::Answer;
use super::error::Unavailable;
use crate::metrics::Origin;
#[cfg(feature = "tracing")]
use crate::metrics::Reason;

/// The span of a lookup that the local level did not answer. A local hit has none. It is a child of the
/// request's own span, if there is one.
pub(crate) struct LookupSpan {
    #[cfg(feature = "tracing")]
    span: Span,
}

#[cfg(feature = "tracing")]
impl LookupSpan {
    pub(crate) fn start(token_type: Option<&str>) -> Self {
        let span = tracing::info_span!(
            target: "tower_api_token",
            "api_token.lookup",
            token_type,
            joined = false,
            outcome = Empty,
            origin = Empty,
            reason = Empty,
        );
        Self { span }
    }

    pub(crate) fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.instrument(self.span.clone())
    }

    /// Records that the lookup shares the load of another, whose span covers the loader.
    pub(crate) fn joined(&self) {
        self.span.record("joined", true);
    }

    pub(crate) fn ends<M>(&self, with: &Result<(Answer<M>, Origin), Unavailable>) {
        let (outcome, origin) = match with {
            Ok((answer, origin)) => (answer.outcome().as_str(), origin.as_str()),
            Err(_) => ("unavailable", "none"),
        };
        self.span.record("outcome", outcome);
        self.span.record("origin", origin);
        match with {
            Ok((Answer::Invalid(why), _)) => {
                self.span.record("reason", Reason::from(*why).as_str());
            }
            Ok(_) => {}
            Err(error) => {
                self.span.record("reason", error.kind().as_str());
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
impl LookupSpan {
    pub(crate) fn start(_: Option<&str>) -> Self {
        Self {}
    }

    pub(crate) fn around<F: Future>(&self, future: F) -> F {
        future
    }

    pub(crate) fn joined(&self) {}
    pub(crate) fn ends<M>(&self, _: &Result<(Answer<M>, Origin), Unavailable>) {}
}
