//! A state of the whole system, small enough to copy.
//!
//! Random bits are small numbers here, 0 for none. Only equality of random bits matters, so a fresh value is one that
//! nothing in the state mentions, and states that differ in the names of such values are renamed to one (`canonical.rs`).
//! Versions count commits; a record carries the versions of what it was loaded from, which is how an answer is judged.

use crate::config::{MAX_INSTANCES, MAX_LATE, MAX_OPERATORS, MAX_REQUESTS};

/// Random bits: a nonce, a generation, or E's contents. 0 is none.
pub(crate) type Bits = u8;

/// Versions of the token and of two tenants: of the database, or required of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Versions {
    pub(crate) token: u8,
    pub(crate) tenant: [u8; 2],
}

/// What a load returns: an answer of any kind, with the versions it was read from. Its tenant follows from the token's
/// version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Record {
    pub(crate) token: u8,
    pub(crate) tenant: u8,
    /// A negative entry in place of a record of another type (only without `OtherTypeIsStored`).
    pub(crate) negative: bool,
}

/// Bytes in K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Value {
    pub(crate) record: Record,
    pub(crate) generation: Bits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Key {
    #[default]
    Empty,
    Lease(Bits),
    Value(Value),
}

/// A command that its sender has given up and that has not run yet. A late CAD, DEL or PEXPIRE is an eviction at worst,
/// and evictions happen anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Late {
    #[default]
    None,
    Acquire(Bits),
    CompareAcquire(Value, Bits),
    Fill(Bits, Value),
    CreateT(u8, Bits),
    CreateE(Bits),
}

/// Where a flight is. Each is a point at which it may be paused for any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum At {
    /// No flight.
    #[default]
    Ground,
    /// Before, or with `sent` after sending, the GET of K.
    Get,
    /// A value with a tenant was found: before the GET of T.
    CheckT,
    /// Before R4, or compare-and-acquire if there is an `old`.
    Acquire,
    /// Before a load.
    Load,
    /// The load's reply is in.
    Loaded,
    /// Before T is read or created for a fill.
    ReadT,
    /// Before the second GET of E.
    ReadE,
    /// Before the CAS.
    Fill,
    /// The load failed; before the CAS that puts a stale value back.
    Restore,
    /// There is an answer, not handed over yet.
    Answer,
}

/// What a request must have joined before, to take the flight's answer. Each is also a bit in [`Request::before`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Proof {
    /// The last GET of K, or R4, that was sent.
    #[default]
    Get = 1,
    /// The last load.
    Load = 2,
    /// The second GET of E.
    SecondE = 4,
    /// The CAS.
    Fill = 8,
}

/// The single flight of K in a process, a task of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Flight {
    pub(crate) at: At,
    /// The command of `at` is sent and not answered (only where sending and running are two steps).
    pub(crate) sent: bool,
    /// Clock ticks since that sending, or since that of the command that proved the answer.
    pub(crate) age: u8,
    /// Ticks since the GET of T was sent.
    pub(crate) t_age: u8,
    /// The lease.
    pub(crate) nonce: Bits,
    /// False for a load that is answered without being cached.
    pub(crate) fills: bool,
    /// What E held before the load; 0 if that is not known.
    pub(crate) e: Bits,
    /// E was seen missing, which only a flight that breaks G4 cares about.
    pub(crate) e_missing: bool,
    /// A generation whose reply arrived before the load was sent, and its tenant.
    pub(crate) known: Option<(u8, Bits)>,
    /// The bytes that compare-and-acquire replaces.
    pub(crate) old: Option<Value>,
    /// `old` is a good value past its soft end.
    pub(crate) stale: bool,
    /// The answer, or what will be.
    pub(crate) record: Option<Record>,
    pub(crate) generation: Bits,
    /// The load in progress is the second one.
    pub(crate) second: bool,
    pub(crate) proof: Proof,
    /// The answer may enter the local level.
    pub(crate) keep: bool,
    /// The tenant's generation was confirmed by a local entry of T.
    pub(crate) by_local_t: bool,
    /// T's local entry was usable by a clock read at the start (only where `fresh_clock_for_t` is off).
    pub(crate) t_was_usable: bool,
}

/// A local entry of K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) age: u8,
}

/// A local entry of a T; `generation` 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Cell {
    pub(crate) generation: Bits,
    pub(crate) age: u8,
    /// This generation was first seen here before the flight's load was sent: `arrived` < the load's `sent`.
    pub(crate) before_load: bool,
}

/// The flight of T in a process, for other tokens of tenant 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Reader {
    #[default]
    Idle,
    Sent {
        age: u8,
    },
    Replied {
        age: u8,
        generation: Bits,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Instance {
    pub(crate) flight: Flight,
    /// The type that the flight is for (only where a rule about types is taken out).
    pub(crate) asked: u8,
    pub(crate) entry: Option<Entry>,
    pub(crate) cells: [Cell; 2],
    pub(crate) reader: Reader,
    /// The registry has acknowledged this instance's bound.
    pub(crate) registered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Stage {
    /// Not started.
    #[default]
    New,
    /// The clock is read, the local entry not looked at. `nap` ticks have passed between.
    Reading {
        nap: u8,
    },
    /// In the flight of its instance, joined before the sendings in `before`.
    Joined {
        before: u8,
    },
    Done,
}

/// A request that is watched: what it must be answered from is fixed when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Request {
    pub(crate) stage: Stage,
    pub(crate) instance: u8,
    /// The token type that it demands.
    pub(crate) token_type: u8,
    /// Included in every invalidation that had returned.
    pub(crate) now: Versions,
    /// The same, of those that had waited.
    pub(crate) waited: Versions,
}

/// An operator's progress: counts its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct OperatorState {
    pub(crate) steps: u8,
    /// The version it committed.
    pub(crate) version: u8,
    /// It found the longer bound in the registry.
    pub(crate) saw_longer: bool,
    /// It is counting S.
    pub(crate) waiting: bool,
    /// Ticks of each instance's clock since the operator began to count.
    pub(crate) elapsed: [u8; MAX_INSTANCES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum OldWriter {
    #[default]
    Idle,
    Loaded(Record),
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub(crate) database: Versions,
    pub(crate) key: Key,
    pub(crate) t: [Bits; 2],
    pub(crate) e: Bits,
    /// The registry holds the first instance's longer bound.
    pub(crate) registry: bool,
    pub(crate) instances: [Instance; MAX_INSTANCES],
    pub(crate) requests: [Request; MAX_REQUESTS],
    pub(crate) operators: [OperatorState; MAX_OPERATORS],
    pub(crate) late: [Late; MAX_LATE],
    pub(crate) old_writer: OldWriter,
    /// What the completed invalidations included, by kind of promise.
    pub(crate) now: Versions,
    pub(crate) waited: Versions,
    /// Counted only where their number is limited.
    pub(crate) loads: u8,
    pub(crate) broken: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_small() {
        // Millions of them wait to be explored at a time.
        assert!(size_of::<State>() <= 208, "{}", size_of::<State>());
    }
}
