//! A private Redis server, and just enough of its protocol to look inside.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{
    PATIENCE, POLL, Process, bound_to_us, executable, find_program, free_port, log_tail,
    port_was_taken,
};

/// How long a reply to [`RedisServer::command`] may take. A paused server never replies, and a test that asks one has a
/// bug that should show as a panic.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// A private `redis-server` on a loopback port, in its own directory, that ends with this value.
///
/// The store's promises (no stale grant after a revocation, no lost fence) are promises about what a real Redis does
/// with our scripts, evictions, restarts and stalls, so the tests use one. It is fresh and nobody else's: a test may
/// flush it, fill it, freeze it or kill it without asking its neighbours, and needs no key prefix to be safe from them.
///
/// Everything takes `&self`, so a server can be shared (`Arc`, or a `static`), and blocks the calling thread for some
/// milliseconds (a start takes about twenty), which is harmless in a tokio test too.
///
/// [`command`](Self::command) speaks the protocol by itself: what a test learns about the server does not pass through
/// the client under test.
///
/// ```
/// use test_support::RedisServer;
///
/// let redis = RedisServer::start();
/// redis.command(&["SET", "greeting", "hello"]).ok();
/// assert_eq!(redis.get("greeting").as_deref(), Some(&b"hello"[..]));
///
/// redis.restart();
/// assert_eq!(redis.get("greeting"), None);
/// ```
#[derive(Debug)]
pub struct RedisServer {
    // Before `dir`: the process ends first, then its directory goes.
    process: Mutex<Option<Process>>,
    program: PathBuf,
    args: Vec<String>,
    port: u16,
    dir: TempDir,
}

impl RedisServer {
    /// Starts a server without persistence.
    ///
    /// The program is `redis-server` on `PATH`, or the one that the environment variable `REDIS_SERVER` names.
    ///
    /// # Panics
    ///
    /// When there is no such program, or when it does not answer in time; the message has the end of its log.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`start`](Self::start), with more arguments, such as `&["--maxmemory", "2mb"]`. They come last, so they win
    /// over ours.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    pub fn start_with(args: &[&str]) -> Self {
        let program = program();
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        // A few ports, because another process can take the port between our look and Redis's bind (or a child that is
        // just being forked has a copy of the socket we looked with). Not a retry of anything else: every other failure
        // panics in `launch`.
        for _ in 0..10 {
            let dir = tempfile::Builder::new()
                .prefix("redis-")
                .tempdir()
                .expect("cannot make a directory for redis-server");
            let port = free_port();
            if let Some(process) = launch(&program, &args, port, dir.path()) {
                return Self {
                    process: Mutex::new(Some(process)),
                    program,
                    args,
                    port,
                    dir,
                };
            }
        }
        panic!("redis-server found every port taken that we tried");
    }

    /// `redis://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.addr())
    }

    /// The port, which stays the same across [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The loopback address and port, for a [`FaultProxy`](crate::FaultProxy) to point at.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The process id, or `None` after [`kill`](Self::kill).
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Runs one command on a connection of its own and returns the reply; a Redis error is a [`Reply::Error`].
    ///
    /// # Panics
    ///
    /// When the server cannot be reached, or is silent for ten seconds.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&self, args: &[A]) -> Reply {
        match self.try_command(args) {
            Ok(reply) => reply,
            Err(error) => panic!(
                "redis-server on port {} did not answer {:?}: {error}\n{}",
                self.port,
                args.first()
                    .map(|name| String::from_utf8_lossy(name.as_ref())),
                log_tail(&log_file(self.dir.path())),
            ),
        }
    }

    /// Like [`command`](Self::command), for a server that may be down or paused.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or is silent for ten seconds.
    pub fn try_command<A: AsRef<[u8]>>(&self, args: &[A]) -> io::Result<Reply> {
        Connection::open(self.addr(), REPLY_LIMIT)?.command(args)
    }

    /// The bytes at a key. Counts as a `GET` in [`command_count`](Self::command_count).
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.command(&["GET", key]) {
            Reply::Nil => None,
            Reply::Bulk(bytes) => Some(bytes),
            other => panic!("GET {key}: {other:?}"),
        }
    }

    /// The keys that match a pattern (`*` for all), sorted.
    #[track_caller]
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<_> = self
            .command(&["KEYS", pattern])
            .array()
            .into_iter()
            .map(|key| String::from_utf8_lossy(&key.bytes()).into_owned())
            .collect();
        keys.sort_unstable();
        keys
    }

    /// Removes every key.
    #[track_caller]
    pub fn flushall(&self) {
        self.command(&["FLUSHALL"]).ok();
    }

    /// How often a command was called since the start or the last [`reset_stats`](Self::reset_stats), from
    /// `INFO commandstats`.
    ///
    /// Any letter case; a subcommand is `"script|load"`. What a script calls counts as well as the script, and so do the
    /// calls made through this value.
    #[track_caller]
    pub fn command_count(&self, name: &str) -> u64 {
        let stats = self.command(&["INFO", "commandstats"]).text();
        let prefix = format!("cmdstat_{}:calls=", name.to_ascii_lowercase());
        stats
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.split(',').next()?.parse().ok())
            .unwrap_or(0)
    }

    /// Sets every [`command_count`](Self::command_count) to zero.
    #[track_caller]
    pub fn reset_stats(&self) {
        self.command(&["CONFIG", "RESETSTAT"]).ok();
    }

    /// Records every command that the server runs from now on, as an eavesdropper on it would see them.
    #[track_caller]
    pub fn monitor(&self) -> Monitor {
        let open = || {
            let mut connection = Connection::open(self.addr(), REPLY_LIMIT)?;
            connection.command(&["MONITOR"])?.ok();
            io::Result::Ok(connection)
        };
        Monitor {
            connection: open().expect("redis-server refuses MONITOR"),
            addr: self.addr(),
            marks: 0,
        }
    }

    /// Ends the process at once (`SIGKILL`), as a crash would. Does nothing if it is down already.
    pub fn kill(&self) {
        // Dropping a process kills and collects it.
        self.process().take();
    }

    /// Starts the server again on the same port, empty: [`kill`](Self::kill) first, if it is still up.
    ///
    /// # Panics
    ///
    /// When it does not answer in time, or when something else has taken its port.
    pub fn restart(&self) {
        let mut process = self.process();
        process.take();
        // No other port will do here, so wait for ours: the kernel may take a moment to give it back.
        let deadline = Instant::now() + PATIENCE;
        while process.is_none() {
            *process = launch(&self.program, &self.args, self.port, self.dir.path());
            assert!(
                process.is_some() || Instant::now() < deadline,
                "something else has taken port {} while redis-server was down",
                self.port
            );
        }
    }

    /// Freezes the process (`SIGSTOP`): the kernel still accepts connections and bytes for it, and nothing answers.
    /// This is what an overloaded or swapping server looks like from outside.
    ///
    /// # Panics
    ///
    /// When the server is down.
    pub fn pause(&self) {
        let mut process = self.process();
        let process = process
            .as_mut()
            .expect("redis-server is down, so it cannot be paused");
        process.signal(Signal::STOP);
        // The signal is sent, not yet acted upon: a thread that is running goes on until the kernel interrupts it.
        wait_until_stopped(process.id());
    }

    /// Lets a paused process go on. It first answers what it was asked meanwhile.
    pub fn resume(&self) {
        if let Some(process) = self.process().as_mut() {
            process.signal(Signal::CONT);
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A panic in `restart` leaves `None`, which is what it then is: down.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn program() -> PathBuf {
    const ADVICE: &str = "run scripts/test, which installs it";
    match std::env::var_os("REDIS_SERVER") {
        Some(path) => executable(Path::new(&path)).unwrap_or_else(|| {
            panic!("REDIS_SERVER names {path:?}, which is no program; unset it and {ADVICE}")
        }),
        None => find_program("redis-server")
            .unwrap_or_else(|| panic!("redis-server is not on PATH; {ADVICE}")),
    }
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("redis.log")
}

/// A server that answers, or `None` if its port was taken.
fn launch(program: &Path, args: &[String], port: u16, dir: &Path) -> Option<Process> {
    let log = log_file(dir);
    let _ = std::fs::remove_file(&log);
    let mut command = bound_to_us(program, "KILL");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(dir)
        .args(args)
        .current_dir(dir);
    let mut process = Process::spawn(command, &log)
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));

    let addr = (Ipv4Addr::LOCALHOST, port).into();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Our process, not just any server on the port: a stranger's would answer PING as well.
        if answers_as(addr, process.id()) {
            return Some(process);
        }
        if let Some(status) = process.exited() {
            if port_was_taken(&log) {
                return None;
            }
            panic!("redis-server ended at once ({status}):\n{}", log_tail(&log));
        }
        assert!(
            Instant::now() < deadline,
            "redis-server did not answer within {PATIENCE:?}:\n{}",
            log_tail(&log)
        );
        thread::sleep(POLL);
    }
}

/// Whether the server at `addr` answers `PING` and is the process `pid`.
fn answers_as(addr: SocketAddr, pid: u32) -> bool {
    let ask = || {
        let mut connection = Connection::open(addr, Duration::from_secs(1))?;
        let pong = connection.command(&["PING"])?;
        let info = connection.command(&["INFO", "server"])?;
        io::Result::Ok((pong, info))
    };
    match ask() {
        // A password set through `start_with` is an answer too; it is then up to the test to use it.
        Ok((Reply::Error(refusal), _)) => refusal.starts_with("NOAUTH"),
        Ok((Reply::Simple(pong), Reply::Bulk(info))) => {
            pong == "PONG"
                && String::from_utf8_lossy(&info)
                    .lines()
                    .any(|line| line.strip_prefix("process_id:") == Some(pid.to_string().as_str()))
        }
        _ => false,
    }
}

/// Waits until every thread of the process is stopped, where the kernel tells (`/proc`).
fn wait_until_stopped(pid: u32) {
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

/// What Redis answers (RESP2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// No value: a null string or a null array.
    Nil,
    /// An integer.
    Int(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// A status such as `OK`.
    Simple(String),
    /// An error, with its code first: `WRONGTYPE Operation against…`.
    Error(String),
    /// A list of replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// Asserts that this is the status `OK`.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[track_caller]
    pub fn ok(self) {
        assert_eq!(self, Reply::Simple("OK".into()));
    }

    /// The integer.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[track_caller]
    pub fn int(self) -> i64 {
        match self {
            Reply::Int(int) => int,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    /// The bytes of a string or a status.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[track_caller]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Reply::Bulk(bytes) => bytes,
            Reply::Simple(text) => text.into_bytes(),
            other => panic!("expected a string, got {other:?}"),
        }
    }

    /// The text of a string or a status.
    ///
    /// # Panics
    ///
    /// When it is anything else, or not UTF-8.
    #[track_caller]
    pub fn text(self) -> String {
        String::from_utf8(self.bytes()).expect("the reply is not UTF-8")
    }

    /// The list.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[track_caller]
    pub fn array(self) -> Vec<Reply> {
        match self {
            Reply::Array(items) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }
}

/// A running `MONITOR`: every command that the server has run since it began.
///
/// For what a test asserts about the traffic itself, such as that no token's text is ever sent.
#[derive(Debug)]
pub struct Monitor {
    connection: Connection,
    addr: SocketAddr,
    marks: u64,
}

impl Monitor {
    /// The commands since the last call (or the beginning) as `MONITOR` prints them:
    /// `1700000000.123456 [0 127.0.0.1:5000] "GET" "key"`, with `lua` as the address for what a script called.
    ///
    /// Complete without waiting: it sends a marker through the server and reads up to it. Every command that was
    /// *answered* before this call is in the list.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub fn take(&mut self) -> Vec<String> {
        self.marks += 1;
        let mark = format!("test-support-mark-{}", self.marks);
        Connection::open(self.addr, REPLY_LIMIT)
            .and_then(|mut other| other.command(&["ECHO", &mark]))
            .expect("redis-server does not take the monitor's mark");
        let end = format!("\"ECHO\" \"{mark}\"");
        let mut lines = Vec::new();
        loop {
            let line = self
                .connection
                .reply()
                .expect("redis-server does not report to the monitor")
                .text();
            if line.ends_with(&end) {
                return lines;
            }
            lines.push(line);
        }
    }
}

/// A blocking connection.
#[derive(Debug)]
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream)
    }
}

fn read_reply(from: &mut impl BufRead) -> io::Result<Reply> {
    let broken = |line: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not a Redis reply: {line:?}"),
        )
    };

    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line);
    let Some(text) = line.strip_suffix("\r\n") else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let (kind, text) = text.split_at_checked(1).ok_or_else(|| broken(text))?;
    let number = || text.parse::<i64>().map_err(|_| broken(&line));
    match kind {
        "+" => Ok(Reply::Simple(text.into())),
        "-" => Ok(Reply::Error(text.into())),
        ":" => number().map(Reply::Int),
        "$" | "*" => {
            let Ok(len) = usize::try_from(number()?) else {
                return Ok(Reply::Nil);
            };
            if kind == "*" {
                return (0..len)
                    .map(|_| read_reply(from))
                    .collect::<Result<_, _>>()
                    .map(Reply::Array);
            }
            let mut bytes = vec![0; len + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(len);
            Ok(Reply::Bulk(bytes))
        }
        _ => Err(broken(&line)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::process::setpriv;

    fn replies(bytes: &[u8]) -> io::Result<Reply> {
        read_reply(&mut &bytes[..])
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        assert_eq!(replies(b"+OK\r\n").unwrap(), Reply::Simple("OK".into()));
        assert_eq!(
            replies(b"-ERR no\r\n").unwrap(),
            Reply::Error("ERR no".into())
        );
        assert_eq!(replies(b":-7\r\n").unwrap(), Reply::Int(-7));
        assert_eq!(replies(b"$-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(replies(b"*-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(
            replies(b"$4\r\na\r\nb\r\n").unwrap(),
            Reply::Bulk(b"a\r\nb".to_vec())
        );
        assert_eq!(
            replies(b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n").unwrap(),
            Reply::Array(vec![Reply::Int(1), Reply::Array(vec![Reply::Bulk(vec![])])])
        );
        assert!(replies(b"").is_err());
        assert!(replies(b"?\r\n").is_err());
        assert!(replies(b"$5\r\nabc").is_err());
    }

    #[test]
    fn server_answers_and_is_empty() {
        let redis = RedisServer::start();
        assert_eq!(redis.url(), format!("redis://127.0.0.1:{}/", redis.port()));
        assert_eq!(redis.keys("*"), Vec::<String>::new());
        redis.command(&["SET", "b", "\r\n"]).ok();
        redis.command(&[&b"SET"[..], b"a", b"\xff\0"]).ok();
        assert_eq!(redis.get("a").unwrap(), b"\xff\0");
        assert_eq!(redis.get("b").unwrap(), b"\r\n");
        assert_eq!(redis.get("c"), None);
        assert_eq!(redis.keys("*"), ["a", "b"]);
        assert_eq!(redis.command(&["INCR", "n"]).int(), 1);
        assert!(matches!(redis.command(&["INCR", "a"]), Reply::Error(_)));
        redis.flushall();
        assert_eq!(redis.keys("*"), Vec::<String>::new());
    }

    #[test]
    fn extra_arguments_reach_the_server() {
        let redis =
            RedisServer::start_with(&["--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru"]);
        let policy = redis.command(&["CONFIG", "GET", "maxmemory*"]).array();
        assert!(policy.contains(&Reply::Bulk(b"2097152".to_vec())));
        assert!(policy.contains(&Reply::Bulk(b"allkeys-lru".to_vec())));
    }

    #[test]
    fn server_with_a_password_starts() {
        let redis = RedisServer::start_with(&["--requirepass", "secret"]);
        assert!(matches!(redis.command(&["PING"]), Reply::Error(_)));
    }

    #[test]
    #[should_panic(expected = "no-such-option")]
    fn failed_start_shows_the_log() {
        RedisServer::start_with(&["--no-such-option", "1"]);
    }

    #[test]
    fn commands_are_counted() {
        let redis = RedisServer::start();
        assert_eq!(redis.command_count("GET"), 0);
        redis.get("a");
        redis.get("a");
        assert_eq!(redis.command_count("get"), 2);
        redis.command(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "a"]);
        assert_eq!(redis.command_count("EVAL"), 1);
        assert_eq!(redis.command_count("GET"), 3);
        redis.reset_stats();
        assert_eq!(redis.command_count("GET"), 0);
    }

    #[test]
    fn monitor_sees_what_others_send() {
        let redis = RedisServer::start();
        let mut monitor = redis.monitor();
        redis.get("first");
        let seen = monitor.take();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(seen[0].ends_with(r#""GET" "first""#), "{seen:?}");
        assert!(monitor.take().is_empty());
    }

    #[test]
    fn killed_server_refuses_and_restarts_empty_on_its_port() {
        let redis = RedisServer::start();
        let first = redis.pid().unwrap();
        redis.command(&["SET", "a", "1"]).ok();
        redis.kill();
        redis.kill();
        assert_eq!(redis.pid(), None);
        let refused = redis.try_command(&["PING"]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        redis.restart();
        assert_ne!(redis.pid().unwrap(), first);
        assert_eq!(redis.get("a"), None);
        redis.restart();
        assert_eq!(redis.get("a"), None);
    }

    #[test]
    fn paused_server_is_silent_and_answers_when_resumed() {
        let redis = RedisServer::start();
        let mut connection = Connection::open(redis.addr(), REPLY_LIMIT).unwrap();
        let socket = connection.stream.get_ref().try_clone().unwrap();
        redis.pause();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let silence = connection.command(&["PING"]).unwrap_err();
        assert!(
            matches!(
                silence.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
            "{silence}"
        );
        redis.resume();
        socket.set_read_timeout(Some(REPLY_LIMIT)).unwrap();
        assert_eq!(connection.reply().unwrap(), Reply::Simple("PONG".into()));
    }

    #[test]
    fn port_of_another_server_is_not_mistaken_for_ours() {
        let redis = RedisServer::start();
        let program = program();
        let dir = tempfile::tempdir().unwrap();
        assert!(launch(&program, &[], redis.port(), dir.path()).is_none());
    }

    #[test]
    fn dropping_the_server_ends_its_process_even_when_paused() {
        for paused in [false, true] {
            let redis = RedisServer::start();
            let pid = i32::try_from(redis.pid().unwrap()).unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let (dir, port) = (redis.dir.path().to_owned(), redis.port());
            assert!(dir.exists());
            if paused {
                redis.pause();
            }
            drop(redis);
            assert!(rustix::process::test_kill_process(pid).is_err());
            assert!(!dir.exists());
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");
        }
    }

    #[test]
    fn server_outlives_the_thread_that_started_it() {
        let redis = thread::spawn(RedisServer::start).join().unwrap();
        redis.command(&["PING"]).text();
    }

    /// Run by the next test in a process of its own.
    #[test]
    #[ignore = "proves nothing by itself: the next test starts it and kills it"]
    fn start_a_server_and_wait_to_be_killed() {
        let redis = RedisServer::start();
        println!("\nserver at {}", redis.addr());
        // Ends with the other test too, if that one fails first.
        let _ = io::stdin().read_line(&mut String::new());
    }

    #[test]
    fn killing_the_test_process_ends_its_server() {
        if setpriv().is_none() {
            // Without it there is no such promise (see `bound_to_us`).
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut test = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("redis::tests::start_a_server_and_wait_to_be_killed")
            // So that what it leaves behind goes with our directory.
            .env("TMPDIR", dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let addr: SocketAddr = BufReader::new(test.stdout.take().unwrap())
            .lines()
            .find_map(|line| line.unwrap().strip_prefix("server at ")?.parse().ok())
            .expect("the other process says where its server is");
        assert!(TcpStream::connect(addr).is_ok());
        test.kill().unwrap();
        test.wait().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(addr).is_ok() {
            assert!(
                Instant::now() < deadline,
                "the server outlived the process that started it"
            );
            thread::sleep(POLL);
        }
    }
}
