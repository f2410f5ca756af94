//! Errors in the arguments.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Error;
use tower_api_token::TokenFormat;

/// Prints clap's text, which is help or an error, without tokens: an error quotes the argument that is wrong.
pub(crate) fn explain(error: &Error, arguments: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        // Nobody has to read it.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let mut text = error.to_string();
    let prefix = env::var("TOKEN_PREFIX").unwrap_or_else(|_| "api_".to_owned());
    if let Ok(format) = TokenFormat::new(&prefix) {
        for argument in arguments.iter().filter_map(|it| it.to_str()) {
            for word in argument.split('=').filter(|word| format.matches(word)) {
                text = text.replace(word, "…");
            }
        }
    }
    // What follows may be a token of any form.
    if arguments.iter().any(|argument| argument == "check") {
        text = "api-token: check takes no argument but --json, and reads the token from standard input\n".to_owned();
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(2)
}
