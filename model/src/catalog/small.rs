//! The models that `cargo test` explores.

use super::named::{Named, whole};
use super::parts::{
    ALL, ALL_LOCAL, BOUNDS, CALM, EVERYBODY, LOCAL_TENANT, MOVES, OWN, OWN_ALL, OWN_LOCAL,
    OWN_TENANT, SHORT, TENANT, TYPES,
};
use crate::config::{Config, Operator, Requests};

/// Here a local entry of T makes a generation known at any age, which is safe but may cost a second load.
pub const LOADS_LOCAL: Config = Config {
    instances: 1,
    e: true,
    local: Some(SHORT),
    reader: true,
    operators: &[Operator::Tenant(0)],
    most_loads: Some(1),
    loads_after_operators: true,
    ..CALM
};

/// Requests for the token's type and for another share one load.
pub(super) const LOADS_TYPES: Config = Config {
    type_of: Some([0; 4]),
    tenant_of: [None; 4],
    e: false,
    operators: &[],
    most_loads: Some(1),
    ..CALM
};

/// Explored completely by the tests.
pub const SMALL: &[Named] = &[
    whole(
        "key",
        "K; two instances, a token's operator, one late command",
        Config::KEY,
    ),
    whole(
        "key-simple",
        "key with one proof point per call",
        Config {
            simple_proof: true,
            ..Config::KEY
        },
    ),
    whole(
        "key-stale",
        "key with stale-if-error",
        Config {
            stale: true,
            ..Config::KEY
        },
    ),
    whole(
        "key-three",
        "key with three instances",
        Config {
            instances: 3,
            ..Config::KEY
        },
    ),
    whole(
        "key-requests",
        "three requests and no other calls, nothing late",
        Config {
            requests: Requests::Only(3),
            late: 0,
            ..Config::KEY
        },
    ),
    whole(
        "types",
        "requests for two types; two instances, an operator who changes the token's type, one late command",
        Config { late: 1, ..TYPES },
    ),
    whole(
        "types-local",
        "requests for two types, and the local level; one instance, an operator that waits, one late command",
        Config {
            type_of: TYPES.type_of,
            ..Config::LOCAL
        },
    ),
    whole(
        "tenant",
        "K, T and E; two instances, a tenant's operator, nothing late",
        TENANT,
    ),
    whole(
        "tenant-simple",
        "tenant with one proof point per call",
        Config {
            simple_proof: true,
            ..TENANT
        },
    ),
    whole(
        "tenant-stale",
        "tenant with stale-if-error",
        Config {
            stale: true,
            ..TENANT
        },
    ),
    whole(
        "tenant-requests",
        "two requests and no other calls",
        Config {
            requests: Requests::Only(2),
            ..TENANT
        },
    ),
    whole(
        "tenant-without-e",
        "K and T: every unknown generation costs a load",
        Config { e: false, ..TENANT },
    ),
    whole(
        "tenant-late",
        "K, T and E; one instance, one late command",
        Config {
            instances: 1,
            ..Config::TENANT
        },
    ),
    whole(
        "tenant-moves",
        "a token moves to another tenant; one instance, operators of the token and of both tenants",
        Config {
            instances: 1,
            tenant_of: MOVES,
            operators: EVERYBODY,
            ..TENANT
        },
    ),
    whole(
        "local",
        "K and the local level; one instance, an operator that waits, one late command",
        Config::LOCAL,
    ),
    whole(
        "local-stale",
        "local with stale-if-error",
        Config {
            stale: true,
            ..Config::LOCAL
        },
    ),
    whole(
        "local-tenant",
        "K, T and the local level; one instance, nothing late",
        LOCAL_TENANT,
    ),
    whole(
        "local-tenant-stale",
        "local-tenant with stale-if-error",
        Config {
            stale: true,
            ..LOCAL_TENANT
        },
    ),
    whole(
        "local-refresh",
        "K, T and the local level with S = 1, and T is read for other tokens at any time",
        Config {
            reader: true,
            local: Some(SHORT),
            ..LOCAL_TENANT
        },
    ),
    whole(
        "local-bounds",
        "K and the local level; two instances, S = 1, one of them with S = 2 that it enters into the registry",
        Config {
            instances: 2,
            late: 0,
            ..BOUNDS
        },
    ),
    whole(
        "local-bounds-tenant",
        "K, T and the local level; one instance, with S = 2 that it enters into the registry, an operator with S = 1",
        Config {
            tenant_of: [Some(0); 4],
            operators: &[Operator::Tenant(0)],
            late: 0,
            ..BOUNDS
        },
    ),
    whole(
        "local-bounds-lost",
        "K and the local level; one instance, with S = 2 that it enters into a registry that may be lost, an operator with S = 1",
        Config {
            registry_lost: true,
            late: 0,
            ..BOUNDS
        },
    ),
    whole(
        "all",
        "K and A; two instances, an operator of all entries, nothing late",
        ALL,
    ),
    whole(
        "all-late",
        "K and A; one instance, one late command",
        Config {
            instances: 1,
            ..Config::ALL
        },
    ),
    whole(
        "all-local",
        "K, A and the local level; one instance, S = 1, A is read for other tokens at any time",
        ALL_LOCAL,
    ),
    whole(
        "own",
        "K; one instance, two operators of the token through it, whose attempts may not be confirmed, one late command",
        Config { late: 1, ..OWN },
    ),
    whole(
        "own-local",
        "K and the local level; one instance, an operator whose attempts may not be confirmed, stale-if-error, S = 1",
        OWN_LOCAL,
    ),
    whole(
        "own-tenant",
        "K, T and E; one instance, an operator of the tenant whose attempts may not be confirmed",
        OWN_TENANT,
    ),
    whole(
        "own-all",
        "K, A and the local level; one instance, an operator of all entries whose attempts may not be confirmed, S = 1",
        OWN_ALL,
    ),
    whole(
        "loads-all",
        "no fault, all was invalidated before: two instances load once",
        Config {
            all: true,
            e: false,
            most_loads: Some(1),
            loads_after_operators: true,
            ..CALM
        },
    ),
    whole(
        "loads",
        "no fault and no operator: two instances load once",
        Config {
            operators: &[],
            most_loads: Some(1),
            ..CALM
        },
    ),
    whole(
        "loads-own-tenant",
        "no fault, its tenant was invalidated before: two instances load once more",
        Config {
            most_loads: Some(1),
            loads_after_operators: true,
            ..CALM
        },
    ),
    whole(
        "loads-other-tenant",
        "no fault, another tenant is invalidated: two instances load twice at most",
        Config {
            operators: &[Operator::Tenant(1)],
            most_loads: Some(2),
            ..CALM
        },
    ),
    whole(
        "loads-types",
        "no fault and no operator: two instances load once for requests of two types",
        LOADS_TYPES,
    ),
    whole(
        "loads-local",
        "no fault, its tenant was invalidated before: one load, as local entries of T count only while usable",
        Config {
            fresh_known: true,
            ..LOADS_LOCAL
        },
    ),
];
