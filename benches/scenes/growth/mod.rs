//! How costs grow with the number of tokens, from a thousand to a million: hits, invalidations, memory.
//!
//! Each number of tokens has a process and a Redis of its own. They measure in turn. One token in a hundred
//! belongs to the tenant that is invalidated.
//!
//! `cargo bench --bench scenes --all-features -- growth` takes three minutes, and `… growth 1000 10000` uses other
//! numbers of tokens. Linux only, for the memory figures.

mod tokens;
mod world;

use crate::common::child::Child;
use crate::common::program;
use crate::common::table::{aside, median};

const NUMBERS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 11;

/// The costs: name, unit, and the unit in nanoseconds.
const COSTS: [(&str, &str, f64); 5] = [
    ("local hit", "ns", 1.0),
    ("the same of a HashMap of Arcs", "ns", 1.0),
    ("Redis hit, of 16 tasks", "µs", 1e3),
    ("invalidating a token", "µs", 1e3),
    ("invalidating the tenant of 1 % of them", "µs", 1e3),
];

/// Starts a process with this number of tokens. It prints their memory first.
fn holder(tokens: usize) -> Child {
    Child::start(["hold", &tokens.to_string()])
}

/// Returns the nanoseconds of the cost with this number.
fn measured_by(holder: &mut Child, cost: usize) -> f64 {
    holder.order(cost);
    holder.answer()[0]
}

pub(crate) fn main() {
    let arguments = program::arguments();
    if let [hold, tokens] = arguments.as_slice()
        && hold == "hold"
    {
        world::hold(tokens.parse().expect("a number"));
        return;
    }
    let mut numbers: Vec<usize> = arguments.iter().filter_map(|n| n.parse().ok()).collect();
    if numbers.is_empty() {
        numbers = NUMBERS.to_vec();
    }
    measure(&numbers);
}

fn measure(numbers: &[usize]) {
    let (mut holders, mut memory) = (Vec::new(), Vec::new());
    // One after the other, so that the memory of one is not measured while another fills its cache.
    for tokens in numbers {
        let mut holder = holder(*tokens);
        memory.push(holder.answer());
        holders.push(holder);
    }
    let mut nanos = vec![vec![Vec::new(); numbers.len()]; COSTS.len()];
    for _ in 0..ROUNDS {
        for (cost, nanos) in nanos.iter_mut().enumerate() {
            for (holder, nanos) in holders.iter_mut().zip(nanos) {
                nanos.push(measured_by(holder, cost));
            }
        }
    }
    holders.into_iter().for_each(Child::stop);

    let named: Vec<String> = numbers.iter().map(usize::to_string).collect();
    let print = |what: &str, figures: Vec<String>, unit: &str| {
        let what = format!("{what}, {} tokens", named.join(" / "));
        aside(&what, format!("{} {unit}", figures.join(" / ")));
    };
    for ((name, unit, nanos_of_it), nanos) in COSTS.iter().zip(nanos) {
        let figure = |nanos| {
            let figure: f64 = median(nanos) / nanos_of_it;
            let digits = usize::from(figure < 100.0);
            format!("{figure:.digits$}")
        };
        print(name, nanos.into_iter().map(figure).collect(), unit);
    }
    for (nth, name) in ["a local entry", "an entry in Redis"].iter().enumerate() {
        let figures = memory.iter().map(|bytes| format!("{:.0}", bytes[nth]));
        print(&format!("memory of {name}"), figures.collect(), "bytes");
    }
}
