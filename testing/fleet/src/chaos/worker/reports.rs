//! Reports to the driver: lines, which a thread collects and writes.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::chaos::wire::Report;

/// How long lines are collected.
const GATHER: Duration = Duration::from_millis(5);

/// Sends reports, which are written in the order of the calls.
#[derive(Debug, Clone)]
pub(super) struct Reports(Sender<String>);

impl Reports {
    /// Starts the writer, which ends when all clones are dropped.
    pub(super) fn start() -> (Self, JoinHandle<()>) {
        let (sender, lines) = mpsc::channel();
        // If the driver has ended, standard input ends too.
        let writer = thread::spawn(move || drop(write(&lines)));
        (Self(sender), writer)
    }

    pub(super) fn say(&self, report: &Report) {
        let _ = self.0.send(format!("{report}\n"));
    }
}

fn write(lines: &Receiver<String>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    while let Ok(line) = lines.recv() {
        out.write_all(line.as_bytes())?;
        for line in lines.try_iter() {
            out.write_all(line.as_bytes())?;
        }
        out.flush()?;
        thread::sleep(GATHER);
    }
    Ok(())
}
