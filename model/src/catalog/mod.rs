//! The models by name, and for each rule a model that needs it.

mod large;
mod needing;
mod small;

pub use self::large::LARGE;
pub use self::needing::needing;
pub use self::small::{LOADS_LOCAL, SMALL};

use crate::config::{Clock, Config, Operator};
use crate::search::Limits;

/// A model with a name.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Its name on the command line.
    pub name: &'static str,
    /// A description.
    pub about: &'static str,
    /// The model.
    pub config: Config,
    /// Where its exploration stops.
    pub limits: Limits,
}

/// Explored completely, or as far as about 6 GiB of memory allow.
const fn whole(name: &'static str, about: &'static str, config: Config) -> Named {
    Named {
        name,
        about,
        config,
        limits: Limits {
            states: 100_000_000,
            depth: usize::MAX,
        },
    }
}

const TOKEN_AND_TENANT: &[Operator] = &[Operator::Token, Operator::Tenant(0)];
const TWO_TOKENS: &[Operator] = &[Operator::Token, Operator::Token];
const EVERYBODY: &[Operator] = &[Operator::Token, Operator::Tenant(0), Operator::Tenant(1)];
const MOVES: [Option<u8>; 4] = [Some(0), Some(1), Some(1), Some(1)];
const LOCAL_TENANT: Config = Config {
    tenant_of: [Some(0); 4],
    operators: &[Operator::Tenant(0)],
    late: 0,
    ..Config::LOCAL
};
/// Operators know the first instance's bound only from the registry.
const BOUNDS: Config = Config {
    longer: Some(2),
    local: Some(SHORT),
    ..Config::LOCAL
};
/// Requests for two types, and an operator who changes the token's type.
const TYPES: Config = Config {
    type_of: Some([0, 1, 1, 1]),
    late: 0,
    ..Config::KEY
};
const SHORT: Clock = Clock {
    staleness: 1,
    margin: 1,
    drift: 1,
    nap: 0,
};
const TENANT: Config = Config {
    late: 0,
    ..Config::TENANT
};
const CALM: Config = Config {
    evict: false,
    lose: false,
    late: 0,
    crash: false,
    load_fails: false,
    ..Config::TENANT
};

/// Returns the model of this name.
pub fn find(name: &str) -> Option<&'static Named> {
    SMALL.iter().chain(LARGE).find(|named| named.name == name)
}
