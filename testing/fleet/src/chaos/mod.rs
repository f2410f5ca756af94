//! The chaos run: the promise of `protocol.md` section 1, watched while everything breaks.
//!
//! A driver starts a real Redis and several worker *processes*, each with an engine of its own behind
//! a fault proxy. It is the database, too: it commits changes, invalidates each until that is
//! confirmed, and so knows from when on no request may be answered from before. The workers ask, and
//! report every answer with the times of the request's start and end, by a clock that all processes
//! share. Meanwhile wires are cut, stalled and delayed, Redis is killed, restarted empty, stopped and
//! robbed of keys, its writes are paused, workers are stopped and killed.
//!
//! There are four kinds of runs:
//!
//! | word | what is there | what breaks |
//! |---|---|---|
//! | none | one Redis, one staleness bound | all of the above |
//! | `calm` | the same | nothing |
//! | `bounds` | some workers have a longer bound, of which operators know through the registry alone; each invalidation of the operator's is by a new engine, because one that has seen the longest bound remembers it | all of the above, but the registry is never lost (section 7, item 6): a killed Redis comes back with its data. When a worker with a longer bound dies, its bound is taken out of the registry (`SREM`, wire.md), so that the next one has to enter it anew |
//! | `sentinel` | a master, two replicas and three sentinels, no proxies; invalidations are durable on both replicas (section 7, items 1 and 2) | a sentinel is stopped or killed, a replica is stopped, the master is killed and comes back as a replica, `SENTINEL FAILOVER`; keys, writes, clients and workers as above. No master is frozen |
//!
//! An instance is held to its own bound after a plain invalidation; after one that waited, nothing from
//! before is allowed in any instance.
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
//! cluster (G3, R7), or a registry that is lost (R6). Those are replayed, and modelled. Nor is a scope
//! left undeclared here.

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
