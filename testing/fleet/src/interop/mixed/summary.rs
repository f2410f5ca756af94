//! The summary of a run.

use std::fmt;

use super::books::{Books, Side, Sides};
use super::clock::Stamp;
use super::judge::Cause;
use super::ledger::{By, Ledger};
use super::plan::Plan;
use super::rust_side::RustSide;
use super::settings::{BOUND, TENANTS, TOKENS};
use crate::interop::python::Version;

/// The number of violations that are described.
const DESCRIBED: usize = 10;

/// Both sides in the order of printing.
const SIDES: [By; 3] = [
    By::Rust,
    By::Python(Version::First),
    By::Python(Version::Current),
];

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    plan: Plan,
    sides: Sides,
    loads: [usize; 3],
    /// The invalidations of tokens and of tenants.
    invalidations: [[usize; 2]; 3],
    fills_refused: u64,
}

impl Summary {
    /// Summarizes the books of a finished run.
    pub fn of(books: &Books, rust: &RustSide, plan: &Plan) -> Self {
        let ledger = books.ledger();
        Self {
            plan: plan.clone(),
            sides: books.sides().clone(),
            loads: SIDES.map(|by| ledger.loads().iter().filter(|load| load.by == by).count()),
            invalidations: SIDES.map(|by| invalidations(&ledger, by)),
            fills_refused: rust.fills_refused(),
        }
    }

    /// Returns whether no answer violated the promise, and enough happened for that to be meaningful.
    pub fn is_good(&self) -> bool {
        self.violations() == 0 && self.is_lively()
    }

    /// Returns the number of answers that violated the promise.
    pub fn violations(&self) -> usize {
        self.sides.rust.violations.len() + self.sides.python.violations.len()
    }

    /// Returns the number of answers of both sides with this cause.
    pub fn explained(&self, cause: Cause) -> u64 {
        let of = |side: &Side| side.explained.get(&cause).map_or(0, |late| late.answers);
        of(&self.sides.rust) + of(&self.sides.python)
    }

    /// Returns whether both sides answered, and all that were to invalidate did.
    pub fn is_lively(&self) -> bool {
        let executors = &self.plan.executors;
        let wanted = SIDES.map(|by| match by {
            By::Rust => executors.rust,
            By::Python(version) => executors.python.contains(&version),
        });
        let invalidated = self.invalidations.iter().zip(wanted);
        let invalidated = invalidated
            .into_iter()
            .all(|(counts, wanted)| !wanted || counts.iter().all(|count| *count > 0));
        invalidated && self.sides.rust.said[0] > 0 && self.sides.python.said[0] > 0
    }
}

fn invalidations(ledger: &Ledger, by: By) -> [usize; 2] {
    let of = |history: &super::ledger::History| {
        let completed = history.completed.iter();
        completed.filter(|completed| completed.by == by).count()
    };
    [
        (0..TOKENS).map(|token| of(ledger.token(token))).sum(),
        (0..TENANTS).map(|tenant| of(ledger.tenant(tenant))).sum(),
    ]
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sides { rust, python } = &self.sides;
        let nodes = |version| {
            let nodes = self.plan.nodes.iter();
            nodes.filter(|node| **node == version).count()
        };
        writeln!(
            f,
            "nodes           {} Rust engines; Python: {} of the first version, {} of the current",
            self.plan.engines,
            nodes(Version::First),
            nodes(Version::Current)
        )?;
        for (name, side) in [("Rust", rust), ("Python", python)] {
            let [found, absent, denied, unavailable] = side.said;
            let all = side.said.iter().sum::<u64>();
            write!(f, "answers         {name:<6} {all:>9}: {found} found, ")?;
            writeln!(
                f,
                "{absent} absent, {denied} denied, {unavailable} unavailable"
            )?;
        }
        let [ours, first, current] = self.loads;
        writeln!(
            f,
            "loads           Rust {ours}, Python first {first}, Python current {current}"
        )?;
        writeln!(f, "fills refused   Rust {}", self.fills_refused)?;
        for (by, [tokens, tenants]) in SIDES.iter().zip(self.invalidations) {
            let name = match by {
                By::Rust => "Rust",
                By::Python(Version::First) => "Python first",
                By::Python(Version::Second) => "Python second",
                By::Python(Version::Current) => "Python current",
            };
            writeln!(
                f,
                "invalidations   {name:<14} {tokens:>6} of tokens, {tenants:>5} of tenants"
            )?;
        }
        writeln!(
            f,
            "longest time that a revoked or old token was accepted after a completed invalidation"
        )?;
        for (name, side, bound) in [
            ("Rust", rust, format!("bound {} ms", BOUND.as_millis())),
            ("Python", python, "no local level, bound 0 ms".to_owned()),
        ] {
            let longest = side.violations.iter().map(|(age, ..)| *age).max();
            let longest = millis(longest.unwrap_or(0).max(side.longest));
            writeln!(
                f,
                "  {name:<6} {longest:>9.1} ms  ({bound}; {} answers)",
                side.within
            )?;
        }
        writeln!(f, "apart from that, for reasons on Python's side")?;
        for (cause, name) in [
            (Cause::UnfencedFill, "Python's unfenced fills: accepted"),
            (
                Cause::NotInIndex,
                "Python's tenant index missed the entry: accepted",
            ),
            (
                Cause::OurLoadAcross,
                "our load, not yet in the index, across Python's tenant invalidation: accepted",
            ),
            (
                Cause::UnfencedNull,
                "Python's unfenced nulls: a new token called absent",
            ),
        ] {
            writeln!(f, "  {name}")?;
            for (side_name, side) in [("Rust", rust), ("Python", python)] {
                let late = side.explained.get(&cause).cloned().unwrap_or_default();
                writeln!(
                    f,
                    "    by {side_name:<6} {:>6} episodes, {:>7} answers, longest {:>9.1} ms",
                    late.loads.len(),
                    late.answers,
                    millis(late.longest)
                )?;
            }
        }
        writeln!(f, "violations      {}", self.violations())?;
        for (age, why, answered) in rust
            .violations
            .iter()
            .chain(&python.violations)
            .take(DESCRIBED)
        {
            writeln!(f, "  {why}, {:.1} ms: {answered:?}", millis(*age))?;
        }
        if !self.is_lively() {
            writeln!(f, "too little happened for this to be meaningful")?;
        }
        Ok(())
    }
}

fn millis(time: Stamp) -> f64 {
    std::time::Duration::from_nanos(time).as_secs_f64() * 1_000.0
}
