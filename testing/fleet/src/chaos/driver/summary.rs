//! The summary of a run, and whether enough happened for it to be meaningful.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::plan::Plan;
use crate::chaos::books::{Answers, Books, Invalidations};
use crate::chaos::clock::millis_after;
use crate::chaos::settings::Mode;
use crate::chaos::wire::Counted;

/// The summary of a run. Its `Display` is printed at the end.
#[derive(Debug)]
pub struct Summary {
    pub(super) mode: Mode,
    pub(super) seed: u64,
    pub(super) took: Duration,
    pub(super) workers: usize,
    pub(super) answers: Answers,
    pub(super) invalidations: Invalidations,
    pub(super) unconfirmed: usize,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) loads: u64,
    pub(super) counted: Counted,
    pub(super) oldest: Duration,
    pub(super) violations: u64,
    pub(super) first_violation: Option<Duration>,
    pub(super) described: Vec<String>,
}

impl Summary {
    pub(super) fn of(
        books: &Books,
        plan: &Plan,
        took: Duration,
        loads: u64,
        unconfirmed: usize,
    ) -> Self {
        let mut faults = BTreeMap::new();
        for fault in &books.faults {
            *faults.entry(fault.kind).or_default() += 1;
        }
        let began = books.ledger.token(0).commits()[0].at;
        Self {
            mode: plan.mode,
            seed: plan.seed,
            took,
            workers: plan.workers,
            answers: books.answers,
            invalidations: books.invalidations,
            unconfirmed,
            faults,
            loads,
            counted: books
                .counted
                .values()
                .fold(Counted::default(), |sum, &more| sum + more),
            oldest: Duration::from_nanos(books.oldest),
            violations: books.violations,
            first_violation: books
                .first_violation
                .map(|at| Duration::from_secs_f64(millis_after(began, at).max(0.0) / 1_000.0)),
            described: books.described.clone(),
        }
    }

    /// Returns whether there was no violation and enough happened.
    pub fn is_good(&self) -> bool {
        self.violations == 0 && self.shortcomings().is_empty()
    }

    /// Returns the events of which there were too few: a run in which little happened proves little.
    fn shortcomings(&self) -> Vec<String> {
        let seconds = self.took.as_secs();
        let Invalidations {
            tokens,
            tenants,
            all,
            ..
        } = self.invalidations;
        let confirmed = tokens + tenants + all;
        let faults: u64 = self.faults.values().sum();
        // Without a master nothing is cached, and without a replica nothing is confirmed.
        let whole = match self.mode {
            Mode::Sentinel | Mode::Cluster => seconds / 8,
            _ => seconds,
        };
        // In the Dify layout a tenant's invalidation refuses every fill that is under way, and without rights or writes
        // nothing is filled: on a busy machine that is most of a short run.
        let kept = match self.mode {
            Mode::Dify => whole / 8,
            _ => whole,
        };
        let least = [
            ("answers", self.answers.total(), 200 * seconds),
            ("local answers", self.answers.local, 20 * kept),
            ("answers from Redis", self.answers.shared, whole),
            ("loaded answers", self.answers.loaded, seconds),
            ("absent", self.answers.absent, seconds),
            ("denied", self.answers.denied, seconds),
            ("confirmed invalidations", confirmed, 2 * whole),
            ("of tenants", tenants, whole / 4),
            ("that waited", self.invalidations.waited, whole / 2),
            ("by workers", self.invalidations.own, whole / 4),
            ("faults", faults, seconds / 8),
            (
                "kinds of faults",
                self.faults.len() as u64,
                (seconds / 10).min(11),
            ),
        ];
        let mut shortcomings: Vec<String> = least
            .into_iter()
            .filter(|&(_, is, least)| is < least.max(1))
            .map(|(what, is, least)| format!("{what}: {is}, at least {least} are wanted"))
            .collect();
        // A former release's entries are not reached.
        if all == 0 && self.mode != Mode::Releases {
            shortcomings.push("of everything: none".to_owned());
        }
        if self.unconfirmed > 0 {
            shortcomings.push(format!(
                "invalidations: {} were not confirmed after all was mended",
                self.unconfirmed
            ));
        }
        shortcomings
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answers {
            local,
            shared,
            loaded,
            absent,
            denied,
            unavailable,
            wrong,
        } = self.answers;
        let Invalidations {
            tokens,
            tenants,
            all,
            waited,
            own,
            failed,
        } = self.invalidations;
        let Counted {
            joined,
            fills_refused,
            corrupt,
            store_errors,
            refreshes,
            ..
        } = self.counted;
        let seconds = self.took.as_secs_f64();
        writeln!(
            f,
            "mode            {}\nseed            {}\nseconds         {seconds:.0}\nworkers         {}",
            self.mode, self.seed, self.workers
        )?;
        writeln!(f, "answers checked {}", self.answers.total())?;
        writeln!(
            f,
            "  found         {} (local {local}, redis {shared}, loaded {loaded})",
            local + shared + loaded
        )?;
        writeln!(f, "  absent        {absent}\n  denied        {denied}")?;
        writeln!(f, "  unavailable   {unavailable}\n  wrong         {wrong}")?;
        writeln!(
            f,
            "invalidations   {} confirmed ({tokens} of tokens, {tenants} of tenants, {all} of everything; \
             {waited} waited, {own} by workers), {failed} failed and repeated",
            tokens + tenants + all
        )?;
        writeln!(f, "loads           {}", self.loads)?;
        writeln!(
            f,
            "in the engines  {joined} joined a flight, {fills_refused} fills refused, {refreshes} \
             refreshes, {store_errors} store errors, {corrupt} corrupt"
        )?;
        write!(f, "faults          {}", self.faults.values().sum::<u64>())?;
        for (place, (kind, count)) in self.faults.iter().enumerate() {
            let before = if place == 0 { " (" } else { ", " };
            write!(f, "{before}{kind} {count}")?;
        }
        let end = if self.faults.is_empty() { "" } else { ")" };
        writeln!(
            f,
            "{end}\noldest local    {:.0} ms after its change was confirmed (S = {} ms)",
            self.oldest.as_secs_f64() * 1_000.0,
            self.mode.bound().as_millis()
        )?;
        writeln!(f, "violations      {}", self.violations)?;
        if let Some(first) = self.first_violation {
            writeln!(f, "the first after {:.1} s", first.as_secs_f64())?;
        }
        for violation in &self.described {
            writeln!(f, "\n{violation}")?;
        }
        for shortcoming in self.shortcomings() {
            writeln!(f, "too little happened: {shortcoming}")?;
        }
        Ok(())
    }
}
