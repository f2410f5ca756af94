//! The rows of the table that `scripts/bench` prints, and functions to measure them.
//!
//! A bench prints rows with [`row`]. `scripts/bench` ignores its other lines.

use std::fmt::Display;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::program::through;

/// Prints a row: what was measured, the goal, the figure, and whether the goal is reached.
pub(crate) fn row(what: &str, goal: &str, measured: impl Display, reached: bool) {
    let reached = if reached { "yes" } else { "**no**" };
    println!("| {what} | {goal} | {measured} | {reached}{} |", mark());
}

/// Prints a row without a goal, for comparison.
pub(crate) fn aside(what: &str, measured: impl Display) {
    println!("| {what} | | {measured} | {} |", mark());
}

/// Returns the mark of a row that is printed while other work runs.
fn mark() -> &'static str {
    if slowdown() > QUIET { " (busy)" } else { "" }
}

/// The largest [`slowdown`] of a machine that nothing else uses.
pub(crate) const QUIET: f64 = 1.1;

/// Spins on all cores, and returns the time that takes over the CPU time that it gets: 1 on a quiet machine.
pub(crate) fn slowdown() -> f64 {
    const SPIN: Duration = Duration::from_millis(40);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spin = || {
        let (start, before) = (Instant::now(), cpu_time("thread-self"));
        while start.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        cpu_time("thread-self") - before
    };
    let got: f64 = std::thread::scope(|scope| {
        let spins: Vec<_> = (0..cores).map(|_| scope.spawn(spin)).collect();
        spins.into_iter().map(|it| it.join().expect("a spin")).sum()
    });
    SPIN.as_nanos() as f64 * cores as f64 / got
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Returns the median of the ratios within each round, in which noise of the machine affects both alike.
pub(crate) fn median_ratio(over: &[f64], under: &[f64]) -> f64 {
    median(over.iter().zip(under).map(|(a, b)| a / b).collect())
}

/// Returns the CPU time of a process's threads, or of the calling thread, in nanoseconds.
pub(crate) fn cpu_time(whose: &str) -> f64 {
    let of = |path: &Path| -> f64 {
        let stat = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        stat.split_whitespace()
            .next()
            .and_then(|nanos| nanos.parse().ok())
            .unwrap_or(f64::NAN)
    };
    if whose == "thread-self" {
        return of("/proc/thread-self".as_ref());
    }
    let tasks = std::fs::read_dir(format!("/proc/{whose}/task")).expect("a process");
    tasks.flatten().map(|task| of(&task.path())).sum()
}

pub(crate) fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0
}

/// Returns the command that counts instructions, if valgrind is installed.
pub(crate) fn valgrind() -> Option<Command> {
    let there = Command::new("valgrind").arg("--version").output().is_ok();
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    // Freed blocks are reused for the same size. Otherwise the cost of an allocation depends on the state of the
    // heap, and differs by hundreds of instructions between two builds.
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=2000");
    command.arg(std::env::current_exe().expect("this program"));
    there.then(|| through(command))
}

/// Parses the number of instructions from valgrind's output.
pub(crate) fn collected(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok()
}
