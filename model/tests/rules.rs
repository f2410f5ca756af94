//! Every rule is needed: without it the checker finds a broken promise, in a model that keeps its promise with it.

use model::{Limits, Rule, catalog, check};

/// Without `rule` there is a counterexample. With it the same model has none, up to two steps further.
#[track_caller]
fn is_needed(rule: Rule) {
    let whole = catalog::needing(rule);
    let broken = check(whole.without(rule), Limits::default());
    let found = broken
        .counterexample
        .unwrap_or_else(|| panic!("nothing breaks without {rule:?}"));
    assert_eq!(
        found.steps.len(),
        broken.depth,
        "the trace without {rule:?} has a gap"
    );

    let outcome = check(
        whole,
        Limits {
            depth: broken.depth + 2,
            ..Limits::default()
        },
    );
    assert!(
        outcome.counterexample.is_none(),
        "broken with every rule: {outcome}"
    );
}

#[test]
fn without_the_lease_a_slow_load_revives_a_revoked_token() {
    is_needed(Rule::Lease);
}

#[test]
fn with_an_unguarded_fill_a_slow_load_revives_a_revoked_token() {
    is_needed(Rule::GuardedFill);
}

#[test]
fn an_old_record_is_stored_under_a_new_lease_if_the_load_starts_before_the_acquire() {
    is_needed(Rule::LoadAfterAcquire);
}

#[test]
fn without_proof_points_a_request_joins_a_call_with_an_older_answer() {
    is_needed(Rule::ProofPoints);
}

#[test]
fn the_old_record_is_loaded_again_if_the_commit_comes_last() {
    is_needed(Rule::CommitFirst);
}

#[test]
fn one_writer_without_a_lease_breaks_the_promise_for_all() {
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
fn a_cached_clock_makes_an_expired_entry_usable() {
    is_needed(Rule::FreshClock);
}

#[test]
fn a_clock_read_at_the_calls_start_makes_an_expired_entry_of_t_usable() {
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
fn a_stale_value_restored_without_comparing_revives_a_revoked_token() {
    is_needed(Rule::GuardedStale);
}

#[test]
fn restoring_a_stale_value_proves_nothing_about_the_tenant() {
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
    is_needed(Rule::OtherTypeIsValid);
}

#[test]
fn what_a_former_release_wrote_outlives_an_invalidation_of_all_if_it_is_valid() {
    is_needed(Rule::WithoutAllIsInvalid);
}

#[test]
fn a_successful_cas_proves_nothing_about_all() {
    is_needed(Rule::AllProofPoint);
}

#[test]
fn an_entry_outlives_the_wait_if_it_needs_no_proof_of_a() {
    is_needed(Rule::EntryNeedsAll);
}

#[test]
fn an_old_record_gets_the_new_a_if_that_is_read_after_the_load() {
    is_needed(Rule::AllBeforeLoad);
}

#[test]
fn an_a_read_before_k_confirms_a_value_that_was_revoked_between() {
    is_needed(Rule::AllReadWithK);
}

#[test]
fn a_missing_a_hides_an_invalidation_if_it_counts_as_unchanged() {
    is_needed(Rule::MissingAllIsChanged);
}

#[test]
fn the_instance_that_was_told_answers_from_its_entries_if_they_do_not_end() {
    is_needed(Rule::OwnEntriesEnd);
}

#[test]
fn the_instance_that_was_told_answers_from_k_if_it_notes_nothing() {
    is_needed(Rule::NotedIsNotRead);
}

#[test]
fn a_value_read_before_the_confirmation_is_answered_after_it() {
    is_needed(Rule::NotedWhenSent);
}

#[test]
fn a_load_from_before_the_change_is_shared_if_a_noted_token_is_filled() {
    is_needed(Rule::NotedIsNotFilled);
}

#[test]
fn a_stale_value_comes_back_if_that_of_a_noted_token_is_restored() {
    is_needed(Rule::NotedIsNotRestored);
}

#[test]
fn the_confirmation_of_an_earlier_attempt_ends_the_note_of_a_later_change() {
    is_needed(Rule::NoteOutlivesEarlier);
}

#[test]
fn a_lost_table_is_missed_if_a_self_test_revives_the_session() {
    is_needed(Rule::NeverRevived);
}

#[test]
fn a_heartbeat_that_is_sent_late_proves_the_session_before_the_gap() {
    is_needed(Rule::EndedIsNotCredited);
}

#[test]
fn a_heartbeat_proves_a_revoked_entry_if_pushes_wait_for_a_task() {
    is_needed(Rule::InlinePush);
}

#[test]
fn a_heartbeat_proves_a_revoked_entry_if_its_reply_overtakes_the_push() {
    is_needed(Rule::OneStream);
}

#[test]
fn a_push_is_missed_if_the_stamp_is_read_after_the_reply() {
    is_needed(Rule::Stamp);
}

#[test]
fn the_new_link_proves_a_read_of_the_old_one_that_it_does_not_track() {
    is_needed(Rule::Session);
}

#[test]
fn nobody_pushes_a_plain_read_that_has_a_watch() {
    is_needed(Rule::OnlyTrackedReads);
}

#[test]
fn nobody_pushes_a_read_whose_tracking_was_refused() {
    is_needed(Rule::CachingChecked);
}

#[test]
fn nobody_pushes_a_fill_that_was_not_read() {
    is_needed(Rule::FillIsRead);
}

#[test]
fn a_fill_is_watched_for_another_ones_value() {
    is_needed(Rule::FillBytes);
}

#[test]
fn an_old_links_heartbeat_proves_what_only_the_new_link_tracks() {
    is_needed(Rule::SessionCredit);
}

#[test]
fn a_late_reply_proves_an_entry_that_was_revoked_before_it_arrived() {
    is_needed(Rule::CreditFromSending);
}

#[test]
fn a_heartbeat_elsewhere_proves_what_a_dead_link_tracked() {
    is_needed(Rule::BeatOnLink);
}

#[test]
fn a_lost_table_is_missed_by_heartbeats_that_only_delete() {
    is_needed(Rule::BeatAsksCaching);
}

#[test]
fn one_proof_for_all_sessions_proves_the_old_links_entries() {
    is_needed(Rule::EntrySession);
}

#[test]
fn a_later_proof_admits_a_revoked_entry_if_the_counter_is_read_first() {
    is_needed(Rule::ProvedFirst);
}

#[test]
fn a_later_proof_admits_an_ended_generation_if_the_counter_is_read_first() {
    is_needed(Rule::ProvedFirstForT);
}

#[test]
fn a_cell_for_two_generations_revives_the_ended_one() {
    is_needed(Rule::OneGeneration);
}

#[test]
fn one_sessions_proof_with_anothers_stamp_admits_an_ended_generation() {
    is_needed(Rule::OneWord);
}

#[test]
fn an_untracked_read_outlives_an_operator_that_does_not_wait() {
    is_needed(Rule::WaitWithTracking);
}

#[test]
fn an_instance_answers_from_its_own_entry_while_the_push_is_under_way() {
    is_needed(Rule::OwnMark);
}

#[test]
fn heartbeats_to_the_old_master_prove_a_key_that_moved_silently() {
    is_needed(Rule::LostSlotPushes);
}

#[test]
fn the_old_masters_heartbeats_prove_a_read_that_the_new_one_tracks() {
    is_needed(Rule::WatchNamesMaster);
}

#[test]
fn a_cancelled_migration_leaves_a_watch_at_a_master_that_never_served_the_key() {
    is_needed(Rule::AskedHasNoWatch);
}

#[test]
fn every_rule_is_taken_out_here() {
    let here = include_str!("rules.rs");
    for (rule, _) in Rule::ALL {
        assert!(
            here.contains(&format!("is_needed(Rule::{rule:?})")),
            "{rule:?} has no test"
        );
    }
}
