//! The chaos run: the promise of `PROTOCOL.md` section 1, watched while everything breaks.
//!
//! A driver starts a real Redis and several worker *processes*, each with an engine of its own behind
//! a fault proxy. It is the database, too: it commits changes, invalidates each until that is
//! confirmed, and so knows from when on no request may be answered from before. The workers ask, and
//! report every answer with the times of the request's start and end, by a clock that all processes
//! share. Meanwhile wires are cut, stalled and delayed, Redis is killed, restarted empty, stopped and
//! robbed of keys, workers are stopped and killed.
//!
//! | module | |
//! |---|---|
//! | [`ledger`] | every commit and every confirmed invalidation |
//! | [`oracle`] | judges an answer by the ledger; says what is not judged |
//! | [`database`] | what loads ask: slow, and at times wrong |
//! | [`worker`], [`process`], [`wire`] | the processes, and what they and the driver say to each other |
//! | [`driver`] | the run: operator, faults, summary |
//!
//! What it cannot show: rules whose breach needs clocks that drift (L11), a machine that sleeps, a
//! fail-over to a replica, or a cluster (G3). Those are replayed, and modelled. Nor is `durable` asked
//! for here, or a scope left undeclared.

pub mod books;
pub mod clock;
pub mod database;
pub mod driver;
pub mod ledger;
pub mod oracle;
pub mod process;
pub mod settings;
mod timeline;
pub mod wire;
pub mod worker;
