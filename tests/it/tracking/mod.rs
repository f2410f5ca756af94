//! Tests of the local level that Redis keeps current by client tracking (docs/internals/tracking.md), on a real
//! Redis.

mod proofs;
mod reads;
mod streams;
mod world;
