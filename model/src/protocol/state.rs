//! A state of the whole system, small enough to copy.
//!
//! Random bits are small numbers, 0 for none. Only their equality matters, so a fresh value is one that does not occur in
//! the state, and `canonical.rs` gives states that differ only in these numbers one form. Versions count commits. A record
//! carries the versions that it was loaded from, so that an answer can be judged.

use crate::config::{MAX_INSTANCES, MAX_LATE, MAX_OPERATORS, MAX_REQUESTS};

/// Random bits: a nonce, a generation, or E's contents. 0 is none.
pub(crate) type Bits = u8;

/// Versions of the token and of two tenants, in the database or required of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Versions {
    pub(crate) token: u8,
    pub(crate) tenant: [u8; 2],
}

/// What a load returns: an answer of any kind, with the versions that it was read from. The token's version determines its
/// tenant and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Record {
    pub(crate) token: u8,
    pub(crate) tenant: u8,
    /// A negative entry in place of a record of another type (only without `OtherTypeIsStored`).
    pub(crate) negative: bool,
}

/// A value in K.
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

/// A command that has not run yet and whose sender no longer waits. A late CAD, DEL or PEXPIRE is not here: it does no more
/// than an eviction, which may happen at any time.
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

/// Where a call is. It may pause at each of these points for any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum At {
    /// No call.
    #[default]
    Idle,
    /// Before the GET of K is sent or, with `sent`, before it runs.
    Get,
    /// A value was found, and its reply is under way (only where a note may end meanwhile).
    Replied,
    /// A value with a tenant was found. Before the GET of T.
    CheckT,
    /// Before R4, or compare-and-acquire if there is an `old`.
    Acquire,
    /// Before a load.
    Load,
    /// The load has replied.
    Loaded,
    /// Before T is read or created for a fill.
    ReadT,
    /// Before the second GET of E.
    ReadE,
    /// Before the CAS.
    Fill,
    /// The load failed. Before the CAS that restores a stale value.
    Restore,
    /// There is an answer that the waiters have not received yet.
    Answer,
}

/// The command that a request must have joined before, to take the call's answer. Each is a bit in [`Request::before`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Proof {
    /// The last GET of K or R4.
    #[default]
    Get = 1,
    /// The last load.
    Load = 2,
    /// The second GET of E.
    SecondE = 4,
    /// The CAS.
    Fill = 8,
}

/// The call for K in a process: its single flight, in a task of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Call {
    pub(crate) at: At,
    /// The command of `at` was sent and has not run (only where these are two steps).
    pub(crate) sent: bool,
    /// Ticks since that sending, or since the sending of the answer's proof point.
    pub(crate) age: u8,
    /// Ticks since the GET of T was sent.
    pub(crate) t_age: u8,
    /// The lease.
    pub(crate) nonce: Bits,
    /// False for a load that is answered without being cached.
    pub(crate) fills: bool,
    /// What E held before the load, 0 if unknown.
    pub(crate) e: Bits,
    /// E was missing, which matters only with G4 broken.
    pub(crate) e_missing: bool,
    /// A tenant and its generation, whose reply arrived before the load was sent.
    pub(crate) known: Option<(u8, Bits)>,
    /// The bytes that compare-and-acquire replaces.
    pub(crate) old: Option<Value>,
    /// `old` is a good value past its soft end.
    pub(crate) stale: bool,
    /// The answer, or the value that may become it.
    pub(crate) record: Option<Record>,
    pub(crate) generation: Bits,
    /// The load in progress is the second one.
    pub(crate) second: bool,
    pub(crate) proof: Proof,
    /// The answer may enter the local level.
    pub(crate) keep: bool,
    /// The token was noted when the GET of K or R4 was sent.
    pub(crate) noted: bool,
    /// The tenant's generation was confirmed by a local entry of T.
    pub(crate) by_local_t: bool,
    /// T's local entry was usable by a clock read at the call's start (only with `FreshClockForT` broken).
    pub(crate) t_was_usable: bool,
}

/// A local entry of K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) age: u8,
}

/// A local entry of a T. `generation` is 0 if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Cell {
    pub(crate) generation: Bits,
    pub(crate) age: u8,
    /// This instance first saw the generation before it sent the call's load: `arrived` < the load's `sent`.
    pub(crate) before_load: bool,
}

/// The call for T in a process, for other tokens of tenant 0.
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
    pub(crate) call: Call,
    /// The type that the call began for (only where a rule about types is taken out).
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
    /// The clock was read `nap` ticks ago. The local entry comes next.
    Reading {
        nap: u8,
    },
    /// Waits for its instance's call, which it joined before the commands in `before` were sent.
    Joined {
        before: u8,
    },
    Done,
}

/// An observed request. When it starts, the versions that its answer must include are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Request {
    pub(crate) stage: Stage,
    pub(crate) instance: u8,
    /// The token type that it demands.
    pub(crate) token_type: u8,
    /// The versions of every invalidation that had returned.
    pub(crate) now: Versions,
    /// The versions of every invalidation that had returned after waiting.
    pub(crate) waited: Versions,
}

/// An operator's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct OperatorState {
    pub(crate) steps: u8,
    /// The version it committed.
    pub(crate) version: u8,
    /// It found the longer bound in the registry.
    pub(crate) saw_longer: bool,
    /// It is counting S.
    pub(crate) waiting: bool,
    /// Its attempt, if confirmed, ends the note: no noted attempt began after it.
    pub(crate) ends_note: bool,
    /// The operators whose attempts were under way when this one's began, as bits.
    pub(crate) after: u8,
    /// Ticks of each instance's clock since the operator began to count.
    pub(crate) elapsed: [u8; MAX_INSTANCES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum OldWriter {
    #[default]
    Idle,
    Loaded(Record),
}

/// The state of the whole system.
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
    /// The first instance has noted an invalidation that was not confirmed.
    pub(crate) noted: bool,
    pub(crate) late: [Late; MAX_LATE],
    pub(crate) old_writer: OldWriter,
    /// The versions of the completed invalidations: of all, and of those that waited.
    pub(crate) now: Versions,
    pub(crate) waited: Versions,
    /// Loads, counted only where their number is limited.
    pub(crate) loads: u8,
    pub(crate) broken: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_small() {
        // Millions of states are in memory at a time.
        assert!(size_of::<State>() <= 218, "{}", size_of::<State>());
    }
}
