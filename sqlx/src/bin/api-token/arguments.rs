//! The command line.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command, value_parser};
use clap_complete::Shell;
use serde_json::Value;

use crate::exit::CODES;
use crate::settings::VARIABLES;
use crate::span;

pub(crate) const ABOUT: &str = "Issues, lists, rotates and revokes API keys";

/// Builds the command line.
pub(crate) fn command() -> Command {
    Command::new("api-token")
        .about(ABOUT)
        .long_about(concat!(
            "Issues, lists, rotates and revokes API keys, in the database of a service that verifies them with ",
            "tower-api-token.\n\nA token is read from standard input and is never an argument. Nothing asks a question, so ",
            "scripts do not wait."
        ))
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(after_help())
        .arg(flag("json", "Prints one JSON object a line").global(true))
        .subcommands(commands())
}

fn commands() -> Vec<Command> {
    let [init, issue, rotate, revoke, suspend, resume] = changes();
    let [list, show, check, watch] = reading();
    let [completions, man] = generated();
    vec![
        init,
        issue,
        list,
        show,
        rotate,
        revoke,
        suspend,
        resume,
        check,
        watch,
        completions,
        man,
    ]
}

fn reading() -> [Command; 4] {
    [
        Command::new("list")
            .about("Lists keys, the oldest first, also those that are revoked or have expired")
            .arg(option("tenant", "TENANT", "Only keys of this tenant"))
            .arg(
                option("limit", "NUMBER", "At most so many keys")
                    .value_parser(value_parser!(u32).range(1..=1_000))
                    .default_value("100"),
            )
            .arg(option("after", "ID", "Continues after this key"))
            .arg(flag("newest-first", "Lists the newest keys first"))
            .arg(flag("all", "Lists all pages, of --limit keys each")),
        Command::new("show")
            .about("Shows a key, and who still uses it if it was rotated")
            .arg(id()),
        Command::new("check")
            .about("Reads a token from standard input: says whose it is, what Redis has of it, and why it is refused")
            .long_about("Reads a token from standard input: says whose it is, what Redis has of it, and why it is refused. This does not count as a use of the token, and changes nothing."),
        Command::new("watch")
            .about("Prints changes, and invalidations that wait for a confirmation, as they happen")
            .arg(option("after", "NUMBER", "Begins after this entry of the audit table [default: the last]").value_parser(value_parser!(i64).range(0..)))
            .arg(duration("interval", "How often the database is read").default_value("250ms"))
            .arg(duration("for", "Ends after this time [default: when it is interrupted]")),
    ]
}

fn changes() -> [Command; 6] {
    [
        Command::new("init").about("Creates the tables or changes them for this version, and prints which migrations ran"),
        Command::new("issue")
            .about("Creates a key, and prints its text, which is stored nowhere")
            .arg(tenant("TENANT", "The tenant that the key belongs to"))
            .arg(option("name", "TEXT", "A name for people"))
            .arg(option("type", "TYPE", "The token type that layers ask for"))
            .arg(option("app", "ID", "The application that the key belongs to"))
            .arg(option("scope", "SCOPE", "An OAuth scope; may be repeated").action(ArgAction::Append))
            .arg(option("metadata", "JSON", "What the service reads with the key").value_parser(parser(json)))
            .arg(duration("expires-in", "How long the key is valid [default: for ever]").conflicts_with("expires-at"))
            .arg(option("expires-at", "TIME", "When the key expires, in RFC 3339").value_parser(parser(moment)))
            .arg(actor()),
        waits(
            Command::new("rotate")
                .about("Replaces a key by a successor, and prints the successor's text, which is stored nowhere")
                .arg(id())
                .arg(
                    duration("overlap", "How long the replaced key stays valid; 0 revokes it at once")
                        .required_unless_present("undo")
                        .conflicts_with("undo"),
                )
                .arg(flag("undo", "Undoes the rotation of this key within its overlap, and revokes its successor")),
        ),
        waits(Command::new("revoke").about("Revokes a key").arg(id())),
        waits(
            Command::new("suspend")
                .about("Suspends a tenant: its keys are answered with 403")
                .arg(tenant("TENANT", "The tenant")),
        ),
        waits(
            Command::new("resume")
                .about("Ends the suspension of a tenant")
                .arg(tenant("TENANT", "The tenant")),
        ),
    ]
}

fn generated() -> [Command; 2] {
    [
        Command::new("completions")
            .about("Prints a completion script")
            .arg(
                Arg::new("SHELL")
                    .required(true)
                    .help("The shell")
                    .value_parser(value_parser!(Shell)),
            ),
        Command::new("man").about("Prints the manual page, as roff"),
    ]
}

/// Adds the arguments of a change that has to be confirmed.
fn waits(command: Command) -> Command {
    command
        .arg(actor())
        .arg(
            duration("wait", "How long to wait for the confirmation, after the first attempt failed")
                .default_value("10s"),
        )
        .arg(flag(
            "everywhere",
            "Ends when no instance can answer from before the change, about MAX_STALENESS_MS later",
        ))
        .arg(
            flag(
                "no-redis",
                "Leaves the confirmation to the instances of the service",
            )
            .long_help("Leaves the confirmation to the instances of the service: commits the change, and waits until one has confirmed it. If none does, caches answer from before the change until their entries expire, and the command ends with 4."),
        )
}

fn id() -> Arg {
    Arg::new("ID").required(true).help("The key's id")
}

fn tenant(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).required(true).help(help)
}

fn actor() -> Arg {
    option(
        "actor",
        "NAME",
        "Who makes the change, for the audit table [default: $USER]",
    )
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .action(ArgAction::SetTrue)
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn duration(name: &'static str, help: &'static str) -> Arg {
    option(name, "DURATION", help).value_parser(parser(span::parse))
}

fn parser<T: Clone + Send + Sync + 'static>(parse: fn(&str) -> Result<T, String>) -> ValueParser {
    ValueParser::new(parse)
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let moment = DateTime::parse_from_rfc3339(text);
    let rule = "not a time such as 2027-01-31T12:00:00Z";
    moment.map(Into::into).map_err(|_| rule.to_owned())
}

fn after_help() -> String {
    let mut help = String::from("Exit codes:\n");
    for (code, meaning) in CODES {
        let _ = writeln!(help, "  {code}  {meaning}");
    }
    help += "\nEnvironment, with the values that the service has:\n";
    for (name, meaning) in VARIABLES {
        let _ = writeln!(help, "  {name}\n          {meaning}");
    }
    help
}

/// Values of arguments, which are present or have a default.
pub(crate) trait Values {
    fn text(&self, name: &str) -> Option<String>;
    fn span(&self, name: &str) -> Option<Duration>;
}

impl Values for clap::ArgMatches {
    fn text(&self, name: &str) -> Option<String> {
        self.get_one::<String>(name).cloned()
    }

    fn span(&self, name: &str) -> Option<Duration> {
        self.get_one::<Duration>(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        command().debug_assert();
    }

    /// Other users of the machine can read the arguments of a process.
    #[test]
    fn no_argument_takes_a_token_or_a_url() {
        for command in command().get_subcommands() {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let secret = ["token", "url", "password", "pepper", "secret", "key"];
                assert!(!secret.contains(&name), "{name} of {}", command.get_name());
            }
        }
    }
}
