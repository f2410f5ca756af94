//! What a run found, and whether it is good.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use demo::latency::{Latencies, Percentiles};

use super::figures::Figures;
use super::load::Tally;
use super::operator::Done;

/// By how much the memory of the first instance may grow after the first period, in KiB.
const GROWTH: u64 = 8 * 1024;

pub(super) const HEADER: &str = "\
| minute | first: MiB, descriptors, threads, tasks | second | requests/s | p50 | p99 | 503 | no answer | in this period |\n\
|---|---|---|---|---|---|---|---|---|";

/// A period, with the figures at its end.
pub(super) struct Row<'a> {
    pub(super) end: Duration,
    pub(super) period: Duration,
    pub(super) figures: [Figures; 2],
    pub(super) tally: &'a Tally,
    pub(super) event: &'static str,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tally, latencies) = (self.tally, &self.tally.latencies);
        let [first, second] = self.figures;
        let rate = count(latencies) as f64 / self.period.as_secs_f64();
        let [p50, p99] = p50_and_p99(latencies);
        write!(
            f,
            "| {:.1} | {first} | {second} | {rate:.0} | {p50:.2} ms | {p99:.1} ms | {} | {} | {} |",
            self.end.as_secs_f64() / 60.0,
            load(&tally.unavailable),
            load(&tally.unanswered),
            self.event
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory as f64 / 1024.0;
        let (descriptors, pool) = (self.descriptors, self.pool);
        let (threads, tasks) = (self.threads, self.tasks);
        write!(
            f,
            "{memory:.1}, {descriptors} ({pool} of the pool), {threads}, {tasks}"
        )
    }
}

/// The whole run.
pub(super) struct Report<'a> {
    pub(super) rows: Vec<Row<'a>>,
    pub(super) done: &'a Done,
    /// Without load, before and after.
    pub(super) idle: [[Figures; 2]; 2],
}

impl Report<'_> {
    /// Returns whether nothing is left over, in comparison with `before`.
    pub(super) fn is_clean(before: &[Figures; 2], after: &[Figures; 2]) -> bool {
        before.iter().zip(after).all(|(before, after)| {
            after.tasks <= before.tasks
                && after.descriptors - after.pool <= before.descriptors - before.pool
        })
    }

    /// Returns what is wrong.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |is_one: bool, what: String| faults.extend(is_one.then_some(what));
        let memory = |row: Option<&Row<'_>>| row.map_or(0, |row| row.figures[0].memory);
        let (early, late) = (memory(self.rows.first()), memory(self.rows.last()));
        fault(
            late > early + GROWTH,
            format!("the memory grew from {early} to {late} KiB"),
        );
        let [before, after] = &self.idle;
        fault(
            !Self::is_clean(before, after),
            "descriptors or tasks are left over".to_owned(),
        );
        let sum = |of: fn(&Tally) -> &AtomicU64| -> u64 {
            self.rows.iter().map(|row| load(of(row.tally))).sum()
        };
        let accepted = sum(|tally| &tally.accepted) + load(&self.done.late);
        fault(
            accepted > 0,
            format!("revoked or unknown keys were accepted {accepted} times"),
        );
        let refused = sum(|tally| &tally.refused);
        fault(
            refused > 0,
            format!("valid keys were refused {refused} times"),
        );
        fault(
            count(&self.done.revocations) == 0 || load(&self.done.rotations) == 0,
            "nothing was revoked, or nothing was rotated".to_owned(),
        );
        faults
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = &self.idle;
        writeln!(f, "\nidle before: {}; {}", before[0], before[1])?;
        writeln!(f, "idle after:  {}; {}", after[0], after[1])?;
        let (done, took) = (self.done, &self.done.revocations);
        let ([p50, p99], most) = (p50_and_p99(took), millis(load(&done.slowest)));
        writeln!(
            f,
            "{} revocations, rejected by the other instance after: p50 {p50:.1} ms, p99 {p99:.1} ms, at most {most:.1} ms; \
             {} rotations; {} requests of the operator repeated",
            count(took),
            load(&done.rotations),
            load(&done.repeated)
        )?;
        let faults = self.faults();
        faults
            .iter()
            .try_for_each(|fault| writeln!(f, "FAULT: {fault}"))?;
        writeln!(
            f,
            "{}",
            if faults.is_empty() {
                "good"
            } else {
                "not good"
            }
        )
    }
}

/// Returns the number of latencies.
pub(super) fn count(latencies: &Latencies) -> u64 {
    latencies.counts().iter().sum()
}

/// Returns percentiles in milliseconds.
fn p50_and_p99(latencies: &Latencies) -> [f64; 2] {
    let none = Latencies::default().counts();
    let percentiles = Percentiles::between(&none, &latencies.counts());
    percentiles.map_or([0.0; 2], |of| [of.p50, of.p99].map(millis))
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
