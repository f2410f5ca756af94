//! The soak: the demo server for an hour, with PostgreSQL, Redis, load, revocations and rotations, and a restart of each.
//!
//! Two instances of the demo share the load, which is 60 % of the highest rate that they reached before. Requests have
//! fixed times, and a latency counts from the time at which a request was due. An operator revokes and rotates keys at one
//! instance and waits until the other rejects them. Redis loses its data, PostgreSQL stops and starts, and the second
//! instance is restarted; the first one runs until the end, and its memory is compared.
//!
//! | module | |
//! |---|---|
//! | [`http`] | a blocking connection of a client |
//! | [`histogram`] | latencies |
//! | [`keys`] | the keys that are valid, and those that no instance may accept any longer |
//! | [`parts`] | Redis, PostgreSQL and the demo |
//! | [`load`] | the clients |
//! | [`operator`] | revocations and rotations |
//! | [`figures`] | memory, descriptors and tasks of a process |
//! | [`report`] | the table, and whether it is good |
//! | [`run`] | the course of a run |

pub mod figures;
pub mod histogram;
pub mod http;
pub mod keys;
pub mod load;
pub mod operator;
pub mod parts;
pub mod report;
pub mod run;
