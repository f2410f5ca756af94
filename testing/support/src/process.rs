//! Starts, signals and ends server processes, and picks ports for them.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to start or to stop before a test fails. It is long, because two cores may run twenty
/// tests, and only limits how long a test can hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The interval of polling.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// Returns the first executable file called `name` on `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|dir| executable(&dir.join(name)))
}

/// Returns the absolute `path`, if it is an executable file.
///
/// Symbolic links are not resolved: Debian's `redis-server` is a link to a program that depends on its name.
pub(crate) fn executable(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let meta = path.metadata().ok()?;
    let runs = meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    runs.then(|| std::path::absolute(path).ok())?
}

/// Returns a command for `program` that gets the signal `on_orphaned` when this process dies for any reason; strictly
/// speaking, when the thread that spawned it ends.
///
/// `Drop` does not run in a test process that is killed (a timeout, Ctrl-C, an abort), and the server would keep its port
/// and its memory. The kernel's remedy is `PR_SET_PDEATHSIG`, which must be set in the child between fork and exec.
/// `pre_exec` is unsafe, and this workspace forbids unsafe code, so util-linux's `setpriv` sets it. It then executes the
/// server, which keeps the process id. Without such a `setpriv` (macOS, busybox) the server is started directly, and
/// remains if the test process is killed.
pub fn bound_to_us(program: &Path, on_orphaned: &str) -> Command {
    match setpriv() {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command
                .args(["--pdeathsig", on_orphaned, "--"])
                .arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Returns a `setpriv` with `--pdeathsig`, if there is one.
pub(crate) fn setpriv() -> Option<&'static Path> {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    SETPRIV
        .get_or_init(|| {
            let setpriv = find_program("setpriv")?;
            let help = Command::new(&setpriv).arg("--help").output().ok()?;
            String::from_utf8_lossy(&help.stdout)
                .contains("--pdeathsig")
                .then_some(setpriv)
        })
        .as_deref()
}

/// Spawns `command` on a thread that lives as long as this process.
///
/// The "parent" of `PR_SET_PDEATHSIG` is the *thread* that forked, not its process. If the thread of a test spawned a
/// server that several tests share, the server would be killed when that test ends.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("test-support-spawner".into())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("cannot start the thread that spawns servers");
        jobs
    });
    let (answer, spawned) = mpsc::sync_channel(1);
    spawner
        .send((command, answer))
        .expect("the spawner thread never ends");
    spawned.recv().expect("the spawner thread answers")
}

/// Calls `attempt` until it succeeds, and returns its result. An `Err` describes what is missing.
///
/// # Panics
///
/// Panics after [`PATIENCE`], with the last `Err` and `logs`.
#[track_caller]
pub(crate) fn wait_until<T>(
    what: &str,
    logs: impl FnOnce() -> String,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(missing) if Instant::now() >= deadline => {
                panic!(
                    "{what} did not come within {PATIENCE:?}: {missing}\n{}",
                    logs()
                )
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Calls `make` with `0..n`, each on a thread of its own, and returns the results.
pub(crate) fn side_by_side<T: Send>(n: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let make = &make;
        let threads: Vec<_> = (0..n).map(|i| scope.spawn(move || make(i))).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// A child process, which is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`, and appends its output to the file `log`.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        command
            // A group of its own: the kernel continues the stopped processes of a group that is orphaned, which happens
            // to that of a test run when its shell ends. A process that a test has paused would continue.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        spawn(command).map(|child| Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal`. It cannot reach another process: the id is ours until `wait` has collected it, and a collected
    /// `Process` gets no signals.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exited().is_some() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    /// Freezes the process (`SIGSTOP`): the kernel still accepts connections and bytes for it, but nothing answers.
    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
        // The signal is asynchronous: a running thread continues until the kernel interrupts it.
        wait_until_stopped(self.id());
    }

    /// Returns the exit status, if the process has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits up to `limit` for the process to end.
    pub(crate) fn wait_for(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    /// Kills the process, even a stopped one (`SIGSTOP`), and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until every thread of the process is stopped, where `/proc` shows that.
pub(crate) fn wait_until_stopped(pid: u32) {
    let stopped = |stat: String| {
        // "PID (NAME) STATE …", and NAME may contain anything.
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with(['T', 't', 'Z']))
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
            return;
        };
        if threads
            .flatten()
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
            .all(stopped)
        {
            return;
        }
        assert!(Instant::now() < deadline, "process {pid} does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns a loopback TCP port that is not in use.
///
/// A port from binding to 0 would be in the ephemeral range. While a server is down, another test's listener or outgoing
/// connection may get its port there, and a client that reconnects in a loop may get it as its *own* source port and
/// connect to itself. This picks a port below that range, and never the same twice in a process. Another process may still
/// take it first, so a server whose port is in use should try the next one, as [`RedisServer`](crate::RedisServer) does.
///
/// # Panics
///
/// Panics if no port in the range can be bound.
pub fn free_port() -> u16 {
    let bound = listen().local_addr();
    bound.expect("a bound listener has an address").port()
}

/// Returns a listener on such a port.
pub(crate) fn listen() -> TcpListener {
    const FIRST: u32 = 10_000;
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();

    let span = ephemeral_start().saturating_sub(FIRST).max(1_000);
    // Test binaries that run side by side start at different places.
    let next =
        NEXT.get_or_init(|| AtomicU32::new(RandomState::new().build_hasher().finish() as u32));
    for _ in 0..span {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % span;
        let port = u16::try_from(port).expect("the range ends below 65536");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
    panic!("no free TCP port between {FIRST} and {}", FIRST + span);
}

/// Returns the start of the ephemeral ports. Where the kernel does not tell, 32768 is low enough.
fn ephemeral_start() -> u32 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
        .min(60_000)
}

/// Returns the end of a server's log, for the message of a panic.
pub(crate) fn log_tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("(no log at {}: {error})", log.display()),
    };
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Returns whether a server's log reports that its port is in use.
pub(crate) fn port_was_taken(log: &Path) -> bool {
    log_tail(log)
        .to_lowercase()
        .contains("address already in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_bindable() {
        let mut ports: Vec<u16> = (0..50).map(|_| free_port()).collect();
        for &port in &ports {
            assert!(u32::from(port) < ephemeral_start().max(11_000));
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn missing_program_is_not_found() {
        assert_eq!(find_program("no-such-program-anywhere"), None);
        assert!(find_program("sh").is_some());
    }

    #[test]
    fn dropping_a_process_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let mut process = Process::spawn(sleep, &log).unwrap();
        assert_eq!(process.exited(), None);
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        drop(process);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn process_has_a_group_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let process = Process::spawn(sleep, &dir.path().join("log")).unwrap();
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        assert_eq!(rustix::process::getpgid(Some(pid)), Ok(pid));
    }
}
