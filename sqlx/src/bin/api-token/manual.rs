//! What is made from the arguments: completion scripts and the manual page.

use std::io;

use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::arguments::command;
use crate::exit::{CODES, Failure};
use crate::settings::VARIABLES;

/// `completions`
pub(crate) fn completions(arguments: &ArgMatches) -> Result<(), Failure> {
    let shell = arguments.get_one::<Shell>("SHELL").copied();
    let shell = shell.ok_or_else(|| Failure::usage("SHELL: missing"))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "api-token", &mut script);
    write(&script)
}

/// `man`: one page, with a section for each command.
pub(crate) fn manual() -> Result<(), Failure> {
    let mut page = Vec::new();
    render(&mut page)?;
    write(&page)
}

fn render(page: &mut Vec<u8>) -> io::Result<()> {
    // Without what `--help` shows after the options, which has sections of its own here.
    let mut command = command().after_help("");
    command.build();
    let man = Man::new(command.clone()).manual("User commands");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;

    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in command
        .get_subcommands()
        .filter(|it| it.get_name() != "help")
    {
        subcommand(&mut roff, command);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in CODES {
        item(&mut roff, &code.to_string(), meaning);
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in VARIABLES {
        item(&mut roff, name, meaning);
    }
    roff.control("SH", ["EXAMPLES"]);
    for (line, meaning) in [
        (
            "TOKEN=$(api-token issue acme --name ci --expires-in 90d)",
            "Issues a key. Notes are on standard error.",
        ),
        (
            "api-token rotate key_0193c4 --overlap 1h",
            "Replaces a key, which stays valid for an hour.",
        ),
        (
            "api-token revoke key_0193c4 --everywhere",
            "Revokes a key, and ends when no instance accepts it.",
        ),
        (
            "api-token check < token.txt",
            "Says whose a token is, and why it is refused.",
        ),
    ] {
        item(&mut roff, line, meaning);
    }
    roff.to_writer(page)
}

fn subcommand(roff: &mut Roff, command: &Command) {
    roff.control("SS", [command.get_name()]);
    let about = command.get_long_about().or(command.get_about());
    roff.text([roman(format!(
        "{}.",
        about
            .map(ToString::to_string)
            .unwrap_or_default()
            .trim_end_matches('.')
    ))]);
    for argument in command.get_arguments() {
        let is_own = !matches!(argument.get_id().as_str(), "help" | "version" | "json");
        if is_own {
            self::argument(roff, argument);
        }
    }
}

fn argument(roff: &mut Roff, argument: &Arg) {
    let help = argument.get_long_help().or(argument.get_help());
    let mut help = help.map(ToString::to_string).unwrap_or_default();
    for default in argument.get_default_values() {
        if argument.get_action().takes_values() {
            help += &format!(" [default: {}]", default.display());
        }
    }
    roff.control("TP", []);
    let names = argument.get_value_names().unwrap_or_default();
    let value = names
        .first()
        .map_or(argument.get_id().as_str(), |name| name.as_str());
    let value = italic(value);
    match argument.get_long() {
        Some(long) if argument.get_action().takes_values() => {
            roff.text([bold(format!("--{long}")), roman(" "), value]);
        }
        Some(long) => {
            roff.text([bold(format!("--{long}"))]);
        }
        None => {
            roff.text([value]);
        }
    }
    roff.text([roman(help)]);
}

fn item(roff: &mut Roff, name: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(meaning)]);
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    use io::Write as _;
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}
