//! Finds and starts the program, and checks that our own process answers.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::wire::{Connection, Reply};
use crate::process::{
    PATIENCE, POLL, Process, bound_to_us, executable, find_program, log_tail, port_was_taken,
};

/// Returns `redis-server` on `PATH`, or the program that `REDIS_SERVER` names: an older version, or Valkey.
pub(crate) fn program() -> PathBuf {
    match std::env::var_os("REDIS_SERVER") {
        Some(path) => executable(Path::new(&path)).unwrap_or_else(|| {
            panic!("REDIS_SERVER names {path:?}, which is not a program; correct or unset it")
        }),
        None => find_program("redis-server")
            .expect("redis-server is not on PATH; run scripts/test, which installs it"),
    }
}

pub(super) fn log_file(dir: &Path) -> PathBuf {
    dir.join("redis.log")
}

/// Returns the arguments of a server without persistence.
pub(crate) fn plain_args(port: u16) -> Vec<String> {
    let port = port.to_string();
    let args = ["--port", &port, "--bind", "127.0.0.1"];
    let memory_only = ["--save", "", "--appendonly", "no", "--daemonize", "no"];
    args.iter()
        .chain(&memory_only)
        .map(ToString::to_string)
        .collect()
}

/// A password that lets only the servers of one test replicate each other. Ports are reused: a replica whose master has
/// died keeps connecting, and would be attached to another test's server, and counted by its `WAIT`.
#[derive(Debug)]
pub(crate) struct ReplicationSecret(String);

impl ReplicationSecret {
    pub(crate) fn new() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self(format!("{:016x}{:016x}", random(), random()))
    }

    /// Returns the arguments of a server that may be a master or a replica. Clients need no password.
    pub(crate) fn args(&self) -> Vec<String> {
        let password = format!(">{}", self.0);
        let clients = ["--user", "default", "on", "nopass", "~*", "&*", "+@all"];
        let no_replication = ["-psync", "-sync", "-replconf"];
        let replicas = ["--user", "replica", "on", &password, "+@all"];
        let as_replica = ["--masteruser", "replica", "--masterauth", &self.0];
        let all = [&clients[..], &no_replication, &replicas, &as_replica];
        all.concat().into_iter().map(ToString::to_string).collect()
    }
}

/// Starts a server in `dir`, and waits until it answers on `port`. Returns `None` if a port is in use.
pub(super) fn launch(program: &Path, args: &[String], port: u16, dir: &Path) -> Option<Process> {
    let log = log_file(dir);
    let _ = std::fs::remove_file(&log);
    let mut command = bound_to_us(program, "KILL");
    command.args(args).current_dir(dir);
    let mut process = Process::spawn(command, &log)
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));

    let addr = (Ipv4Addr::LOCALHOST, port).into();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Checks the process: another server on the port would answer PING too.
        if answers_as(addr, process.id()) {
            return Some(process);
        }
        if let Some(status) = process.exited() {
            if port_was_taken(&log) {
                return None;
            }
            let log = log_tail(&log);
            assert!(
                !lacks_tls(&log),
                "{} is built without TLS, and this test needs it:\n{log}",
                program.display()
            );
            panic!("redis-server ended immediately ({status}):\n{log}");
        }
        assert!(
            Instant::now() < deadline,
            "redis-server did not answer within {PATIENCE:?}:\n{}",
            log_tail(&log)
        );
        thread::sleep(POLL);
    }
}

/// Returns whether a server's log reports that it does not know the TLS options.
pub(super) fn lacks_tls(log: &str) -> bool {
    log.contains("Bad directive") && log.contains(">>> 'tls-")
}

/// Returns whether the server at `addr` answers `PING` and is the process `pid`.
fn answers_as(addr: SocketAddr, pid: u32) -> bool {
    let ask = || {
        let mut connection = Connection::open(addr, Duration::from_secs(1))?;
        let pong = connection.command(&["PING"])?;
        let info = connection.command(&["INFO", "server"])?;
        io::Result::Ok((pong, info))
    };
    match ask() {
        // A request for a password, which a test set through `start_with`, is an answer too.
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

/// Removes the files that a server in `dir` would load when it starts.
pub(super) fn remove_data(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let removed = match extension {
            Some("rdb" | "aof") => std::fs::remove_file(&path),
            _ if entry.file_name() == "appendonlydir" => std::fs::remove_dir_all(&path),
            _ => continue,
        };
        removed.unwrap_or_else(|error| panic!("cannot remove {}: {error}", path.display()));
    }
}
