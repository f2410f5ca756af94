//! What several models share.

use crate::config::{Clock, Config, Operator};

pub(super) const TOKEN_AND_TENANT: &[Operator] = &[Operator::Token, Operator::Tenant(0)];
pub(super) const TWO_TOKENS: &[Operator] = &[Operator::Token, Operator::Token];
pub(super) const EVERYBODY: &[Operator] =
    &[Operator::Token, Operator::Tenant(0), Operator::Tenant(1)];
pub(super) const MOVES: [Option<u8>; 4] = [Some(0), Some(1), Some(1), Some(1)];
pub(super) const LOCAL_TENANT: Config = Config {
    tenant_of: [Some(0); 4],
    operators: &[Operator::Tenant(0)],
    late: 0,
    ..Config::LOCAL
};
/// Operators know the first instance's bound only from the registry.
pub(super) const BOUNDS: Config = Config {
    longer: Some(2),
    local: Some(SHORT),
    ..Config::LOCAL
};
/// Requests for two types, and an operator who changes the token's type.
pub(super) const TYPES: Config = Config {
    type_of: Some([0, 1, 1, 1]),
    late: 0,
    ..Config::KEY
};
pub(super) const SHORT: Clock = Clock {
    staleness: 1,
    margin: 1,
    drift: 1,
    nap: 0,
};
pub(super) const TENANT: Config = Config {
    late: 0,
    ..Config::TENANT
};
pub(super) const ALL: Config = Config {
    late: 0,
    ..Config::ALL
};
/// A is read for other tokens at any time.
pub(super) const ALL_LOCAL: Config = Config {
    instances: 1,
    local: Some(SHORT),
    reader: true,
    ..ALL
};
pub(super) const OWN: Config = Config {
    instances: 1,
    ..Config::OWN
};
/// The one instance, with a local level and stale-if-error.
pub(super) const OWN_LOCAL: Config = Config {
    instances: 1,
    operators: &[Operator::Token],
    local: Some(SHORT),
    stale: true,
    ..Config::OWN
};
pub(super) const OWN_TENANT: Config = Config {
    instances: 1,
    own: true,
    crash: false,
    ..TENANT
};
pub(super) const OWN_ALL: Config = Config {
    own: true,
    crash: false,
    reader: false,
    ..ALL_LOCAL
};
pub(super) const CALM: Config = Config {
    evict: false,
    lose: false,
    late: 0,
    crash: false,
    load_fails: false,
    ..Config::TENANT
};
