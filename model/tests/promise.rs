//! With every rule in place, no small model breaks its promise, and each takes the steps that it is there for.

use model::{Cluster, Limits, Spec, catalog, check};

/// Explores the model completely. It must have taken all of `steps`: a model shows nothing about a step that it never
/// takes.
#[track_caller]
fn holds(name: &str, steps: &[&str]) {
    let named = catalog::find(name).expect("a named model");
    let outcome = check(named.config, named.limits);
    println!("{name}: {outcome}");
    assert!(outcome.counterexample.is_none(), "{name}: {outcome}");
    assert!(
        outcome.complete,
        "{name} was not explored completely: {outcome}"
    );
    for step in steps {
        assert!(
            outcome.taken.contains(step),
            "{name} never takes this step: {step}"
        );
    }
}

#[test]
fn a_key_with_fenced_fills() {
    let steps = [
        "GET K: a value",
        "GET K: a lease, for too long",
        "the acquire returns a value",
        "acquires the lease, but the reply is lost",
        "the CAS returns 1",
        "the CAS returns 0",
        "the CAS runs, but the reply is lost",
        "completes; those who joined too late start a new call",
        "an acquire runs late",
        "a CAS runs late",
        "crashes and starts again",
    ];
    holds("key", &steps);
    holds("key-simple", &steps);
    holds("key-three", &steps);
}

#[test]
fn a_key_with_stale_answers() {
    let steps = [
        "the value is valid, but past its soft end",
        "the load fails",
        "compare-and-acquire returns 0",
        "a compare-and-acquire runs late",
        "the stale value is restored",
        "the stale value is restored, but the reply is lost",
        "the stale value is not restored: the lease is gone",
    ];
    holds("key-stale", &steps);
}

#[test]
fn a_key_with_a_few_explicit_requests() {
    holds(
        "key-requests",
        &["completes; those who joined too late start a new call"],
    );
}

const GENERATIONS: [&str; 6] = [
    "GET T: the value's generation",
    "GET T: another generation, so the value is old",
    "GET T: nothing, so the value is old; T is created",
    "compare-and-acquire returns 0",
    "T was known before the load",
    "T was read before the second load",
];

const E_COMPARED: [&str; 2] = [
    "E is unchanged, so T's generation is older than the load",
    "E has changed: load again",
];

#[test]
fn a_tenant_with_a_generation() {
    for name in ["tenant", "tenant-simple"] {
        holds(name, &[&GENERATIONS[..], &E_COMPARED].concat());
    }
    holds("tenant-without-e", &GENERATIONS);
}

#[test]
fn a_tenant_with_late_commands() {
    let late = [
        "a compare-and-acquire runs late",
        "a creation of T runs late",
        "a creation of E runs late",
    ];
    holds("tenant-late", &late);
}

#[test]
fn a_tenant_with_stale_answers() {
    holds("tenant-stale", &["the stale value is restored"]);
}

#[test]
fn a_tenant_with_a_few_explicit_requests() {
    holds("tenant-requests", &E_COMPARED);
}

#[test]
fn a_token_that_moves_to_another_tenant() {
    let moved = "the second load names another tenant than the first: not cached";
    holds("tenant-moves", &[moved, "T was known before the load"]);
}

#[test]
fn a_local_level_under_an_operator_that_waits() {
    let steps = [
        "the request is answered by the local entries",
        "has waited S: Ok",
        "one tick passes",
    ];
    holds("local", &steps);
    holds("local-stale", &steps);
}

#[test]
fn a_local_level_with_a_tenant() {
    let steps = [
        "the request is answered by the local entries",
        "the request is answered by the local entry of K and a GET of T",
        "the local entry of T confirms the value",
        "T was known before the load",
        "T was read before the second load",
        "has waited S: Ok",
    ];
    holds("local-tenant", &steps);
    holds("local-tenant-stale", &steps);
    holds(
        "local-refresh",
        &[&steps[..], &["the T read for another token arrives"]].concat(),
    );
}

#[test]
fn an_instance_with_a_longer_bound_than_the_operators() {
    let steps = [
        "enters its bound into the registry",
        "enters its bound, but the reply is lost",
        "reads the registry",
        "the request is answered by the local entries",
        "has waited S: Ok",
    ];
    holds("local-bounds", &steps);
    holds("local-bounds-tenant", &steps);
}

#[test]
fn a_registry_that_is_lost_while_nothing_kept_is_usable() {
    let steps = [
        "the registry is lost, with every connection",
        "enters its bound into the registry",
        "reads the registry",
        "the request is answered by the local entries",
        "has waited S: Ok",
    ];
    holds("local-bounds-lost", &steps);
}

#[test]
fn a_generation_of_all_entries() {
    let steps = [
        "A is read with K",
        "A is read before the load",
        "A is created before the load",
        "A can be neither read nor created: not cached",
        "the generation that was read with K, or before, confirms the value",
        "GET T: another generation, so the value is old",
        "GET T: nothing, so the value is old; T is created",
        "compare-and-acquire returns 0",
        "the CAS returns 1",
        "DEL T",
    ];
    holds("all", &steps);
    holds(
        "all-late",
        &["a creation of T runs late", "a CAS runs late"],
    );
}

#[test]
fn a_generation_of_all_entries_in_the_local_level() {
    let steps = [
        "A is read with K",
        "the local entry of T confirms the value",
        "the request is answered by the local entries",
        "the T read for another token arrives",
        "has waited S: Ok",
    ];
    holds("all-local", &steps);
}

const NOT_CONFIRMED: [&str; 4] = [
    "is not confirmed: Err",
    "the deletion runs",
    "is confirmed: Ok",
    "the token is noted: K is not filled",
];

#[test]
fn an_invalidation_that_is_not_confirmed() {
    let noted = "the token is noted: K is not answered from";
    for name in ["own", "own-tenant", "own-all"] {
        holds(name, &[&NOT_CONFIRMED[..], &[noted]].concat());
    }
    let steps = [
        "the token is noted: nothing is restored",
        "the request is answered by the local entries",
    ];
    holds("own-local", &[&NOT_CONFIRMED[..], &steps].concat());
}

#[test]
fn requests_for_two_types() {
    holds("types", &["GET K: a value", "a CAS runs late"]);
    holds(
        "types-local",
        &["the request is answered by the local entries"],
    );
    holds("loads-types", &["GET K: a value", "the CAS returns 1"]);
}

#[test]
fn one_load_for_many_requests_on_many_instances() {
    holds("loads", &["GET K: a lease, to be polled"]);
    holds(
        "loads-all",
        &["GET T: nothing, so the value is old; T is created"],
    );
    holds(
        "loads-own-tenant",
        &["GET T: nothing, so the value is old; T is created"],
    );
    holds("loads-other-tenant", &["E has changed: load again"]);
}

#[test]
fn a_local_entry_of_t_of_any_age_may_cost_a_second_load() {
    let any_age = check(catalog::LOADS_LOCAL, Limits::default());
    assert!(
        any_age.counterexample.is_some(),
        "section 5 (a) no longer costs a load: {any_age}"
    );
    holds("loads-local", &["T was known before the load"]);
}

#[test]
fn tracked_reads_and_fills() {
    let steps = [
        "the server runs the CAS",
        "the server refuses the CAS",
        "receives a push",
        "credits the heartbeat to its session",
        "the server closes the link",
        "the request reads the proof",
        "has waited S: Ok",
    ];
    holds("tracking-fills", &steps);
}

#[test]
fn a_link_whose_tracking_is_lost() {
    let steps = [
        "the server loses the link's tracking",
        "the server refuses CACHING and runs GET K",
        "CACHING was refused: the session ends",
        "repeats the self-test",
        "the self-test is good",
        "credits the heartbeat to its session",
    ];
    holds("tracking-losses", &steps);
}

#[test]
fn tracking_links_that_are_replaced() {
    let steps = [
        "a supervisor replaces the link",
        "sends a heartbeat over the old link",
        "the server closes the old link",
        "credits the heartbeat to its session",
        "receives a push",
    ];
    holds("tracking-links-short", &steps);
}

#[test]
fn a_tenants_cell_that_is_read_without_a_lock() {
    let steps = [
        "a push arrives",
        "the heartbeat's reply arrives and is credited",
        "replaces the observation",
        "loads the observation",
        "is answered",
    ];
    holds("cell", &steps);
}

#[test]
fn a_slot_that_moves() {
    let steps = [
        "the slot moves to the new master, with K",
        "follows a redirection",
        "reads the slot map, and learns of the move",
        "credits the heartbeat to its master's session",
        "receives a push",
    ];
    holds("cluster-move", &steps);
    holds(
        "cluster-silent",
        &["learns from a heartbeat that slots moved"],
    );
}

/// That readers on an old master are stale until it stops serving is a limit of the protocol, with tracking or without.
#[test]
fn an_old_master_that_learns_late_answers_plain_reads_too() {
    for tracked in [false, true] {
        let late = Cluster {
            late: true,
            tracked,
            ..Cluster::MOVE
        };
        let outcome = check(Spec::Cluster(late), Limits::default());
        assert!(outcome.counterexample.is_some(), "{tracked}: {outcome}");
    }
}

#[test]
fn every_small_model_is_explored_here() {
    let here = include_str!("promise.rs");
    for named in catalog::SMALL.iter().chain(catalog::SMALL_TRACKING) {
        assert!(
            here.contains(&format!("\"{}\"", named.name)),
            "{} has no test",
            named.name
        );
    }
}
