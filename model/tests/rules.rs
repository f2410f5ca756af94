//! Every rule is needed: taken out, the checker finds a broken promise, in a model in which there is none with it.

use model::{Config, Limits, Rule, catalog, check};

/// Without `rule` there is a counterexample; the same model with it has none, two steps further than that.
#[track_caller]
fn is_needed(rule: Rule) {
    let written = catalog::needing(rule);
    let broken = check(
        Config {
            rules: written.rules.without(rule),
            ..written
        },
        Limits::default(),
    );
    let found = broken
        .counterexample
        .unwrap_or_else(|| panic!("nothing breaks without {rule:?}"));
    assert_eq!(
        found.steps.len(),
        broken.depth,
        "the trace of {rule:?} has a gap"
    );

    let outcome = check(
        written,
        Limits {
            depth: broken.depth + 2,
            ..Limits::default()
        },
    );
    assert!(
        outcome.counterexample.is_none(),
        "broken as written: {outcome}"
    );
}

#[test]
fn a_slow_load_brings_a_revoked_token_back_without_the_lease() {
    is_needed(Rule::Lease);
}

#[test]
fn a_slow_load_brings_a_revoked_token_back_without_the_guard_on_the_fill() {
    is_needed(Rule::GuardedFill);
}

#[test]
fn an_old_record_is_stored_under_a_new_lease_if_the_load_starts_before_the_acquire() {
    is_needed(Rule::LoadAfterAcquire);
}

#[test]
fn a_joiner_gets_an_answer_older_than_itself_without_proof_points() {
    is_needed(Rule::ProofPoints);
}

#[test]
fn the_old_record_is_loaded_again_if_the_commit_comes_last() {
    is_needed(Rule::CommitFirst);
}

#[test]
fn one_writer_without_a_lease_breaks_it_for_all() {
    is_needed(Rule::EveryWriterFenced);
}

#[test]
fn a_repeated_acquire_revives_its_lease() {
    is_needed(Rule::FreshNonce);
}

#[test]
fn a_repeated_creation_of_t_revives_its_generation() {
    is_needed(Rule::FreshGeneration);
}

#[test]
fn a_repeated_creation_of_e_looks_unchanged() {
    is_needed(Rule::FreshE);
}

#[test]
fn an_old_record_gets_the_new_generation_if_t_is_read_after_the_load() {
    is_needed(Rule::GenerationBeforeLoad);
}

#[test]
fn a_refresh_during_the_load_does_not_make_the_generation_known_before_it() {
    is_needed(Rule::KnownBeforeLoad);
}

#[test]
fn a_successful_cas_proves_nothing_about_the_tenant() {
    is_needed(Rule::TenantProofPoint);
}

#[test]
fn the_fill_sees_a_new_t_and_an_old_e_if_the_operator_deletes_t_first() {
    is_needed(Rule::OperatorDeletesEFirst);
}

#[test]
fn the_fill_sees_a_new_t_and_an_old_e_if_it_reads_e_first() {
    is_needed(Rule::FillReadsTFirst);
}

#[test]
fn a_missing_e_hides_an_invalidation_if_it_counts_as_unchanged() {
    is_needed(Rule::MissingEIsChanged);
}

#[test]
fn a_t_read_before_k_confirms_a_value_that_was_revoked_between() {
    is_needed(Rule::TReadAfterK);
}

#[test]
fn an_entry_outlives_the_wait_if_its_age_counts_from_the_reply() {
    is_needed(Rule::AgeFromSending);
}

#[test]
fn a_cached_clock_makes_a_dead_entry_usable() {
    is_needed(Rule::FreshClock);
}

#[test]
fn a_clock_read_before_the_joiner_came_makes_a_dead_entry_of_t_usable() {
    is_needed(Rule::FreshClockForT);
}

#[test]
fn an_entry_outlives_an_operator_that_does_not_wait() {
    is_needed(Rule::OperatorWaits);
}

#[test]
fn an_entry_outlives_a_wait_that_counts_from_the_commit() {
    is_needed(Rule::WaitFromReply);
}

#[test]
fn an_entry_of_t_outlives_a_wait_that_counts_from_the_first_deletion() {
    is_needed(Rule::WaitFromLastReply);
}

#[test]
fn a_slow_clock_makes_an_entry_outlive_a_wait_without_a_margin() {
    is_needed(Rule::Margin);
}

#[test]
fn an_entry_outlives_the_wait_if_its_bound_is_registered_after_its_proof_was_sent() {
    is_needed(Rule::BoundBeforeProof);
}

#[test]
fn an_entry_outlives_the_wait_if_the_registry_is_read_before_the_deletion() {
    is_needed(Rule::BoundsAfterDeletion);
}

#[test]
fn a_stale_value_put_back_blindly_brings_a_revoked_token_back() {
    is_needed(Rule::GuardedStale);
}

#[test]
fn a_stale_value_put_back_proves_nothing_about_the_tenant() {
    is_needed(Rule::StaleProofPoint);
}

#[test]
fn an_entry_outlives_the_wait_if_it_is_kept_after_the_registry_was_lost() {
    is_needed(Rule::KeptFromOneConnection);
}

#[test]
fn a_token_of_another_type_is_accepted_if_requests_do_not_compare() {
    is_needed(Rule::TypePerRequest);
}

#[test]
fn a_valid_token_is_refused_if_a_call_for_another_type_stores_a_negative_entry() {
    is_needed(Rule::OtherTypeIsStored);
}

#[test]
fn each_request_loads_again_if_a_value_of_another_type_is_replaced() {
    is_needed(Rule::OtherTypeIsCurrent);
}
