//! A server in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A server that prints its address, and ends when its input is closed, which also happens if this program is
/// killed.
pub(crate) struct Server {
    process: Child,
    input: Option<ChildStdin>,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut said = BufReader::new(process.stdout.as_mut().expect("its output"));
        let mut line = String::new();
        said.read_line(&mut line).expect("an address");
        let input = process.stdin.take();
        let Ok(address) = line.trim().parse() else {
            drop(input);
            let ended = process.wait_with_output().expect("its end");
            panic!("{}", String::from_utf8_lossy(&ended.stderr));
        };
        Self {
            input,
            address,
            process,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops it, and returns its standard error.
    pub(crate) fn stop(mut self) -> String {
        drop(self.input.take());
        let ended = self.process.wait_with_output().expect("its end");
        String::from_utf8_lossy(&ended.stderr).into_owned()
    }
}
