//! A program with several benches. The first argument names one.

use std::process::Command;
use std::str::FromStr;

/// Runs the bench that the command line names.
pub(crate) fn run(benches: &[(&str, fn())]) {
    let name = name();
    match benches.iter().find(|(bench, _)| *bench == name) {
        Some((_, run)) => run(),
        None => {
            let names: Vec<&str> = benches.iter().map(|(bench, _)| *bench).collect();
            eprintln!("name a bench after `--`: {}", names.join(", "));
        }
    }
}

/// Returns the arguments after the bench's name, without the one that Cargo adds.
pub(crate) fn arguments() -> Vec<String> {
    let arguments = std::env::args().skip(2);
    arguments.filter(|argument| argument != "--bench").collect()
}

/// Returns the first argument that is a number, or `default`.
pub(crate) fn number<T: FromStr>(default: T) -> T {
    let mut numbers = arguments()
        .into_iter()
        .filter_map(|argument| argument.parse().ok());
    numbers.next().unwrap_or(default)
}

/// Returns the command that runs this bench in another process, without further arguments.
pub(crate) fn again() -> Command {
    through(Command::new(std::env::current_exe().expect("this program")))
}

/// Returns the command that runs this bench by another program.
pub(crate) fn through(mut runner: Command) -> Command {
    runner.arg(name());
    runner
}

fn name() -> String {
    std::env::args().nth(1).unwrap_or_default()
}
