//! An example as a process, and `curl` requests to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{PATIENCE, Process, bound_to_us, find_program, log_tail, wait_until};

/// No progress bar, and a limit for a hang.
const CURL: &str = "curl() { command curl -s --max-time 30 \"$@\"; }";

/// A running example or demo, on a free loopback port, without environment variables of the test process. Dropping it
/// ends the process.
///
/// The program must read its address from `LISTEN`, and print `listening on http://…` when it is ready. It prints `curl`
/// commands for its users before that, which [`paste`](Self::paste) runs.
///
/// ```no_run
/// # use std::path::Path;
/// let example = test_support::Example::start(Path::new("target/debug/axum"), &[]);
/// assert_eq!(example.paste(0).status, 200);
/// assert_eq!(example.curl("/", &[]).status, 401);
/// ```
#[derive(Debug)]
pub struct Example {
    // Before `dir`: the process ends before its directory is removed.
    process: Process,
    address: String,
    banner: String,
    dir: TempDir,
}

/// The output of `curl -i`.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and the header lines.
    pub head: String,
    /// The body, with bytes that are not UTF-8 replaced.
    pub body: String,
}

impl Example {
    /// Starts `program` with these variables and waits until it listens.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started, ends, or does not listen in time. The message has its output.
    #[track_caller]
    pub fn start(program: &Path, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("cannot make a directory for an example");
        let log = log_file(&dir);
        let mut command = bound_to_us(program, "KILL");
        command
            .env_clear()
            .env("LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .current_dir(dir.path());
        let mut process = Process::spawn(command, &log)
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let what = format!("the address of {}", program.display());
        let (banner, address) = wait_until(
            &what,
            || log_tail(&log),
            || {
                // Before its output is read, so that the last lines are included.
                let exited = process.exited();
                let printed = fs::read_to_string(&log).unwrap_or_default();
                if let Some((banner, rest)) = printed.split_once("listening on http://")
                    && let Some((address, _)) = rest.split_once('\n')
                {
                    return Ok((banner.to_owned(), address.to_owned()));
                }
                if let Some(status) = exited {
                    panic!("{} ended, {status}:\n{printed}", program.display());
                }
                Err("it does not listen".to_owned())
            },
        );
        Self {
            process,
            address,
            banner,
            dir,
        }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the printed `curl` commands.
    pub fn commands(&self) -> Vec<&str> {
        let lines = self.banner.lines();
        lines.filter(|line| line.contains("curl ")).collect()
    }

    /// Returns the token in a line of [`commands`](Self::commands): the text between `mark` and the quotation mark.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    #[track_caller]
    pub fn token(&self, line: usize, mark: &str) -> &str {
        let commands = self.commands();
        let token = commands.get(line).and_then(|line| {
            let (_, rest) = line.split_once(mark)?;
            rest.split_once('\'')
        });
        token
            .unwrap_or_else(|| panic!("no {mark} in line {line} of {commands:?}"))
            .0
    }

    /// Runs a line of [`commands`](Self::commands) in a shell, as its user does.
    ///
    /// # Panics
    ///
    /// Panics if there is no such line, or no answer.
    #[track_caller]
    pub fn paste(&self, line: usize) -> Answer {
        let commands = self.commands();
        let command = commands
            .get(line)
            .unwrap_or_else(|| panic!("no line {line} in {commands:?}"));
        self.run(command, &[])
    }

    /// Runs `curl -i` with these arguments for a path.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer.
    #[track_caller]
    pub fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        let url = format!("http://{}{path}", self.address);
        self.run("curl -i \"$@\"", &[arguments, &[url.as_str()]].concat())
    }

    /// Runs [`curl`](Self::curl) with a bearer token.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer.
    #[track_caller]
    pub fn curl_as(&self, token: &str, path: &str, arguments: &[&str]) -> Answer {
        let header = format!("authorization: Bearer {token}");
        self.curl(path, &[&["-H", header.as_str()], arguments].concat())
    }

    #[track_caller]
    fn run(&self, command: &str, arguments: &[&str]) -> Answer {
        find_program("curl").expect("curl is not on PATH; run scripts/test, which installs it");
        let output = Command::new("sh")
            .args(["-c", &format!("{CURL}; {command}"), "sh"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("cannot start sh");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        Answer::parse(&printed).unwrap_or_else(|| {
            let printed = log_tail(&log_file(&self.dir));
            panic!(
                "no answer to {command} {arguments:?}: {output:?}\nthe example's output:\n{printed}"
            )
        })
    }

    /// Returns what it has printed so far, also its log.
    pub fn output(&self) -> String {
        fs::read_to_string(log_file(&self.dir)).unwrap_or_default()
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Freezes the process (`SIGSTOP`): the kernel still accepts connections and bytes for it, but nothing answers.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Asks the process to end (`SIGTERM`), and returns its exit status.
    ///
    /// # Panics
    ///
    /// Panics if it does not end in time.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        let status = self.process.wait_for(PATIENCE);
        status.unwrap_or_else(|| panic!("it does not end:\n{}", log_tail(&log_file(&self.dir))))
    }
}

impl Answer {
    /// Parses the output of `curl -i` or `curl -i | cat -v`, or a response of HTTP/1.1.
    pub fn parse(printed: &str) -> Option<Self> {
        let printed = printed.replace("^M\n", "\n").replace("\r\n", "\n");
        let (head, body) = printed.split_once("\n\n")?;
        let status = head.split(' ').nth(1)?;
        Some(Self {
            status: status.parse().ok()?,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    /// Returns the first value of a header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        });
        value.unwrap_or_default()
    }

    /// Asserts the status.
    ///
    /// # Panics
    ///
    /// Panics if it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

fn log_file(dir: &TempDir) -> PathBuf {
    dir.path().join("log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_parsed_with_and_without_cat() {
        for printed in [
            "HTTP/1.1 200 OK\r\nVary: a\r\nx-two: b: c\r\n\r\nbody\n\nmore",
            "HTTP/2 200 ^M\nvary: a^M\nx-two: b: c^M\n^M\nbody\n\nmore",
        ] {
            let answer = Answer::parse(printed).unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (200, "body\n\nmore"));
            assert_eq!(answer.header("vary"), "a");
            assert_eq!(answer.header("X-Two"), "b: c");
            assert_eq!(answer.header("two"), "");
        }
        assert!(Answer::parse("").is_none());
        assert!(Answer::parse("curl: (7)\n\n").is_none());
    }

    #[test]
    #[should_panic(expected = "ended")]
    fn output_of_a_program_that_ends_early_is_shown() {
        let program = find_program("false").unwrap();
        Example::start(&program, &[]);
    }
}
