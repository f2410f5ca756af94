//! Short chaos runs. `scripts/chaos` does long ones.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One run at a time: concurrent runs may do too little to be meaningful.
static ALONE: Mutex<()> = Mutex::new(());

/// Asserts that a run with these arguments has no violation, and had all these faults.
fn run(words: &[&str], faults: &[&str]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(words)
        .output()
        .expect("the chaos program starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(printed.contains("violations      0\n"));
    let line = printed.lines().find(|line| line.starts_with("faults "));
    let line = line.expect("faults are counted");
    for fault in faults {
        assert!(line.contains(fault), "{fault} is not in {line}");
    }
}

/// Long enough for several faults, and short enough for a test.
#[test]
fn no_answer_is_older_than_a_confirmed_change() {
    run(&["8"], &["writes paused", "rights lost"]);
}

#[test]
fn no_answer_is_older_than_a_confirmed_change_in_the_dify_layout() {
    run(&["3", "dify"], &["writes paused", "rights lost"]);
}

#[cfg(feature = "clocks")]
#[test]
fn the_margin_covers_clocks_of_different_rates() {
    run(&["3", "clocks"], &["writes paused", "rights lost"]);
}

#[test]
fn invalidations_wait_for_a_bound_that_only_the_registry_has() {
    run(&["12", "bounds"], &["writes paused", "worker killed"]);
}

#[test]
fn failovers_do_not_undo_invalidations_on_replicas() {
    let faults = ["sentinel stopped", "writes paused", "redis killed"];
    run(&["12", "sentinel"], &faults);
}
