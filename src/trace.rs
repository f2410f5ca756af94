//! Logging. Without the feature `tracing`, all of this does nothing.
//!
//! No field holds the text of a token, and a loader's error is logged at the level `debug` alone: it may
//! quote a query.

use std::error::Error;
use std::future::Future;

/// Logs an event: `event!(warn, "target", "message", field = value)`.
macro_rules! event {
    ($level:ident, $target:literal, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "tracing")]
        ::tracing::$level!(target: $target, $($field = $value,)* $message);
        #[cfg(not(feature = "tracing"))]
        let _ = || { $(let _ = &$value;)* };
    }};
}

/// Logs an event at most once per second for each place that logs, so that an outage does not become a
/// flood of logs. The field `dropped` has the number of events that were left out.
macro_rules! limited {
    ($level:ident, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "tracing")]
        {
            static LIMITER: $crate::rate_limiter::RateLimiter =
                $crate::rate_limiter::RateLimiter::new(1);
            if LIMITER.allows($crate::clock::Clock::System.now()) {
                let dropped = LIMITER.take_rejected();
                ::tracing::$level!(target: "tower_api_token", $($field = $value,)* dropped, $message);
            }
        }
        #[cfg(not(feature = "tracing"))]
        let _ = || { $(let _ = &$value;)* };
    }};
}

pub(crate) use {event, limited};

/// Formats an error with its sources, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Runs `future` in the current span, also when it is polled by another task.
#[cfg(feature = "tracing")]
pub(crate) fn in_span<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
    tracing::Instrument::in_current_span(future)
}

/// Returns `future`: without the feature `tracing` there are no spans.
#[cfg(not(feature = "tracing"))]
pub(crate) fn in_span<F: Future>(future: F) -> F {
    future
}
