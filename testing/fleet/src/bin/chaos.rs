//! `chaos [SECONDS] [SEED] [WORKERS] [MODE] [tracked|untracked]`: see the library. It starts its workers with
//! `chaos worker …`. `CHAOS_FORMER` is the path of a former release's program, for the mode `releases`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use fleet::chaos::driver::{Plan, run};
use fleet::chaos::settings::{Mode, Tracking};
use fleet::chaos::worker::{Options, work};
use test_support::Dice;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = words.split_first()
        && first == "worker"
    {
        return match Options::from_words(rest) {
            Some(options) => work(&options),
            None => usage(),
        };
    }
    let Some(plan) = plan(&words) else {
        return usage();
    };
    println!(
        "chaos: {} s, seed {}, {} workers, {}",
        plan.lasts.as_secs(),
        plan.seed,
        plan.workers,
        plan.mode
    );
    match run(&plan) {
        Ok(summary) => {
            print!("{summary}");
            if summary.is_good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("the run could not begin: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(words: &[String]) -> Option<Plan> {
    let tracking = words.last().and_then(|word| Tracking::from_word(word));
    let words = &words[..words.len() - usize::from(tracking.is_some())];
    let mode = words.last().and_then(|word| Mode::from_word(word));
    let numbers: Vec<u64> = words[..words.len() - usize::from(mode.is_some())]
        .iter()
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    let number = |place: usize| numbers.get(place).copied();
    let mode = mode.unwrap_or(Mode::Faults);
    let former = std::env::var_os("CHAOS_FORMER").map(PathBuf::from);
    let is_possible = match mode {
        Mode::Releases => former.is_some(),
        Mode::Clocks => cfg!(feature = "clocks"),
        _ => true,
    };
    if numbers.len() > 3 || !is_possible {
        return None;
    }
    Some(Plan {
        lasts: Duration::from_secs(number(0).unwrap_or(600)),
        seed: number(1).unwrap_or_else(Dice::any_seed),
        workers: usize::try_from(number(2).unwrap_or(3).max(1)).ok()?,
        mode,
        tracking: tracking.unwrap_or(Tracking::Mixed),
        program: std::env::current_exe().ok()?,
        former,
    })
}

fn usage() -> ExitCode {
    eprintln!("usage: chaos [SECONDS] [SEED] [WORKERS] [MODE] [tracked|untracked]");
    ExitCode::from(2)
}
