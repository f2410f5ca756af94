//! The chaos run: checks the promise of `protocol.md` section 1 during faults.
//!
//! A driver starts a real Redis and several worker *processes*, each with an engine of its own behind a fault
//! proxy. The driver is also the database: it commits changes, and invalidates each until that is confirmed. So
//! it knows from which time on no request may get an older answer. The workers send requests, and report every
//! answer with the times of its request's start and end, by a clock that all processes share. Meanwhile
//! connections are cut, stalled and delayed, Redis is killed, restarted empty, stopped, deprived of keys and of rights
//! (`ACL SETUSER`), its writes are paused, and workers are stopped and killed. Of two hundred changes one is
//! invalidated as everything.
//!
//! There are these kinds of runs:
//!
//! | word | set-up | faults |
//! |---|---|---|
//! | none | one Redis, one staleness bound | all of the above |
//! | `calm` | the same | nothing |
//! | `bounds` | some workers have a longer bound, of which operators know through the registry alone; each invalidation of the operator's is by a new engine, because one that has seen the longest bound remembers it | all of the above, but the registry is never lost (section 7, item 6): a killed Redis comes back with its data. When a worker with a longer bound dies, its bound is taken out of the registry (`SREM`, wire.md), so that the next one has to enter it anew |
//! | `sentinel` | a master, two replicas and three sentinels, no proxies; invalidations are durable on both replicas (section 7, items 1 and 2) | a sentinel is stopped or killed, a replica is stopped, the master is killed and comes back as a replica, `SENTINEL FAILOVER`; keys, rights, writes, clients and workers as above. No master is frozen |
//! | `cluster` | three masters with a replica each, no proxies; invalidations are durable on the replicas | a replica is stopped, a master is killed and replaced, a master is frozen for less than the time after which it is replaced, `CLUSTER FAILOVER`, a slot with keys moves; keys, rights, writes, clients and workers as above |
//! | `dify` | the layout that is shared with Dify's Python service. Its nodes are in [`crate::interop`]: alone, instances promise what they do in the other layout. Nothing is invalidated by digest | as without a word |
//! | `clocks` | a bound of 2 s, whose margin is a twentieth. One worker's clock is slow by 2.4 %, another's and the operator's fast by 2 % (L11) | the same |
//! | `releases` | one of two workers is of a former commit, whose entries have no generation of all. So nothing is invalidated as everything | the same |
//!
//! After a plain invalidation an instance may answer from before for less than its own bound. After one that
//! waited, no instance may.
//!
//! | module | |
//! |---|---|
//! | [`ledger`] | every commit and every confirmed invalidation |
//! | [`oracle`] | judges an answer by the ledger; documents what is not judged |
//! | [`database`] | the database of the loads, with delays and errors |
//! | [`worker`], [`process`], [`wire`] | the processes, and their protocol with the driver |
//! | [`driver`] | the run: operator, faults, summary |
//!
//! It does not cover a machine that sleeps, a partition that leaves two masters, or a lost registry with two bounds (R6).
//! Those have replays, models, or no promise.

pub mod books;
pub mod clock;
pub mod database;
pub mod driver;
pub mod instance;
pub mod ledger;
pub mod oracle;
pub mod process;
pub mod settings;
mod timeline;
pub mod wire;
pub mod worker;
