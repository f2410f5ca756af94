//! The models that `scripts/model` explores.

use super::named::{Named, whole};
use super::parts::{
    ALL, ALL_LOCAL, BOUNDS, LOCAL_TENANT, MOVES, OWN_ALL, OWN_TENANT, SHORT, TENANT,
    TOKEN_AND_TENANT, TWO_TOKENS,
};
use super::small::LOADS_LOCAL;
use crate::config::{Config, Operator};
use crate::search::Limits;

/// Explored by `scripts/model`, as far as memory allows.
pub const LARGE: &[Named] = &[
    whole(
        "key-two-late",
        "K; two instances, two operators, two late commands, stale-if-error",
        Config {
            operators: TWO_TOKENS,
            late: 2,
            stale: true,
            ..Config::KEY
        },
    ),
    whole(
        "key-three-two",
        "K; three instances, two operators, one late command",
        Config {
            instances: 3,
            operators: TWO_TOKENS,
            ..Config::KEY
        },
    ),
    whole(
        "tenant-two-late",
        "K, T and E; two instances, a tenant's operator, one late command",
        Config::TENANT,
    ),
    whole(
        "tenant-token",
        "K, T and E; two instances, operators of the token and of its tenant, stale-if-error",
        Config {
            operators: TOKEN_AND_TENANT,
            stale: true,
            ..TENANT
        },
    ),
    whole(
        "tenant-two-moves",
        "a token moves to another tenant; two instances, operators of the token and of the new tenant",
        Config {
            tenant_of: MOVES,
            operators: &[Operator::Token, Operator::Tenant(1)],
            ..TENANT
        },
    ),
    whole(
        "all-stale",
        "all with stale-if-error",
        Config { stale: true, ..ALL },
    ),
    whole(
        "all-two-late",
        "K and A; two instances, an operator of all entries, one late command",
        Config::ALL,
    ),
    Named {
        limits: Limits {
            states: 20_000_000,
            depth: usize::MAX,
        },
        ..whole(
            "all-local-two",
            "all-local with two instances, and A is not read for other tokens",
            Config {
                instances: 2,
                reader: false,
                ..ALL_LOCAL
            },
        )
    },
    whole(
        "own-two",
        "own with two instances, nothing late",
        Config::OWN,
    ),
    whole(
        "own-tenant-two",
        "own-tenant with two instances",
        Config {
            instances: 2,
            ..OWN_TENANT
        },
    ),
    whole(
        "own-all-reads",
        "own-all, with A read for other tokens at any time, stale-if-error and one late command",
        Config {
            reader: true,
            stale: true,
            late: 1,
            ..OWN_ALL
        },
    ),
    whole(
        "local-two",
        "K and the local level; two instances, one late command",
        Config {
            instances: 2,
            ..Config::LOCAL
        },
    ),
    whole(
        "local-e",
        "K, T, E and the local level; one instance, T is read for other tokens, S = 2",
        Config {
            e: true,
            reader: true,
            ..LOCAL_TENANT
        },
    ),
    whole(
        "local-both",
        "K, T, E and the local level; one instance, T is read for other tokens, S = 1, both operators",
        Config {
            e: true,
            reader: true,
            local: Some(SHORT),
            operators: TOKEN_AND_TENANT,
            ..LOCAL_TENANT
        },
    ),
    whole(
        "local-two-tenant",
        "K, T and the local level; two instances, S = 1",
        Config {
            instances: 2,
            local: Some(SHORT),
            ..LOCAL_TENANT
        },
    ),
    whole(
        "local-bounds-refresh",
        "local-bounds-tenant with T read for other tokens at any time",
        Config {
            reader: true,
            tenant_of: [Some(0); 4],
            operators: &[Operator::Tenant(0)],
            late: 0,
            ..BOUNDS
        },
    ),
    Named {
        limits: Limits {
            states: 50_000_000,
            depth: usize::MAX,
        },
        ..whole(
            "local-all",
            "K, T, E and the local level; two instances, T is read for other tokens, S = 1, both operators",
            Config {
                instances: 2,
                e: true,
                reader: true,
                local: Some(SHORT),
                operators: TOKEN_AND_TENANT,
                ..LOCAL_TENANT
            },
        )
    },
    whole(
        "loads-local-two",
        "loads-local with two instances",
        Config {
            instances: 2,
            fresh_known: true,
            ..LOADS_LOCAL
        },
    ),
];
