//! The protocol as small models, explored by a checker. For developers of the crate; nothing depends on it.
//!
//! A [`Config`] says which parts of the protocol are there, how many instances and operators, which faults, and which
//! [`Rule`]s are taken out. [`check`] explores it breadth first to its end, or to a limit, and either finds nothing or a
//! shortest way to a broken promise. [`catalog`] has the configurations that the tests and `scripts/model` run.
//!
//! # What is promised
//! Every commit raises a version in the database, and an answer carries the versions that it was loaded from. A request
//! notes, when it starts, the versions that completed invalidations included; answered from less, the promise of section 1
//! is broken. Answers of a local level are held to what was complete *and waited for*, all others to what was complete.
//! A few models count loads instead.
//!
//! # What is left out, and why that is sound or not
//! * **Sending and running a command** are one step where only the sender can tell them apart. A command that runs after
//!   its sender gave up is modelled as such; how many there may be at a time is a bound, and the one bound on faults.
//! * **Deletions that run late, expiry, an empty restart, CAD**: all are covered by "any key vanishes at any time". Models
//!   without that fault are said to be without.
//! * **Many requests**: one is watched, while flights start by themselves; `request.rs` says why that is enough.
//! * **Random bits** never repeat here. Real ones do so with probability 2⁻¹²⁸.
//! * **Time** exists only with a local level, in ticks. Poll intervals, deadlines and W are "at any time", so nothing is
//!   shown about their order, which is a matter of liveness and of load, not of safety.
//! * **Operators commit once each**, and at most three act. Not modelled at all: a registry
//!   that is lost while a local entry is usable, Seed's layout, a change of pepper, durable mode and failovers, replicas, the bulkhead and the breaker, caps on nulls, an instance's
//!   own invalidations dropping its local entries, several tokens (but for their reads of T), expiry of the record.

pub mod catalog;
mod config;
mod protocol;
mod rules;
mod search;

pub use self::config::{Clock, Config, Operator, Requests};
pub use self::protocol::{Protocol, State};
pub use self::rules::{Rule, Rules};
pub use self::search::{Counterexample, Limits, Model, Outcome, Step, explore};

/// Explores `config`.
pub fn check(config: Config, limits: Limits) -> Outcome {
    explore(&Protocol { config }, limits)
}
