//! The way back to the driver: lines, gathered and written by a thread of its own.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::chaos::wire::Report;

/// For how long lines are gathered.
const GATHER: Duration = Duration::from_millis(5);

/// Where reports are left. They are written in the order in which they were said.
#[derive(Debug, Clone)]
pub(super) struct Reports(Sender<String>);

impl Reports {
    /// The writer ends when all clones are gone.
    pub(super) fn start() -> (Self, JoinHandle<()>) {
        let (sender, lines) = mpsc::channel();
        // A driver that has gone is no matter: standard input says so too.
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
