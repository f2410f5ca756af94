//! The checker. It explores breadth first, so that the first counterexample is a shortest one.

mod hash;
mod layer;
mod seen;

use std::fmt;
use std::hash::{Hash, Hasher};

use self::hash::Folding;
use self::layer::Layer;
use self::seen::Seen;

/// A system that can be explored.
pub trait Model {
    /// A state of the whole system.
    type State: Copy;

    /// Returns the initial state.
    fn initial(&self) -> Self::State;

    /// Adds every state that one step leads to, with the step's name.
    fn successors(&self, state: &Self::State, into: &mut Vec<(Step, Self::State)>);

    /// Returns a fingerprint. States with equal fingerprints count as one.
    fn fingerprint(&self, state: &Self::State) -> u64;

    /// Returns the promise that this state breaks, if any.
    fn violation(&self, state: &Self::State) -> Option<&'static str>;

    /// Describes the state on one line, for traces.
    fn describe(&self, state: &Self::State) -> String;
}

/// A step of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// An instance, an operator, or a fault.
    pub who: &'static str,
    /// The action.
    pub what: &'static str,
}

/// Limits at which an exploration stops.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of distinct states.
    pub states: usize,
    /// The maximum length of a path.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            states: 100_000_000,
            depth: usize::MAX,
        }
    }
}

/// A broken promise, and a shortest path to it.
#[derive(Debug, Clone)]
pub struct Counterexample {
    /// The promise.
    pub broken: &'static str,
    /// The steps, each with the state after it.
    pub steps: Vec<(Step, String)>,
}

/// The result of an exploration.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Distinct states.
    pub states: usize,
    /// Steps, including those into known states.
    pub transitions: u64,
    /// The length of the longest shortest path to a state.
    pub depth: usize,
    /// True if every state was explored, false if a limit or a counterexample ended the exploration.
    pub complete: bool,
    /// The names of all steps that were taken.
    pub taken: Vec<&'static str>,
    /// The first counterexample, which is a shortest one.
    pub counterexample: Option<Counterexample>,
}

/// Returns the fingerprint of `value`.
pub(crate) fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = Folding::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Explores `model` until a promise is broken, a limit is reached, or no states are left.
pub fn explore<M: Model>(model: &M, limits: Limits) -> Outcome {
    let mut seen = Seen::new();
    let initial = model.initial();
    seen.insert(model.fingerprint(&initial), 0);
    let mut layer = Layer::default();
    let mut next = Layer::default();
    layer.push(initial);
    let mut successors = Vec::new();
    let mut known: [&'static str; 1024] = [""; 1024];
    let mut outcome = Outcome {
        states: 1,
        transitions: 0,
        depth: 0,
        complete: false,
        taken: Vec::new(),
        counterexample: None,
    };

    while !layer.is_empty() {
        if outcome.depth == limits.depth {
            return outcome;
        }
        while let Some(state) = layer.pop() {
            let parent = model.fingerprint(&state);
            successors.clear();
            model.successors(&state, &mut successors);
            outcome.transitions += successors.len() as u64;
            for (step, successor) in &successors {
                // Every transition runs this, so the name's address is compared before the list is searched.
                let known = &mut known[step.what.as_ptr() as usize % 1024];
                if !std::ptr::eq(*known, step.what) {
                    *known = step.what;
                    if !outcome.taken.contains(&step.what) {
                        outcome.taken.push(step.what);
                    }
                }
                let fingerprint = model.fingerprint(successor);
                if !seen.insert(fingerprint, parent) {
                    continue;
                }
                outcome.states = seen.len();
                if let Some(broken) = model.violation(successor) {
                    outcome.depth += 1;
                    outcome.counterexample = Some(trace(model, &seen, fingerprint, broken));
                    return outcome;
                }
                next.push(*successor);
            }
            if outcome.states >= limits.states {
                return outcome;
            }
        }
        std::mem::swap(&mut layer, &mut next);
        outcome.depth += usize::from(!layer.is_empty());
    }
    outcome.complete = true;
    outcome
}

/// Walks back over the parents, then forward to name the steps.
fn trace<M: Model>(model: &M, seen: &Seen, last: u64, broken: &'static str) -> Counterexample {
    let mut path = vec![last];
    let mut state = model.initial();
    let first = model.fingerprint(&state);
    while path[path.len() - 1] != first {
        path.push(seen.parent(path[path.len() - 1]));
    }
    let mut steps = Vec::new();
    let mut successors = Vec::new();
    for &fingerprint in path.iter().rev().skip(1) {
        successors.clear();
        model.successors(&state, &mut successors);
        let found = successors
            .iter()
            .find(|(_, next)| model.fingerprint(next) == fingerprint);
        let Some(&(step, next)) = found else { break };
        steps.push((step, model.describe(&next)));
        state = next;
    }
    Counterexample { broken, steps }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            transitions,
            depth,
            complete,
            counterexample,
            taken: _,
        } = self;
        write!(
            f,
            "{states} states, {transitions} transitions, depth {depth}, "
        )?;
        match counterexample {
            Some(found) => write!(f, "VIOLATION\n{found}"),
            None if *complete => write!(f, "complete"),
            None => write!(f, "bounded"),
        }
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (step, state)) in self.steps.iter().enumerate() {
            writeln!(
                f,
                "{:>3}. {:<9} {:<78} | {state}",
                number + 1,
                step.who,
                step.what
            )?;
        }
        write!(f, "=> {}", self.broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters up to `end`. Broken when both are at `bad`.
    struct Counters {
        end: u8,
        bad: u8,
    }

    impl Model for Counters {
        type State = (u8, u8);

        fn initial(&self) -> (u8, u8) {
            (0, 0)
        }

        fn successors(&self, &(a, b): &(u8, u8), into: &mut Vec<(Step, (u8, u8))>) {
            if a < self.end {
                into.push((
                    Step {
                        who: "a",
                        what: "counts",
                    },
                    (a + 1, b),
                ));
            }
            if b < self.end {
                into.push((
                    Step {
                        who: "b",
                        what: "counts",
                    },
                    (a, b + 1),
                ));
            }
        }

        fn fingerprint(&self, state: &(u8, u8)) -> u64 {
            fingerprint(state)
        }

        fn violation(&self, &(a, b): &(u8, u8)) -> Option<&'static str> {
            (a == self.bad && b == self.bad).then_some("met")
        }

        fn describe(&self, state: &(u8, u8)) -> String {
            format!("{state:?}")
        }
    }

    #[test]
    fn every_state_is_counted_once() {
        let outcome = explore(&Counters { end: 9, bad: 99 }, Limits::default());
        assert_eq!(
            (outcome.states, outcome.transitions, outcome.depth),
            (100, 180, 18)
        );
        assert!(outcome.complete);
    }

    #[test]
    fn a_counterexample_is_shortest_and_has_every_step() {
        let outcome = explore(&Counters { end: 9, bad: 3 }, Limits::default());
        let found = outcome.counterexample.expect("they meet");
        assert_eq!(found.steps.len(), 6);
        assert_eq!(found.steps[5].1, "(3, 3)");
    }

    #[test]
    fn an_exploration_that_reached_a_limit_is_not_complete() {
        let outcome = explore(
            &Counters { end: 9, bad: 99 },
            Limits {
                states: 10,
                depth: 99,
            },
        );
        assert!(!outcome.complete);
        let outcome = explore(
            &Counters { end: 9, bad: 99 },
            Limits {
                states: 1000,
                depth: 5,
            },
        );
        assert!(!outcome.complete);
        assert_eq!(outcome.depth, 5);
    }
}
