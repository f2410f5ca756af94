//! A worker's process, as the driver holds it.

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
    /// Starts `program` (this very program) as a worker. `on_report` is called for each of its
    /// reports, in order, and dropped when it has ended.
    ///
    /// The worker dies with the thread that calls this, where the system can do that: a driver that
    /// is killed leaves nothing behind, not even a worker that is stopped.
    ///
    /// # Errors
    /// It cannot be started.
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

    /// Gives an order.
    ///
    /// # Errors
    /// The worker has gone.
    pub fn order(&self, order: Order) -> io::Result<()> {
        match lock(&self.input).as_mut() {
            Some(input) => input.write_all(format!("{order}\n").as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Stops it where it is (`SIGSTOP`).
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it at once, as a crash would, and takes what it had said.
    pub fn kill(&self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        self.collect();
    }

    /// Has it finish what it does, and takes its last reports.
    pub fn finish(&self) {
        lock(&self.input).take();
        self.go_on();
        self.collect();
        let _ = lock(&self.child).wait();
    }

    fn collect(&self) {
        let reader = lock(&self.reader).take();
        if let Some(reader) = reader {
            reader.join().expect("a worker speaks our language");
        }
    }

    /// Cannot reach a stranger: until `wait` has collected it the process id is the worker's.
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
