//! A private PgBouncer.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use crate::PostgresServer;
use crate::postgres::{User, cluster_dir};
use crate::process::{
    PATIENCE, POLL, Process, bound_to_us, executable, find_program, free_port, log_tail,
    port_was_taken,
};

/// A private PgBouncer in transaction mode in front of a [`PostgresServer`]. Dropping it ends the process.
///
/// A client has a server connection only for the duration of a transaction. So two statements of a client may use two
/// connections, and a statement that one client prepared is visible to the next.
#[derive(Debug)]
pub struct PgBouncer {
    // Before `_dir`: the process ends before its directory is removed.
    _process: Process,
    port: u16,
    _dir: TempDir,
}

impl PgBouncer {
    /// Starts a PgBouncer with this number of connections to the server.
    ///
    /// # Panics
    ///
    /// Panics if there is no `pgbouncer` on `PATH` or in `/usr/sbin`, or when it is not ready in time.
    pub fn in_front_of(server: &PostgresServer, connections: usize) -> Self {
        let program =
            find_program("pgbouncer").or_else(|| executable(Path::new("/usr/sbin/pgbouncer")));
        let program = program.expect("pgbouncer is missing; run scripts/test, which installs it");
        // Like PostgreSQL, it does not run as root.
        let user = User::for_postgres();
        let dir = cluster_dir(user.as_ref());
        // Only a port in use is worth a retry.
        for _ in 0..10 {
            let port = free_port();
            let settings = dir.path().join("pgbouncer.ini");
            let text = format!(
                "[databases]
postgres = host=127.0.0.1 port={} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
",
                server.port()
            );
            fs::write(&settings, text).unwrap();
            let log = dir.path().join("pgbouncer.log");
            let _ = fs::remove_file(&log);
            let mut command = bound_to_us(&program, "TERM");
            command.arg(&settings).current_dir(dir.path());
            if let Some(user) = &user {
                command.uid(user.uid).gid(user.gid);
            }
            let process = Process::spawn(command, &log)
                .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
            if let Some(process) = ready(process, port, &log) {
                return Self {
                    _process: process,
                    port,
                    _dir: dir,
                };
            }
        }
        panic!("all ports that were tried for pgbouncer are in use");
    }

    /// Returns `postgres://postgres@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.addr())
    }

    /// Returns the loopback address and port.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

/// Waits until the process is ready. Returns `None` if its port is in use.
fn ready(mut process: Process, port: u16, log: &Path) -> Option<Process> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = process.exited() {
            if port_was_taken(log) {
                return None;
            }
            panic!("pgbouncer ended immediately ({status}):\n{}", log_tail(log));
        }
        assert!(
            Instant::now() < deadline,
            "pgbouncer was not ready within {PATIENCE:?}:\n{}",
            log_tail(log)
        );
        thread::sleep(POLL);
    }
    Some(process)
}
