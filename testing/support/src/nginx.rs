//! A private nginx that caches.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use crate::process::{
    PATIENCE, POLL, Process, bound_to_us, executable, find_program, free_port, log_tail,
    port_was_taken,
};

/// A private nginx with a `proxy_cache` in front of a server. Dropping it ends the process.
///
/// nginx does not follow RFC 9111 in every respect. Each response has the header `x-cache` with its origin
/// (`$upstream_cache_status`, empty if the cache was not consulted).
///
/// ```no_run
/// let origin = ([127, 0, 0, 1], 3000).into();
/// let nginx = test_support::Nginx::caching(origin, "proxy_cache_valid 200 1m;");
/// println!("ask {}", nginx.addr());
/// ```
#[derive(Debug)]
pub struct Nginx {
    // Before `_dir`: the process ends before its directory is removed.
    _process: Process,
    port: u16,
    _dir: TempDir,
}

impl Nginx {
    /// Starts an nginx in front of `origin`. `rules` are further directives of its one location, which has `proxy_pass`
    /// and `proxy_cache`.
    ///
    /// # Panics
    ///
    /// Panics if there is no `nginx` on `PATH` or in `/usr/sbin`, or when it is not ready in time.
    pub fn caching(origin: SocketAddr, rules: &str) -> Self {
        let program = find_program("nginx").or_else(|| executable(Path::new("/usr/sbin/nginx")));
        let program = program.expect("nginx is missing; run scripts/test, which installs it");
        let dir = tempfile::Builder::new().prefix("nginx-").tempdir();
        let dir = dir.expect("cannot make a directory for nginx");
        // Only a port in use is worth a retry.
        for _ in 0..10 {
            let port = free_port();
            let settings = dir.path().join("nginx.conf");
            fs::write(&settings, configuration(dir.path(), port, origin, rules)).unwrap();
            if let Some(process) = launch(&program, dir.path(), port) {
                return Self {
                    _process: process,
                    port,
                    _dir: dir,
                };
            }
        }
        panic!("all ports that were tried for nginx are in use");
    }

    /// Returns the loopback address and port.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

fn configuration(dir: &Path, port: u16, origin: SocketAddr, rules: &str) -> String {
    let dir = dir.display();
    // One process, which changes no user and leaves no other process behind.
    format!(
        "daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    proxy_cache_path {dir}/cache keys_zone=cache:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{origin};
            proxy_cache cache;
            add_header x-cache $upstream_cache_status always;
            {rules}
        }}
    }}
}}
"
    )
}

/// Starts a server and waits until it is ready. Returns `None` if its port is in use.
fn launch(program: &Path, dir: &Path, port: u16) -> Option<Process> {
    let log = dir.join("nginx.log");
    let _ = fs::remove_file(&log);
    let mut command = bound_to_us(program, "TERM");
    command.arg("-p").arg(dir).args(["-e", "stderr", "-c"]);
    command.arg(dir.join("nginx.conf"));
    let mut process = Process::spawn(command, &log)
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = process.exited() {
            if port_was_taken(&log) {
                return None;
            }
            panic!("nginx ended immediately ({status}):\n{}", log_tail(&log));
        }
        assert!(
            Instant::now() < deadline,
            "nginx was not ready within {PATIENCE:?}:\n{}",
            log_tail(&log)
        );
        thread::sleep(POLL);
    }
    Some(process)
}
