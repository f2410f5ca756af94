//! Models of the protocol, explored by a checker. For developers of the crate; nothing depends on them.
//!
//! Client tracking has models of its own, [`Tracking`], [`TenantCell`] and [`Cluster`], on the same checker. `tracking/`
//! says what they leave out. The rest of this page is about the others.
//!
//! A [`Config`] says which parts of the protocol are there, how many instances and operators, which faults, and which
//! [`Rule`]s are taken out. [`check`] explores it breadth first, completely or to a limit, and finds either nothing or a
//! shortest path to a broken promise. [`catalog`] has the configurations that the tests and `scripts/model` explore.
//!
//! # What is promised
//! Every commit raises a version in the database, and an answer carries the versions that it was loaded from. When a request
//! starts, it notes the versions of all completed invalidations. An answer from older versions breaks the promise of
//! section 1. Answers of a local level must include only invalidations that also *waited*. A few models count loads instead.
//!
//! # What is left out, and why that is sound or not
//! * **Sending and running a command** are one step where only the sender can tell them apart. Commands that run after
//!   their sender gave up are modelled. Their number at a time is bounded, which is the only bound on faults.
//! * **Deletions that run late, expiry, a restart without data, CAD**: "any key vanishes at any time" covers them all. The
//!   descriptions of models without that fault say so.
//! * **Many requests**: one is observed while calls start by themselves. `request.rs` says why that is enough.
//! * **Random bits** never repeat. Real ones do so with probability 2⁻¹²⁸.
//! * **Time** exists only with a local level, in ticks. Poll intervals, timeouts and W happen "at any time", so the models
//!   show nothing about their order, which matters for liveness and load, not for safety.
//! * **Operators commit once each**, and at most three act.
//! * **Not modelled**: a registry that is lost while a local entry is usable, the Dify layout, a change of pepper,
//!   `wait_for_replicas` and failovers, replicas, the limit on loads, the breaker, the limit on negative writes, the end of
//!   a note with time, several tokens (except their reads of T), expiry of the record.

pub mod catalog;
mod config;
mod protocol;
mod rules;
mod search;
mod spec;
mod tracking;

pub use self::config::{Clock, Config, Operator, Requests};
pub use self::protocol::{Protocol, State};
pub use self::rules::{Rule, Rules};
pub use self::search::{Counterexample, Limits, Model, Outcome, Step, explore};
pub use self::spec::{Spec, check};
pub use self::tracking::{Cluster, TenantCell, Tracking};
