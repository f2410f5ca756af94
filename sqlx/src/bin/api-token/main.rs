//! `api-token`: issues, lists, rotates and revokes API keys, in the database of a service that verifies them.

mod arguments;
mod change;
mod check;
mod confirm;
mod exit;
mod init;
mod manual;
mod output;
mod read;
mod session;
mod settings;
mod shape;
mod span;
#[cfg(feature = "cli-tls")]
mod tls;
mod usage;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::ArgMatches;

use crate::exit::Failure;
use crate::output::{Output, note};
use crate::settings::Settings;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let matches = match arguments::command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return usage::explain(&error, &arguments),
    };
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                note(message);
            }
            ExitCode::from(failure.code())
        }
    }
}

fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let out = Output {
        is_json: matches.get_flag("json"),
    };
    let Some((name, arguments)) = matches.subcommand() else {
        return Err(Failure::usage("a command is missing"));
    };
    match name {
        "completions" => return manual::completions(arguments),
        "man" => return manual::manual(),
        _ => {}
    }
    let settings = Settings::read()?;
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| Failure::Failed(error.to_string()))?;
    runtime.block_on(async {
        match name {
            "init" => init::init(out, &settings).await,
            "issue" => change::issue(out, &settings, arguments).await,
            "list" => read::list(out, &settings, arguments).await,
            "show" => read::show(out, &settings, arguments).await,
            "rotate" => change::rotate(out, &settings, arguments).await,
            "revoke" => change::revoke(out, &settings, arguments).await,
            "suspend" => change::set_suspended(out, &settings, arguments, true).await,
            "resume" => change::set_suspended(out, &settings, arguments, false).await,
            "check" => check::check(out, &settings).await,
            "watch" => watch::watch(out, &settings, arguments).await,
            _ => Err(Failure::usage("an unknown command")),
        }
    })
}
