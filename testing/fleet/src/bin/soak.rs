//! `soak DEMO DIRECTORY SECONDS [RATE]`: see the library. DEMO is the demo's program, DIRECTORY gets the logs.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use fleet::soak::run::run;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [program, directory, numbers @ ..] = &words[..] else {
        return usage();
    };
    let numbers: Option<Vec<u32>> = numbers.iter().map(|word| word.parse().ok()).collect();
    let (seconds, most) = match numbers.as_deref() {
        Some([seconds @ (12..)]) => (*seconds, f64::INFINITY),
        Some([seconds @ (12..), most @ (1..)]) => (*seconds, f64::from(*most)),
        _ => return usage(),
    };
    let lasts = Duration::from_secs(seconds.into());
    if run(Path::new(program), Path::new(directory), lasts, most) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: soak DEMO DIRECTORY SECONDS [RATE]; SECONDS is at least 12");
    ExitCode::from(2)
}
