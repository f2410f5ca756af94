//! A private PostgreSQL server.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::process::{
    PATIENCE, POLL, Process, bound_to_us, executable, find_program, free_port, log_tail,
    port_was_taken,
};

/// A private PostgreSQL server on a loopback port, with a database cluster of its own. Dropping it ends the process.
///
/// The cluster is new: it has the user `postgres` without a password, and the database `postgres`. Nothing is synced to
/// disk, for speed. A start takes a second or two, most of it for `initdb`.
///
/// For an outage, put a [`FaultProxy`](crate::FaultProxy) in front of [`addr`](Self::addr).
///
/// PostgreSQL does not run as root, but containers run tests as root. It then runs as the user `postgres`, or `nobody` if
/// there is none, in a directory that this user owns.
///
/// ```no_run
/// let postgres = test_support::PostgresServer::start();
/// println!("connect to {}", postgres.url());
/// ```
#[derive(Debug)]
pub struct PostgresServer {
    // Before `dir`: the process ends before its directory is removed.
    process: Process,
    port: u16,
    /// Removed when dropped.
    dir: TempDir,
}

impl PostgresServer {
    /// Creates a cluster and starts a server for it.
    ///
    /// The programs are `initdb` and `postgres` on `PATH`, or else the newest in `/usr/lib/postgresql/*/bin`, where
    /// Debian installs them.
    ///
    /// # Panics
    ///
    /// Panics if there are no such programs, or when the server is not ready in time; the message has the end of its log.
    pub fn start() -> Self {
        let bin = Programs::find();
        let user = User::for_postgres();
        let dir = cluster_dir(user.as_ref());
        init(&bin, user.as_ref(), dir.path());
        // Only a port in use is worth a retry.
        for _ in 0..10 {
            let port = free_port();
            if let Some(process) = launch(&bin, user.as_ref(), port, dir.path()) {
                return Self { process, port, dir };
            }
        }
        panic!("all ports that were tried for postgres are in use");
    }

    /// Stops the server as an operator does (a fast shutdown): clients are disconnected, and no data is lost.
    ///
    /// # Panics
    ///
    /// Panics if it does not end in time.
    pub fn stop(&mut self) {
        self.process.signal(Signal::INT);
        let ended = self.process.wait_for(PATIENCE);
        assert!(ended.is_some(), "postgres does not end");
    }

    /// Starts a [stopped](Self::stop) server again, on the same port.
    ///
    /// # Panics
    ///
    /// Panics if another process has taken the port, and when the server is not ready in time.
    pub fn start_again(&mut self) {
        let (bin, user) = (Programs::find(), User::for_postgres());
        let process = launch(&bin, user.as_ref(), self.port, self.dir.path());
        self.process = process.expect("the port of postgres is free");
    }

    /// Returns `postgres://postgres@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        self.url_at(self.addr())
    }

    /// Returns the [`url`](Self::url) with another address, such as that of a [`FaultProxy`](crate::FaultProxy).
    pub fn url_at(&self, addr: SocketAddr) -> String {
        format!("postgres://postgres@{addr}/postgres")
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the loopback address and port.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // An immediate shutdown makes no checkpoint, but reliably ends the backends and frees the shared memory, unlike a
        // plain kill of the postmaster. If it takes too long, dropping the process kills it.
        self.process.signal(Signal::QUIT);
        self.process.wait_for(Duration::from_secs(10));
    }
}

/// The paths of the two programs.
struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
}

impl Programs {
    fn find() -> Self {
        Self::on_path()
            .or_else(|| Self::newest_below(Path::new("/usr/lib/postgresql")))
            .expect(
                "initdb and postgres are neither on PATH nor in /usr/lib/postgresql/*/bin; \
                 run scripts/test, which installs them",
            )
    }

    fn on_path() -> Option<Self> {
        // Both from one directory, because a cluster does not start with another version than created it.
        let initdb = find_program("initdb")?;
        let beside = initdb.with_file_name("postgres");
        Some(Self {
            postgres: executable(&beside).or_else(|| find_program("postgres"))?,
            initdb,
        })
    }

    fn newest_below(dir: &Path) -> Option<Self> {
        fs::read_dir(dir)
            .ok()?
            .flatten()
            .filter_map(|entry| {
                let version: u32 = entry.file_name().to_str()?.parse().ok()?;
                let bin = entry.path().join("bin");
                let initdb = executable(&bin.join("initdb"))?;
                let postgres = executable(&bin.join("postgres"))?;
                Some((version, Self { initdb, postgres }))
            })
            .max_by_key(|(version, _)| *version)
            .map(|(_, programs)| programs)
    }
}

/// The user that PostgreSQL runs as if the tests run as root.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// Returns the user, or `None` if the tests do not run as root.
    pub(crate) fn for_postgres() -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let user = Self::named("postgres").or_else(|| Self::named("nobody"));
        Some(
            user.expect("PostgreSQL does not run as root, and there is no user postgres or nobody"),
        )
    }

    fn named(name: &str) -> Option<Self> {
        // Not from /etc/passwd, which does not list all users everywhere.
        let id = |flag: &str| -> Option<u32> {
            let output = Command::new("id").args([flag, "--", name]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        Some(Self {
            uid: id("-u")?,
            gid: id("-g")?,
        })
    }

    /// Makes `command` run as this user. The standard library also drops root's supplementary groups.
    fn run(user: Option<&Self>, command: &mut Command) {
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
    }
}

/// Creates an empty directory that the server's user owns and can reach.
pub(crate) fn cluster_dir(user: Option<&User>) -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix("postgres-")
        .permissions(Permissions::from_mode(0o700));
    // As root not in TMPDIR, which that user may not be able to reach. A short path also keeps the socket's path within
    // the kernel's limit of 107 bytes.
    let dir = match user {
        Some(_) => builder.tempdir_in("/tmp"),
        None => builder.tempdir(),
    };
    let dir = dir.expect("cannot make a directory for postgres");
    if let Some(user) = user {
        chown(dir.path(), Some(user.uid), Some(user.gid))
            .expect("cannot give postgres its directory");
    }
    dir
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn init(bin: &Programs, user: Option<&User>, dir: &Path) {
    let log = dir.join("initdb.log");
    let mut command = command(&bin.initdb, user, dir);
    command.arg("-D").arg(data_dir(dir)).args([
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    let status = Process::spawn(command, &log).map(|mut initdb| initdb.wait_for(2 * PATIENCE));
    match status {
        Ok(Some(status)) if status.success() => {}
        Ok(status) => panic!("initdb failed ({status:?}):\n{}", log_tail(&log)),
        Err(error) => panic!("cannot start {}: {error}", bin.initdb.display()),
    }
}

/// Starts a server and waits until it is ready. Returns `None` if its port is in use.
fn launch(bin: &Programs, user: Option<&User>, port: u16, dir: &Path) -> Option<Process> {
    let log = dir.join("postgres.log");
    let _ = fs::remove_file(&log);
    let mut command = command(&bin.postgres, user, dir);
    command.arg("-D").arg(data_dir(dir));
    let sockets = dir.display();
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        format!("unix_socket_directories={sockets}"),
        // The cluster is not needed after the server has ended.
        "fsync=off".into(),
        "synchronous_commit=off".into(),
        "full_page_writes=off".into(),
        // Many servers share two cores, and perhaps a small /dev/shm.
        "shared_buffers=16MB".into(),
        "dynamic_shared_memory_type=mmap".into(),
    ] {
        command.arg("-c").arg(setting);
    }
    let mut process = Process::spawn(command, &log)
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", bin.postgres.display()));

    let deadline = Instant::now() + PATIENCE;
    while !is_ready(dir, process.id(), port) {
        if let Some(status) = process.exited() {
            if port_was_taken(&log) {
                return None;
            }
            panic!("postgres ended immediately ({status}):\n{}", log_tail(&log));
        }
        assert!(
            Instant::now() < deadline,
            "postgres was not ready within {PATIENCE:?}:\n{}",
            log_tail(&log)
        );
        thread::sleep(POLL);
    }
    Some(process)
}

/// Returns a command that runs as `user`, and that gets an immediate shutdown when this process dies.
fn command(program: &Path, user: Option<&User>, dir: &Path) -> Command {
    let mut command = bound_to_us(program, "QUIT");
    User::run(user, &mut command);
    command.current_dir(dir);
    // Tests must not depend on variables of the environment (PGDATA, PGPORT, …) or on its locale.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") || name.as_encoded_bytes().starts_with(b"LC_")
        {
            command.env_remove(name);
        }
    }
    command.env("LANG", "C");
    command
}

/// Returns whether the postmaster's lock file has this process id and the status "ready".
fn is_ready(dir: &Path, pid: u32, port: u16) -> bool {
    let Ok(lock) = fs::read_to_string(data_dir(dir).join("postmaster.pid")) else {
        return false;
    };
    // Line 1 is the process id; line 8, since version 10, the status.
    let mut lines = lock.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str())
        && lines.nth(6) == Some("ready")
        && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Runs a query over the simple protocol, and returns the raw answer.
    fn query(server: &PostgresServer, sql: &str) -> String {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let startup = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        let mut hello = u32::try_from(startup.len() + 4)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        hello.extend_from_slice(startup);
        stream.write_all(&hello).unwrap();
        let mut message = vec![b'Q'];
        message.extend_from_slice(&u32::try_from(sql.len() + 5).unwrap().to_be_bytes());
        message.extend_from_slice(sql.as_bytes());
        message.extend_from_slice(b"\0X\0\0\0\x04");
        stream.write_all(&message).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn server_runs_queries_and_dropping_it_ends_its_process() {
        let server = PostgresServer::start();
        assert_eq!(
            server.url(),
            format!("postgres://postgres@127.0.0.1:{}/postgres", server.port())
        );
        let answer = query(&server, "select 'forty' || '-two', current_user");
        assert!(answer.contains("forty-two"), "{answer:?}");

        let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
        let (dir, port) = (server.dir.path().to_owned(), server.port());
        assert!(dir.exists());
        drop(server);
        assert!(rustix::process::test_kill_process(pid).is_err());
        assert!(!dir.exists());
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");
    }

    #[test]
    fn stopped_server_starts_again_with_its_data() {
        let mut server = PostgresServer::start();
        query(&server, "create table kept as select 'forty-two' as answer");
        server.stop();
        TcpStream::connect(server.addr()).unwrap_err();
        server.start_again();
        let answer = query(&server, "select answer from kept");
        assert!(answer.contains("forty-two"), "{answer:?}");
    }

    #[test]
    fn port_in_use_is_distinguished_from_other_failures() {
        let (bin, user) = (Programs::find(), User::for_postgres());
        let dir = cluster_dir(user.as_ref());
        init(&bin, user.as_ref(), dir.path());
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(launch(&bin, user.as_ref(), port, dir.path()).is_none());
    }

    #[test]
    fn newest_version_is_chosen_by_number() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "14", "not-a-version"] {
            let bin = root.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in ["initdb", "postgres"] {
                fs::write(bin.join(program), "").unwrap();
                fs::set_permissions(bin.join(program), Permissions::from_mode(0o755)).unwrap();
            }
        }
        // A version without a server is ignored.
        fs::create_dir_all(root.path().join("99").join("bin")).unwrap();
        let found = Programs::newest_below(root.path()).unwrap();
        assert!(found.postgres.ends_with("15/bin/postgres"));
        assert!(found.initdb.ends_with("15/bin/initdb"));
    }
}
