//! Counters, and the times and gauges that the facade `metrics` gets.
//!
//! The counters are [`Stats`]' own: atomics in stripes, which a local hit adds to at the price of one
//! uncontended addition. The facade has no stripes and looks each counter up by its labels, so a hit
//! does not go through it: what was counted since the last time is handed over by
//! [`publish_metrics`](crate::ApiTokenCache::publish_metrics). Times are recorded immediately, on paths
//! that take microseconds at least. Without the feature `metrics`, no clock is read for them.

mod counters;
mod label;
#[cfg(feature = "metrics")]
mod names;
#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod publish;
mod stats;

pub(crate) use counters::{Counter, Counters};
pub(crate) use label::Reason;
pub use label::{Origin, Outcome};
#[cfg(not(feature = "metrics"))]
pub(crate) use off::*;
#[cfg(feature = "metrics")]
pub(crate) use publish::*;
pub use stats::Stats;
