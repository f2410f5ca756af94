//! `mixed [SECONDS] [SEED]`: Rust engines and Python nodes of the first and the current version with one Redis; see the
//! library's `mixed`. Prints a summary, and fails if there was a violation.

use std::process::ExitCode;
use std::time::Duration;

use fleet::interop::mixed::Executors;
use fleet::interop::mixed::{BOUND, Plan, run};
use fleet::interop::python::Version;
use test_support::Dice;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Result<Vec<u64>, _> = words.iter().map(|word| word.parse()).collect();
    let (seconds, seed) = match numbers.as_deref() {
        Ok([]) => (600, Dice::any_seed()),
        Ok([seconds]) => (*seconds, Dice::any_seed()),
        Ok([seconds, seed]) => (*seconds, *seed),
        _ => {
            eprintln!("usage: mixed [SECONDS] [SEED]");
            return ExitCode::from(2);
        }
    };
    let plan = Plan {
        lasts: Duration::from_secs(seconds),
        seed,
        engines: 3,
        nodes: vec![
            Version::First,
            Version::First,
            Version::Current,
            Version::Current,
        ],
        executors: Executors {
            rust: true,
            python: vec![Version::First, Version::Current],
        },
    };
    println!(
        "mixed           {seconds} s, seed {seed}, bound {} ms",
        BOUND.as_millis()
    );
    let summary = run(&plan);
    print!("{summary}");
    if summary.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
