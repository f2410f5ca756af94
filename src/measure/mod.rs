//! What is measured, through the facade `metrics`. Without the feature all of this is nothing, and no
//! clock is read for it.
//!
//! The counters are [`Stats`](crate::Stats)' own: atomics in stripes, which a local hit adds to at the
//! price of one uncontended addition. The facade has no stripes, and a look-up by labels on the way to
//! each counter, so that a hit does not go through it: what was counted since the last time is handed
//! over when somebody asks for it. Times are recorded at once, on ways that take microseconds at least.

#[cfg(feature = "metrics")]
mod names;
#[cfg(feature = "metrics")]
mod on;
#[cfg(feature = "metrics")]
pub(crate) use on::*;

#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(not(feature = "metrics"))]
pub(crate) use off::*;
