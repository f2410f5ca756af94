//! A private Redis server, and enough of its protocol to inspect it.

mod launch;
mod monitor;
mod node;
mod version;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{PATIENCE, Process, free_port, log_tail, wait_until};
use launch::{launch, log_file, remove_data};
use wire::{Connection, REPLY_LIMIT};

pub(crate) use launch::{ReplicationSecret, plain_args, program};
pub use monitor::Monitor;
pub(crate) use node::node_args;
pub use version::Feature;
pub(crate) use version::is_before_7;
pub use wire::Reply;

/// The name of the Unix socket in the server's directory.
///
/// The server gets a path relative to its directory, so that the kernel's limit of about a hundred bytes applies to the
/// client's path only.
const SOCKET: &str = "redis.sock";

/// A private `redis-server` on a loopback port, in a directory of its own. Dropping it ends the process.
///
/// The store's promises depend on what a real Redis does with our scripts, evictions, restarts and stalls, so the tests
/// use one. It is empty at first, and no other test uses it: a test may flush, fill, freeze or kill it, and needs no key
/// prefix.
///
/// All methods take `&self`, so a server can be shared (`Arc`, or a `static`). They block the calling thread for some
/// milliseconds (a start takes about twenty), which is harmless in a tokio test too.
///
/// [`command`](Self::command) has an implementation of the protocol of its own, so that tests inspect the server without
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
    // Before `dir`: the process ends before its directory is removed.
    process: Mutex<Option<Process>>,
    paused: AtomicBool,
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
    /// Panics if there is no such program, or if it does not answer in time, with the end of its log.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, such as `&["--maxmemory", "2mb"]`. They come last, so they override ours:
    /// `&["--appendonly", "yes"]` or `&["--save", "1 1"]` make it persistent (see
    /// [`restart_from_file`](Self::restart_from_file)).
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`start`](Self::start).
    pub fn start_with(args: &[&str]) -> Self {
        Self::start_program(&program(), args)
    }

    /// Starts another program with these arguments: another version, or `valkey_server`.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`start`](Self::start).
    pub fn start_program(program: &Path, args: &[&str]) -> Self {
        Self::start_in(program, |_, port| {
            let mut all = plain_args(port);
            all.extend(args.iter().map(ToString::to_string));
            all
        })
    }

    /// Starts a server that also listens on a Unix socket ([`unix_url`](Self::unix_url)).
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`start`](Self::start).
    pub fn start_unix() -> Self {
        Self::start_with(&["--unixsocket", SOCKET])
    }

    /// Starts a master and a replica, and waits until the replica follows. No other server can attach to them.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`start`](Self::start), and if the replica does not follow in time.
    pub fn start_with_replica() -> (Self, Self) {
        let (program, secret) = (program(), ReplicationSecret::new());
        let start = |of: Option<&Self>| {
            Self::start_in(&program, |_, port| {
                let mut all = plain_args(port);
                all.extend(secret.args());
                all.extend(["--repl-diskless-sync-delay".into(), "0".into()]);
                if let Some(master) = of {
                    let port = master.port().to_string();
                    all.extend(["--replicaof".into(), "127.0.0.1".into(), port]);
                }
                all
            })
        };
        let master = start(None);
        let replica = start(Some(&master));
        let logs = || format!("{}\n{}", master.log_tail(), replica.log_tail());
        wait_until("the replica", logs, || {
            let info = master.replication();
            info.contains("state=online").then_some(()).ok_or(info)
        });
        (master, replica)
    }

    /// Returns the section `replication` of `INFO`.
    #[track_caller]
    pub fn replication(&self) -> String {
        self.command(&["INFO", "replication"]).text()
    }

    /// Returns the number of attached replicas.
    #[track_caller]
    pub fn connected_replicas(&self) -> u32 {
        let count = self.info("replication", "connected_slaves");
        count.expect("every server has a count")
    }

    /// Starts `program` with the arguments that `args` returns for the server's directory and port.
    pub(crate) fn start_in(
        program: &Path,
        mut args: impl FnMut(&Path, u16) -> Vec<String>,
    ) -> Self {
        // Tries several ports, because another process can take a port between our check and Redis's bind, and because a
        // child that is being forked has a copy of the socket of our check. Every other failure panics in `launch`.
        (0..10)
            .find_map(|_| Self::start_on(program, free_port(), &mut args))
            .expect("a port that was tried for redis-server is free")
    }

    /// Starts `program` on a given port. Returns `None` if the port is in use.
    pub(crate) fn start_on(
        program: &Path,
        port: u16,
        args: impl FnOnce(&Path, u16) -> Vec<String>,
    ) -> Option<Self> {
        let dir = tempfile::Builder::new()
            .prefix("redis-")
            .tempdir()
            .expect("cannot make a directory for redis-server");
        let args = args(dir.path(), port);
        let process = launch(program, &args, port, dir.path())?;
        Some(Self {
            process: Mutex::new(Some(process)),
            paused: AtomicBool::new(false),
            program: program.to_owned(),
            args,
            port,
            dir,
        })
    }

    /// Returns `redis://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.addr())
    }

    /// Returns `redis+unix:///PATH`, the form of redis-rs (`?db=1` may follow).
    ///
    /// # Panics
    ///
    /// Panics if the server was not started by [`start_unix`](Self::start_unix).
    #[track_caller]
    pub fn unix_url(&self) -> String {
        format!("redis+unix://{}", self.unix_path().display())
    }

    /// Returns the path of the Unix socket.
    ///
    /// # Panics
    ///
    /// Panics if the server was not started by [`start_unix`](Self::start_unix).
    #[track_caller]
    pub fn unix_path(&self) -> PathBuf {
        assert!(
            self.args.iter().any(|arg| arg == SOCKET),
            "this server has no Unix socket: use RedisServer::start_unix"
        );
        self.dir.path().join(SOCKET)
    }

    /// Returns its working directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the port, which a [`restart`](Self::restart) does not change.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the loopback address and port, for a [`FaultProxy`](crate::FaultProxy).
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the process id, or `None` after [`kill`](Self::kill).
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Runs one command on a connection of its own and returns the reply; a Redis error is a [`Reply::Error`].
    ///
    /// # Panics
    ///
    /// Panics if the server cannot be reached, or does not answer within ten seconds.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&self, args: &[A]) -> Reply {
        match self.try_command(args) {
            Ok(reply) => reply,
            Err(error) => panic!(
                "redis-server on port {} did not answer {:?}: {error}\n{}",
                self.port,
                args.first()
                    .map(|name| String::from_utf8_lossy(name.as_ref())),
                self.log_tail(),
            ),
        }
    }

    /// Runs one command on a server that may be down or paused.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot be reached, or does not answer within ten seconds.
    pub fn try_command<A: AsRef<[u8]>>(&self, args: &[A]) -> io::Result<Reply> {
        Connection::open(self.addr(), REPLY_LIMIT)?.command(args)
    }

    /// Returns the bytes of a key. It counts as a `GET` in [`command_count`](Self::command_count).
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.command(&["GET", key]) {
            Reply::Nil => None,
            Reply::Bulk(bytes) => Some(bytes),
            other => panic!("GET {key}: {other:?}"),
        }
    }

    /// Returns the keys that match a pattern (`*` for all), sorted.
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

    /// Returns everything that is stored, in lines: each key, its value, and its `DUMP`.
    ///
    /// # Panics
    ///
    /// Panics if a key has another type than string, set or hash, because its value would be missing.
    #[track_caller]
    pub fn contents(&self) -> Vec<u8> {
        let mut contents = Vec::new();
        for key in self.keys("*") {
            let value = match self.command(&["TYPE", &key]).text().as_str() {
                "string" => self.command(&["GET", &key]),
                "set" => self.command(&["SMEMBERS", &key]),
                "hash" => self.command(&["HGETALL", &key]),
                // The key has expired.
                "none" => continue,
                other => panic!("{key} is a {other}, which is not looked into"),
            };
            contents.extend_from_slice(key.as_bytes());
            for reply in [value, self.command(&["DUMP", &key])] {
                contents.push(b'\n');
                reply.write_to(&mut contents);
            }
            contents.push(b'\n');
        }
        contents
    }

    /// Removes every key.
    #[track_caller]
    pub fn flushall(&self) {
        self.command(&["FLUSHALL"]).ok();
    }

    /// Returns a number of a section of `INFO`, such as `total_commands_processed` in `stats`. Returns `None` if there is
    /// no such field.
    #[track_caller]
    pub fn info<N: FromStr>(&self, section: &str, field: &str) -> Option<N> {
        self::field(&self.command(&["INFO", section]).text(), field)
    }

    /// Returns how often a command was called since the start or the last [`reset_stats`](Self::reset_stats), from
    /// `INFO commandstats`.
    ///
    /// The name may have any letter case; a subcommand is `"script|load"`. Commands that a script or this value called
    /// count too.
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

    /// Records every command that the server runs from now on.
    #[track_caller]
    pub fn monitor(&self) -> Monitor {
        Monitor::start(self.addr())
    }

    /// Kills the process (`SIGKILL`), as in a crash. Does nothing if it is down already.
    pub fn kill(&self) {
        self.end(&mut self.process());
    }

    /// Restarts the server on the same port, after a [`kill`](Self::kill) if it is up. It is empty, because saved data is
    /// removed.
    ///
    /// # Panics
    ///
    /// Panics if it does not answer in time, or if another process has taken its port.
    pub fn restart(&self) {
        let mut process = self.process();
        self.end(&mut process);
        remove_data(self.dir.path());
        self.start_again(&mut process);
    }

    /// Restarts the server on the same port with its data on disk, as after a crash. It is [killed](Self::kill) first if it
    /// is up.
    ///
    /// Writes since the last save (`SAVE`, `--save`, a synced `--appendonly yes`) are lost, and keys that were deleted
    /// since then exist again.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`restart`](Self::restart).
    pub fn restart_from_file(&self) {
        let mut process = self.process();
        self.end(&mut process);
        self.start_again(&mut process);
    }

    /// Saves everything (`SAVE`), then [restarts from that file](Self::restart_from_file). Nothing is lost, apart from keys
    /// that expire. It needs no arguments for persistence.
    ///
    /// # Panics
    ///
    /// Panics if it is down or cannot save, and in the same cases as [`restart`](Self::restart).
    #[track_caller]
    pub fn save_and_restart(&self) {
        self.command(&["SAVE"]).ok();
        self.restart_from_file();
    }

    /// Freezes the process (`SIGSTOP`): the kernel still accepts connections and bytes for it, but nothing answers, as with
    /// an overloaded or swapping server.
    ///
    /// # Panics
    ///
    /// Panics if the server is down.
    pub fn pause(&self) {
        let mut process = self.process();
        let process = process
            .as_mut()
            .expect("redis-server is down, so it cannot be paused");
        process.pause();
        self.paused.store(true, Ordering::SeqCst);
    }

    /// Continues a paused process, which first answers the commands that it received in the meantime.
    pub fn resume(&self) {
        if let Some(process) = self.process().as_mut() {
            process.signal(Signal::CONT);
            self.paused.store(false, Ordering::SeqCst);
        }
    }

    /// Returns whether it is neither down nor paused by this value's controls.
    pub fn is_up(&self) -> bool {
        self.process().is_some() && !self.paused.load(Ordering::SeqCst)
    }

    /// Returns the offset of its replication stream.
    #[track_caller]
    pub(crate) fn offset(&self) -> u64 {
        let offset = self.info("replication", "master_repl_offset");
        offset.expect("every server has an offset")
    }

    /// Returns `Ok` if this replica has executed its master's stream up to `offset`, or if it is down or paused, so that
    /// there is nothing to wait for. Otherwise returns its state.
    pub(crate) fn has_reached(&self, offset: u64) -> Result<(), String> {
        if !self.is_up() {
            return Ok(());
        }
        // Sentinels close the connections of a server that they turn into a replica.
        let info = self.try_command(&["INFO", "replication"]);
        let info = info.map_err(|error| format!("{}: {error}", self.port))?;
        match field::<u64>(&info.text(), "slave_repl_offset") {
            Some(reached) if reached >= offset => Ok(()),
            reached => Err(format!("{} is at {reached:?} of {offset}", self.port)),
        }
    }

    /// Returns the end of its log.
    pub(crate) fn log_tail(&self) -> String {
        log_tail(&log_file(self.dir.path()))
    }

    fn end(&self, process: &mut Option<Process>) {
        // Dropping a process kills it and waits for its end.
        process.take();
        self.paused.store(false, Ordering::SeqCst);
    }

    fn start_again(&self, process: &mut Option<Process>) {
        // It must be the same port, which the kernel may release with a delay.
        let deadline = Instant::now() + PATIENCE;
        while process.is_none() {
            *process = launch(&self.program, &self.args, self.port, self.dir.path());
            assert!(
                process.is_some() || Instant::now() < deadline,
                "another process has taken port {} while redis-server was down",
                self.port
            );
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A panic in `restart` leaves `None`, which is right: the server is down.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a number from the output of `INFO`.
fn field<N: FromStr>(info: &str, name: &str) -> Option<N> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
}

#[cfg(test)]
mod tests;
