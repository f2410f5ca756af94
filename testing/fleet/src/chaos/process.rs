//! The driver's side of a worker's process.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use test_support::bound_to_us;

use crate::chaos::books::lock;
use crate::chaos::wire::{Order, Report};
use crate::chaos::worker::Options;

/// A running worker. Dropping it kills it.
pub struct Process {
    child: Mutex<Child>,
    input: Mutex<Option<ChildStdin>>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Process {
    /// Starts `program` (this program) as a worker. `on_report` is called for each of its reports, in order, and
    /// dropped when the worker has ended.
    ///
    /// Where the system supports it, the worker dies with the thread that calls this. So a driver that is killed
    /// leaves no worker behind, not even a stopped one.
    ///
    /// # Errors
    /// Returns an error if the process cannot be started.
    pub fn start(
        program: &Path,
        options: &Options,
        mut on_report: impl FnMut(Report) + Send + 'static,
    ) -> io::Result<Self> {
        let mut child = bound_to_us(program, "KILL")
            .args(options.to_words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("it is piped");
        let reader = thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            // The last line of a worker that was killed may be cut.
            while output.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
                match line.parse() {
                    Ok(report) => on_report(report),
                    Err(_) => panic!("a worker said {line:?}"),
                }
                line.clear();
            }
        });
        Ok(Self {
            child: Mutex::new(child),
            input: Mutex::new(input),
            reader: Mutex::new(Some(reader)),
        })
    }

    /// Sends an order.
    ///
    /// # Errors
    /// Returns an error if the worker has ended.
    pub fn order(&self, order: Order) -> io::Result<()> {
        match lock(&self.input).as_mut() {
            Some(input) => input.write_all(format!("{order}\n").as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Stops the process (`SIGSTOP`).
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues a stopped process.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills the process, as in a crash, and processes its last reports.
    pub fn kill(&self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        self.collect();
    }

    /// Lets the process finish, and processes its last reports.
    pub fn finish(&self) {
        lock(&self.input).take();
        self.go_on();
        self.collect();
        let _ = lock(&self.child).wait();
    }

    fn collect(&self) {
        let reader = lock(&self.reader).take();
        if let Some(reader) = reader {
            reader.join().expect("a worker's reports are valid");
        }
    }

    /// Sends a signal. It cannot reach another process, because the id is the worker's until `wait` has collected it.
    fn signal(&self, signal: Signal) {
        let mut child = lock(&self.child);
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}
