//! Records the commands of a server.

use std::io;
use std::net::SocketAddr;

use super::wire::{Connection, REPLY_LIMIT};

/// A running `MONITOR`, which records every command that the server runs.
///
/// Tests use it for assertions about the traffic, such as that no token's text is sent.
#[derive(Debug)]
pub struct Monitor {
    connection: Connection,
    addr: SocketAddr,
    marks: u64,
}

impl Monitor {
    #[track_caller]
    pub(super) fn start(addr: SocketAddr) -> Self {
        let open = || {
            let mut connection = Connection::open(addr, REPLY_LIMIT)?;
            connection.command(&["MONITOR"])?.ok();
            io::Result::Ok(connection)
        };
        Self {
            connection: open().expect("redis-server refuses MONITOR"),
            addr,
            marks: 0,
        }
    }

    /// Returns the commands since the last call (or the start) as `MONITOR` prints them:
    /// `1700000000.123456 [0 127.0.0.1:5000] "GET" "key"`, with the address `lua` for commands of scripts.
    ///
    /// Every command that was *answered* before this call is in the list, because the method sends a marker to the server,
    /// and reads up to it.
    ///
    /// # Panics
    ///
    /// Panics if the server does not answer.
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
