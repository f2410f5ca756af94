//! Tests of the local level that Redis keeps current by client tracking (docs/internals/tracking.md), on a real
//! Redis.

mod all_tokens;
mod deployments;
mod order;
mod proofs;
mod reads;
mod servers;
mod streams;
mod world;
