//! What a model consists of: which parts of the protocol, how many of each, and which faults.

use crate::Rules;

/// Most instances a state has room for.
pub(crate) const MAX_INSTANCES: usize = 3;
/// Most operators a state has room for.
pub(crate) const MAX_OPERATORS: usize = 3;
/// Most observed requests a state has room for.
pub(crate) const MAX_REQUESTS: usize = 3;
/// Most late commands a state has room for.
pub(crate) const MAX_LATE: usize = 2;

/// Whom an operator changes, and then invalidates. Each does so once; several may do it at the same time or one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The token: its record, or its tenant (see [`Config::tenant_of`]).
    Token,
    /// Tenant 0 or 1.
    Tenant(u8),
}

/// Where requests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    /// `n` observed requests on the first instance, while unobserved ones start flights anywhere at any time.
    Observed(usize),
    /// `n` requests in all, on any instance, and flights only for them.
    Only(usize),
}

/// The local level's clock, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// S.
    pub staleness: u8,
    /// What `.and_wait()` adds.
    pub margin: u8,
    /// How much fewer than S + margin ticks an instance may count while the operator waits.
    pub drift: u8,
    /// How long at most a request sleeps between its clock read and its look at the local entry.
    pub nap: u8,
}

/// A model.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The rules that hold.
    pub rules: Rules,
    /// Processes that serve requests.
    pub instances: usize,
    /// Who changes what.
    pub operators: &'static [Operator],
    /// Where requests come from.
    pub requests: Requests,
    /// The tenant of the token in its first, second, … version.
    pub tenant_of: [Option<u8>; 4],
    /// The token's type, 0 or 1, in its first, second, … version, if requests are for one of two types. Otherwise types
    /// do not matter.
    pub type_of: Option<[u8; 4]>,
    /// True if E exists (without it, a generation that was not known before the load costs a second load).
    pub e: bool,
    /// The local level, if there is one.
    pub local: Option<Clock>,
    /// S of the first instance, where it is longer than that of the others and of the operators, who know it through the
    /// registry of bounds alone.
    pub longer: Option<u8>,
    /// The registry may vanish with every connection, whenever no local entry is usable (see `registry.rs`).
    pub registry_lost: bool,
    /// True if reads of T for other tokens refresh T's local entries at any time.
    pub reader: bool,
    /// Stale-if-error; any value may be past its soft end at any time.
    pub stale: bool,
    /// One proof point a flight: the send of whatever produced the bytes. Otherwise the table of section 3.
    pub simple_proof: bool,
    /// A local entry of T makes a generation known only while it is usable. Otherwise at any age.
    pub fresh_known: bool,
    /// If set, the promise that is checked is another one: no more loads than this (without faults).
    pub most_loads: Option<u8>,
    /// Operators act only while no flight is in the air, and loads count only once all of them have returned.
    pub loads_after_operators: bool,
    /// Any key may vanish at any time: eviction, expiry, a restart without data, a repeated or late deletion.
    pub evict: bool,
    /// Any command, or its reply, may be lost.
    pub lose: bool,
    /// Commands that may lie on their way, given up by their sender, at one time.
    pub late: usize,
    /// Instances crash and start again, empty.
    pub crash: bool,
    /// Loads may fail.
    pub load_fails: bool,
}

impl Config {
    /// K alone, two instances, every fault.
    pub const KEY: Self = Self {
        rules: Rules::WRITTEN,
        instances: 2,
        operators: &[Operator::Token],
        requests: Requests::Observed(1),
        tenant_of: [None; 4],
        type_of: None,
        e: false,
        local: None,
        longer: None,
        registry_lost: false,
        reader: false,
        stale: false,
        simple_proof: false,
        fresh_known: false,
        most_loads: None,
        loads_after_operators: false,
        evict: true,
        lose: true,
        late: 1,
        crash: true,
        load_fails: true,
    };
    /// K, T and E, two instances, every fault.
    pub const TENANT: Self = Self {
        operators: &[Operator::Tenant(0)],
        tenant_of: [Some(0); 4],
        e: true,
        ..Self::KEY
    };
    /// K and the local level, S = 2.
    pub const LOCAL: Self = Self {
        instances: 1,
        local: Some(Clock {
            staleness: 2,
            margin: 1,
            drift: 1,
            nap: 1,
        }),
        ..Self::KEY
    };

    /// S of instance `i`.
    pub(crate) fn staleness(&self, i: usize, clock: Clock) -> u8 {
        match self.longer {
            Some(longer) if i == 0 => longer,
            _ => clock.staleness,
        }
    }

    pub(crate) fn has_tenants(&self) -> bool {
        self.tenant_of.iter().any(Option::is_some)
    }
}
