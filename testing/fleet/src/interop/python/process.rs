//! The process of a node, which exchanges lines with the test.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::interop::python::message::Message;
use test_support::python;

/// Only limits how long a test can hang. It is long, because two cores may run many tests.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    said: Receiver<String>,
}

impl Process {
    pub(super) fn start(words: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/dify");
        let mut child = Command::new(python())
            // Write nothing beside the sources.
            .arg("-B")
            .arg(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let input = child.stdin.take().expect("it is piped");
        let output = child.stdout.take().expect("it is piped");
        let (lines, said) = mpsc::channel();
        // A thread, so that a read can time out. It ends with the process.
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, input, said }
    }

    pub(super) fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.input
            .write_all(line.as_bytes())
            .expect("the Python node is there; its last words are above");
    }

    pub(super) fn hear(&mut self) -> Message {
        match self.said.recv_timeout(PATIENCE) {
            Ok(line) => read(&line),
            Err(RecvTimeoutError::Timeout) => panic!("the Python node does not answer"),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the Python node has ended; see its output above")
            }
        }
    }

    pub(super) fn has_said(&mut self) -> Option<Message> {
        self.said.try_recv().ok().map(|line| read(&line))
    }
}

fn read(line: &str) -> Message {
    Message::parse(line).unwrap_or_else(|| panic!("the Python node said {line:?}"))
}

impl Drop for Process {
    fn drop(&mut self) {
        // It would end by itself when its input ends, but tests do not wait for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
