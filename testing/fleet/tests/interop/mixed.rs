//! Short runs with both sides under load. `scripts/interop` does long ones.

use std::process::Command;
use std::time::Duration;

use fleet::interop::mixed::Executors;
use fleet::interop::mixed::judge::Cause;
use fleet::interop::mixed::{Plan, run};
use fleet::interop::python::Version;

/// The versions whose invalidations differ most.
const VERSIONS: [Version; 2] = [Version::First, Version::Current];

/// Long enough for a hundred invalidations by each side.
const SECONDS: &str = "12";

#[test]
fn our_answers_are_late_only_by_pythons_weaknesses() {
    let output = Command::new(env!("CARGO_BIN_EXE_mixed"))
        .arg(SECONDS)
        .output()
        .expect("the program starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(printed.contains("violations      0\n"));
}

fn run_with(nodes: &[Version], executors: Executors) -> fleet::interop::mixed::summary::Summary {
    let summary = run(&Plan {
        lasts: Duration::from_secs(5),
        seed: 7,
        engines: 2,
        nodes: nodes.to_vec(),
        executors,
    });
    println!("{summary}");
    assert!(summary.is_lively());
    assert_eq!(summary.violations(), 0);
    summary
}

#[test]
fn our_invalidations_take_effect_for_python_under_load() {
    let executors = Executors {
        rust: true,
        python: vec![],
    };
    let summary = run_with(&VERSIONS, executors);
    assert_eq!(summary.explained(Cause::NotInIndex), 0);
    assert_eq!(summary.explained(Cause::OurLoadAcross), 0);
}

#[test]
fn pythons_invalidations_take_effect_for_us_under_load() {
    for version in VERSIONS {
        let executors = Executors {
            rust: false,
            python: vec![version],
        };
        run_with(&[version], executors);
    }
}
