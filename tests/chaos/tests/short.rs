//! The chaos run, short: `scripts/chaos` is the long form.

use std::process::Command;

/// Long enough for several faults, and short enough for every test run.
const SECONDS: &str = "16";

#[test]
fn nothing_is_answered_from_before_a_complete_change_whatever_breaks() {
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .arg(SECONDS)
        .output()
        .expect("the chaos program starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(printed.contains("violations      0\n"));
}
