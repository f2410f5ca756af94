//! Judges an answer by the ledger.
//!
//! A version is *over* when an invalidation of a later one is complete. An answer to a request that started
//! after that is late, by the time since. An answer from our local level may be late by less than the bound. Other
//! answers, ours and Python's, must not be late, unless one of the weaknesses in wire.md explains the answer for
//! *every* invalidation by which it is late:
//!
//! * [`Cause::UnfencedFill`]: a Python node wrote its load after the invalidation had begun.
//! * [`Cause::NotInIndex`]: the current Python version invalidated a tenant, and the index did not contain the
//!   entry: it was the first version's, or its name was added while the index was being deleted.
//! * [`Cause::OurLoadAcross`]: the current Python version invalidated a tenant, which deletes only the entries in
//!   the index, before one of our loads was in the index.
//!
//! Everything else is a violation. If a token was valid in every version that an answer may be from, an absence
//! is explained only by a Python node's unfenced null ([`Cause::UnfencedNull`]).

use super::clock::{Stamp, nanos};
use super::ledger::{By, Completed, Id, Key, Ledger, Load, tenant_of};
use super::settings::BOUND;
use crate::interop::python::Version;

/// Our fill immediately follows our load. If a load was answered this long before an invalidation began, its fill
/// was complete.
const FILLED_AFTER: Stamp = 5_000_000_000;

/// The outcome of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A valid token.
    Found(Id),
    /// None.
    Absent,
    /// A suspended tenant's.
    Denied(Id),
    /// The database or Redis failed.
    Unavailable,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Whose.
    pub by: By,
    /// Whether it may be from our local level.
    pub local: bool,
    /// The requested key.
    pub key: Key,
    /// The time before the request.
    pub start: Stamp,
    /// The time after it.
    pub end: Stamp,
    /// The answer.
    pub said: Said,
}

/// A cause of a late answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A Python node wrote an older load.
    UnfencedFill,
    /// The index did not contain the entry.
    NotInIndex,
    /// One of our loads was running during a tenant's invalidation by Python.
    OurLoadAcross,
    /// A Python node cached the token as unknown after it was created.
    UnfencedNull,
}

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is from a state that was not over when the request started.
    Fresh,
    /// The answer is from our local level, and late by this time, which is within the bound.
    Within(Stamp),
    /// The answer is late by this time, because of this load on Python's side.
    Explained(Cause, Stamp, usize),
    /// The answer violates the promise.
    Violation(Stamp, &'static str),
}

/// Judges an answer. The ledger must contain all invalidations that were complete at the request, and all writes
/// until the answer.
pub fn judge(ledger: &Ledger, answered: &Answered) -> Verdict {
    match answered.said {
        Said::Found(id) => late(ledger, answered, id, true),
        Said::Denied(id) => late(ledger, answered, id, false),
        Said::Absent => absent(ledger, answered),
        Said::Unavailable => Verdict::Fresh,
    }
}

/// An invalidation that made a version over, and by how much an answer is late.
struct Over {
    completed: Completed,
    tenant: bool,
    allowance: Stamp,
}

fn late(ledger: &Ledger, answered: &Answered, id: Id, good: bool) -> Verdict {
    let Some(load) = ledger.numbered(id.read.load) else {
        return Verdict::Violation(0, "a load that never was");
    };
    if id.token != answered.key.token || load.key != answered.key || load.good != good {
        return Verdict::Violation(0, "another key's answer");
    }
    let over = over(ledger, answered, id);
    let Some(first) = over.iter().map(|over| over.completed.returned).min() else {
        return Verdict::Fresh;
    };
    let age = answered.start - first;
    let mut causes = Vec::new();
    for over in &over {
        if answered.start - over.completed.returned < over.allowance {
            continue;
        }
        // A denial is never written to Redis, so nothing explains a late one.
        match good.then(|| cause(load, over)).flatten() {
            Some(cause) => causes.push(cause),
            None => return Verdict::Violation(age, "an answer that was over"),
        }
    }
    match causes.into_iter().min() {
        None => Verdict::Within(age),
        Some(cause) => Verdict::Explained(cause, age, id.read.load),
    }
}

/// Returns the invalidations by which the answer is late.
fn over(ledger: &Ledger, answered: &Answered, id: Id) -> Vec<Over> {
    let returned_before = |completed: &&Completed| completed.returned <= answered.start;
    let token = ledger.token(id.token).later_than(id.read.token);
    let token = token.filter(|completed| completed.is_of(answered.key.scope));
    let tenant = ledger
        .tenant(tenant_of(id.token))
        .later_than(id.read.tenant);
    let ours = answered.by == By::Rust;
    let local = if ours && answered.local {
        nanos(BOUND)
    } else {
        0
    };
    // A tenant's generation in the local level may be as old as a record in it.
    let of_tenant = if ours { nanos(BOUND) } else { 0 };
    let token = token.filter(returned_before).map(|completed| Over {
        completed: *completed,
        tenant: false,
        allowance: local,
    });
    let tenant = tenant.filter(returned_before).map(|completed| Over {
        completed: *completed,
        tenant: true,
        allowance: of_tenant,
    });
    token.chain(tenant).collect()
}

fn cause(load: &Load, over: &Over) -> Option<Cause> {
    let Completed { started, by, .. } = over.completed;
    let by_index = over.tenant && by == By::Python(Version::Current);
    match load.by {
        By::Python(_) => {
            let (_, replied) = load.written?;
            if replied >= started {
                Some(Cause::UnfencedFill)
            } else {
                by_index.then_some(Cause::NotInIndex)
            }
        }
        By::Rust if by_index => Some(if load.answered + FILLED_AFTER < started {
            Cause::NotInIndex
        } else {
            Cause::OurLoadAcross
        }),
        By::Rust => None,
    }
}

fn absent(ledger: &Ledger, answered: &Answered) -> Verdict {
    if answered.by != By::Rust {
        // A Python node ignores nulls, so it has just queried the database.
        return Verdict::Fresh;
    }
    let history = ledger.token(answered.key.token);
    let in_force = history.completed.iter().filter(|completed| {
        completed.returned + nanos(BOUND) <= answered.start && completed.is_of(answered.key.scope)
    });
    let Some(newest) = in_force.clone().map(|completed| completed.version).max() else {
        return Verdict::Fresh;
    };
    if history.states[newest..].iter().any(|good| !good) {
        return Verdict::Fresh;
    }
    // The first version since which the token was valid without interruption.
    let since = history.states[..=newest]
        .iter()
        .rposition(|good| !good)
        .map_or(0, |revoked| revoked + 1);
    let over: Vec<_> = in_force
        .filter(|completed| completed.version >= since)
        .collect();
    let first = over.iter().map(|completed| completed.returned).min();
    let age = first.map_or(0, |first| answered.start - first);
    // The write ended after the last of them began, and its load had read before.
    let last = over.iter().map(|completed| completed.started).max();
    let unfenced = ledger.loads().iter().rposition(|load| {
        load.key == answered.key
            && !load.good
            && load.read.token < since
            && matches!(load.by, By::Python(_))
            && load
                .written
                .is_some_and(|(sent, replied)| Some(replied) >= last && sent <= answered.end)
    });
    match unfenced {
        Some(load) => Verdict::Explained(Cause::UnfencedNull, age, load),
        None => Verdict::Violation(age, "an absence that was over"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Found, Target};
    use super::*;

    const KEY: Key = Key { token: 5, scope: 0 };
    const PYTHON: By = By::Python(Version::Current);

    fn millis(millis: u64) -> Stamp {
        millis * 1_000_000
    }

    /// Creates a ledger in which `loader` loads version 0 at 10 ms, and `operator` commits version 1 and
    /// invalidates from 100 ms to 110 ms.
    fn story(loader: By, operator: By, target: Target, good: bool) -> (Ledger, Id) {
        let mut ledger = Ledger::new();
        let (_, found) = ledger.load(KEY, loader, millis(10));
        let Found::Record(id) = found else {
            panic!("{found:?}");
        };
        let history = ledger.of(target);
        history.states.push(good);
        history.completed.push(Completed {
            version: 1,
            started: millis(100),
            returned: millis(110),
            by: operator,
            scope: None,
        });
        (ledger, id)
    }

    fn answer(by: By, local: bool, at: u64, said: Said) -> Answered {
        Answered {
            by,
            local,
            key: KEY,
            start: millis(at),
            end: millis(at + 1),
            said,
        }
    }

    #[test]
    fn either_answer_is_right_before_the_return() {
        let (ledger, id) = story(By::Rust, PYTHON, Target::Token(5), false);
        let judged = |local, at| judge(&ledger, &answer(By::Rust, local, at, Said::Found(id)));
        assert_eq!(judged(false, 109), Verdict::Fresh);
        assert_eq!(judged(true, 409), Verdict::Within(millis(299)));
        assert!(matches!(judged(true, 410), Verdict::Violation(..)));
        assert!(matches!(judged(false, 111), Verdict::Violation(..)));
    }

    #[test]
    fn pythons_write_explains_a_late_answer_only_if_it_overlaps() {
        for by in [By::Rust, PYTHON] {
            let (mut ledger, id) = story(PYTHON, By::Rust, Target::Token(5), false);
            let late = answer(by, false, 500, Said::Found(id));
            assert!(matches!(judge(&ledger, &late), Verdict::Violation(..)));
            ledger.written(0, millis(90), millis(99));
            assert!(matches!(judge(&ledger, &late), Verdict::Violation(..)));
            ledger.written(0, millis(90), millis(101));
            let explained = Verdict::Explained(Cause::UnfencedFill, millis(390), 0);
            assert_eq!(judge(&ledger, &late), explained);
        }
    }

    #[test]
    fn every_late_invalidation_needs_an_explanation() {
        let (mut ledger, id) = story(PYTHON, By::Rust, Target::Token(5), false);
        ledger.written(0, millis(105), millis(120));
        let late = answer(By::Rust, false, 500, Said::Found(id));
        assert!(matches!(judge(&ledger, &late), Verdict::Explained(..)));
        let again = Completed {
            started: millis(200),
            returned: millis(210),
            ..ledger.token(5).completed[0]
        };
        ledger.of(Target::Token(5)).completed.push(again);
        assert!(matches!(judge(&ledger, &late), Verdict::Violation(..)));
    }

    #[test]
    fn only_a_tenants_invalidation_by_index_can_miss_an_entry() {
        let tenant = Target::Tenant(tenant_of(5));
        for (operator, target, missed) in [
            (PYTHON, tenant, true),
            (PYTHON, Target::Token(5), false),
            (By::Rust, tenant, false),
            (By::Python(Version::First), tenant, false),
        ] {
            let (mut ledger, id) = story(PYTHON, operator, target, false);
            ledger.written(0, millis(20), millis(30));
            let late = answer(PYTHON, false, 500, Said::Found(id));
            let explained = matches!(
                judge(&ledger, &late),
                Verdict::Explained(Cause::NotInIndex, ..)
            );
            assert_eq!(explained, missed);
            let (ledger, id) = story(By::Rust, operator, target, false);
            let late = answer(By::Rust, false, 500, Said::Found(id));
            let explained = matches!(
                judge(&ledger, &late),
                Verdict::Explained(Cause::OurLoadAcross, ..)
            );
            assert_eq!(explained, missed);
        }
    }

    #[test]
    fn absence_after_a_creation_needs_an_unfenced_null() {
        let mut ledger = Ledger::new();
        let history = ledger.of(Target::Token(5));
        history.states.push(false);
        let (load, found) = ledger.load(KEY, PYTHON, millis(10));
        assert_eq!(found, Found::Absent);
        let history = ledger.of(Target::Token(5));
        history.states.push(true);
        let late = answer(By::Rust, true, 500, Said::Absent);
        assert_eq!(judge(&ledger, &late), Verdict::Fresh);
        ledger.of(Target::Token(5)).completed.push(Completed {
            version: 2,
            started: millis(100),
            returned: millis(110),
            by: By::Rust,
            scope: None,
        });
        assert!(matches!(judge(&ledger, &late), Verdict::Violation(..)));
        ledger.written(load, millis(95), millis(101));
        assert!(matches!(judge(&ledger, &late), Verdict::Explained(..)));
        let within = answer(By::Rust, true, 400, Said::Absent);
        assert_eq!(judge(&ledger, &within), Verdict::Fresh);
        ledger.of(Target::Token(5)).states.push(false);
        assert_eq!(judge(&ledger, &late), Verdict::Fresh);
    }

    #[test]
    fn answer_for_another_token_is_a_violation() {
        let (ledger, id) = story(By::Rust, PYTHON, Target::Token(5), false);
        let mut other = answer(By::Rust, true, 20, Said::Found(id));
        other.key.scope = 1;
        assert!(matches!(judge(&ledger, &other), Verdict::Violation(..)));
    }
}
