//! The configuration of a model: parts of the protocol, how many of each, and faults.

use crate::rules::Rules;

/// The maximum number of instances.
pub(crate) const MAX_INSTANCES: usize = 3;
/// The maximum number of operators.
pub(crate) const MAX_OPERATORS: usize = 3;
/// The maximum number of observed requests.
pub(crate) const MAX_REQUESTS: usize = 3;
/// The maximum number of late commands.
pub(crate) const MAX_LATE: usize = 2;

/// What an operator changes and invalidates. Each does so once, several of them in any interleaving.
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
    /// `n` observed requests on the first instance, while others start calls on any instance at any time.
    Observed(usize),
    /// `n` requests in all, on any instance, and calls for these alone.
    Only(usize),
}

/// The local level's clock, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// S.
    pub staleness: u8,
    /// What `wait_for_all_instances` adds.
    pub margin: u8,
    /// How much fewer than S + margin ticks an instance may count while the operator waits.
    pub drift: u8,
    /// The longest pause of a request between reading the clock and reading the local entry.
    pub nap: u8,
}

/// A model.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The rules that hold.
    pub rules: Rules,
    /// Processes that serve requests.
    pub instances: usize,
    /// Operators, and what they change.
    pub operators: &'static [Operator],
    /// Where requests come from.
    pub requests: Requests,
    /// The token's tenant in its first, second, … version.
    pub tenant_of: [Option<u8>; 4],
    /// The token's type, 0 or 1, in its first, second, … version. Each request then demands one of the two. `None`: no
    /// request demands a type.
    pub type_of: Option<[u8; 4]>,
    /// The tenant is the group of all entries, and T is A.
    pub all: bool,
    /// Operators act through the first instance, and may not be confirmed (I6). They do not wait, because the promise is that
    /// instance's: from the end of an attempt on, confirmed or not, it does not answer from before the change.
    pub own: bool,
    /// True if E exists. Without it, a generation that was not known before the load costs a second load.
    pub e: bool,
    /// The local level, if there is one.
    pub local: Option<Clock>,
    /// S of the first instance, if it is longer than that of the others and of the operators. They know it only from the
    /// registry.
    pub longer: Option<u8>,
    /// The registry may vanish with every connection, whenever no local entry is usable (see `registry.rs`).
    pub registry_lost: bool,
    /// True if reads of T for other tokens refresh T's local entries at any time.
    pub reader: bool,
    /// Stale-if-error. Any value may be past its soft end at any time.
    pub stale: bool,
    /// One proof point per call: the sending of the command that returned the answer. Otherwise the table of section 3.
    pub simple_proof: bool,
    /// A local entry of T makes a generation known only while it is usable. Otherwise at any age.
    pub fresh_known: bool,
    /// If set, the promise to check is that there are no more loads than this, without faults.
    pub most_loads: Option<u8>,
    /// Operators act only while no call is in progress, and loads count only after all operators returned.
    pub loads_after_operators: bool,
    /// Any key may vanish at any time: eviction, expiry, a restart without data, a repeated or late deletion.
    pub evict: bool,
    /// Any command, or its reply, may be lost.
    pub lose: bool,
    /// The number of commands at a time that may run after their sender gave up.
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
        all: false,
        own: false,
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
    /// K and A, two instances, every fault.
    pub const ALL: Self = Self {
        operators: &[Operator::Tenant(0)],
        tenant_of: [Some(0); 4],
        all: true,
        ..Self::KEY
    };
    /// K, and an instance through which two operators act.
    pub const OWN: Self = Self {
        operators: &[Operator::Token, Operator::Token],
        own: true,
        late: 0,
        crash: false,
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
