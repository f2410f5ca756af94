//! Explores a named model with options: see [`USAGE`].

mod options;

use std::process::ExitCode;
use std::time::Instant;

use model::{Limits, Rule, Spec, catalog, check};

const USAGE: &str = "\
usage: model list                    the named models
       model rules                   for each rule, a counterexample without it
       model large                   the large models, one after another
       model NAME [OPTION...]        one model: counts, or a counterexample

options: --instances N               processes
         --observed N | --only N     observed requests among others | the only requests
         --operators LIST            token, tenant or tenant1, separated by commas
         --tenants LIST              the token's tenant in each of its versions: -, 0 or 1
         --late N                    commands that may run after their sender gave up (0 to 2)
         --no FAULT                  evict, lose, crash or load-fails
         --loads N                   checks the number of loads instead
         --with PART                 stale, reader, simple-proof, e, fresh-known or loads-after-operators
         --lacking PART              any of these parts
         --staleness N, --margin N, --drift N, --nap N
         --without RULE              takes a rule out (names: model rules)
of client tracking, a key:
         --instances N, --staleness N, --nap N, --changes N, --heartbeats N, --losses N
         --with PART, --lacking PART others, evict, table, plain, tracked, fills, closes, links, kept, grace
                                     or slow-heartbeats
of client tracking, a cluster:
         --with PART, --lacking PART tracked, migrates, late, from-learning, sessions-end or beat-shows-slots
of all models:
         --states N, --depth N       limits";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            for named in catalog::all() {
                println!("{:<28} {}", named.name, named.about);
            }
            ExitCode::SUCCESS
        }
        ["rules"] => all(Rule::ALL.iter().map(|&(rule, id)| {
            (
                format!("without {rule:?} ({id})"),
                catalog::needing(rule).without(rule),
                Limits::default(),
                true,
            )
        })),
        ["large"] => all(catalog::LARGE
            .iter()
            .chain(catalog::LARGE_TRACKING)
            .map(|named| (named.name.to_owned(), named.config, named.limits, false))),
        [name, options @ ..] => match catalog::find(name) {
            Some(named) => match options::apply(named.config, named.limits, options) {
                Ok((config, limits)) => {
                    all([((*name).to_owned(), config, limits, false)].into_iter())
                }
                Err(problem) => usage(&problem),
            },
            None => usage(&format!("no model is called {name}")),
        },
        [] => usage("which model?"),
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("{problem}\n\n{USAGE}");
    ExitCode::from(2)
}

/// Explores each model. The last item says whether a counterexample is expected.
fn all(models: impl Iterator<Item = (String, Spec, Limits, bool)>) -> ExitCode {
    let mut as_expected = true;
    for (about, config, limits, breaks) in models {
        let start = Instant::now();
        let outcome = check(config, limits);
        println!("{about}: {outcome} ({:.1?})", start.elapsed());
        as_expected &= outcome.counterexample.is_some() == breaks;
    }
    if as_expected {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
