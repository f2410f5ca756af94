//! The work of a call: steps R3 to R6 of protocol.md section 2, with the tenants of section 5.
//!
//! [`read`] reads the entry and decides what follows, [`fill`] loads and fills under a lease or answers
//! uncached, [`validate`] says whether a stored value is valid, and [`generation`] reads generations.

mod answer;
mod fill;
mod generation;
mod load;
mod look;
mod read;
mod state;
mod validate;

pub(super) use look::Looked;
pub(super) use read::run;
pub(super) use state::Step;
