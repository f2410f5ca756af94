//! Starting, signalling and ending server processes, and choosing ports for them.

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

/// How long a server may take to start or to stop before a test fails. Generous, because two cores may be running
/// twenty tests: it bounds a hang and is no measure of anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a wait looks again, where the other side has no way to tell us.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// The first executable file called `name` on `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|dir| executable(&dir.join(name)))
}

/// The absolute `path`, if it is a file that someone may execute.
///
/// Symbolic links are not resolved: `redis-server` is one in Debian, to a program that goes by its own name.
pub(crate) fn executable(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let meta = path.metadata().ok()?;
    let runs = meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    runs.then(|| std::path::absolute(path).ok())?
}

/// A command for `program` that gets the signal `on_orphaned` when this process dies, however it dies; or, strictly, the
/// thread that spawns it.
///
/// `Drop` does not run in a test process that is killed (a time limit, Ctrl-C, an abort), and a forgotten server would
/// keep its port and its memory. The kernel's answer is `PR_SET_PDEATHSIG`, which must be set in the child between fork
/// and exec. `pre_exec` is unsafe and this workspace forbids unsafe code, so util-linux's `setpriv` sets it: it then
/// *becomes* the server (exec), so the process id stays the one we spawned. Without such a `setpriv` (macOS, busybox) the
/// server is started plainly, and only a killed test process leaves it behind.
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

/// The `setpriv` that knows `--pdeathsig`, if this machine has one.
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
/// The "parent" of `PR_SET_PDEATHSIG` is the *thread* that forked, not its process. Spawned from the thread of a test,
/// a server shared by several tests would be killed when the first of them ends.
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

/// What `attempt` finds, asked again and again until it finds something; `Err` says what is still missing.
///
/// # Panics
///
/// After [`PATIENCE`], with the last `Err` and `logs`.
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

/// What `make` makes of `0..n`, all at the same time.
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

/// One child process, ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` with its output going to the end of the file `log`.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        command
            // A group of its own: the kernel continues the stopped processes of a group that becomes an orphan, as a test
            // run's does whose shell ends. What a test has paused would go on by itself.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        spawn(command).map(|child| Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal`. Cannot reach a stranger: the process id is ours until `wait` has collected it, and a `Process`
    /// that was collected is not signalled again.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exited().is_some() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    /// The exit status, if the process has ended by itself or by a signal.
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

    /// Ends the process at once and waits until it is gone. Ends a stopped (`SIGSTOP`) process too.
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

/// A loopback TCP port that nothing listens on.
///
/// Not the usual "bind to 0 and close": the kernel hands those out from the ephemeral range, where the port of a server
/// that is down for a moment is up for grabs. Another test's listener or outgoing connection may get it, and a client that
/// reconnects to it in a loop may even be given it as its *own* source port and connect to itself. This picks below that
/// range, and never the same port twice in a process. Another process may still take it before you do, so a server
/// that finds its port taken should ask for the next one ([`RedisServer`](crate::RedisServer) does).
///
/// # Panics
///
/// Panics if no port in the range can be bound.
pub fn free_port() -> u16 {
    let bound = listen().local_addr();
    bound.expect("a bound listener has an address").port()
}

/// A listener on such a port.
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

/// Where the kernel's ephemeral ports begin: Linux says, elsewhere 32768 is low enough.
fn ephemeral_start() -> u32 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
        .min(60_000)
}

/// The end of a server's log, for the message of a panic.
pub(crate) fn log_tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("(no log at {}: {error})", log.display()),
    };
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Whether a server's log says that it ended because its port was taken.
pub(crate) fn port_was_taken(log: &Path) -> bool {
    log_tail(log).contains("Address already in use")
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
    fn a_process_has_a_group_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let process = Process::spawn(sleep, &dir.path().join("log")).unwrap();
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        assert_eq!(rustix::process::getpgid(Some(pid)), Ok(pid));
    }
}
