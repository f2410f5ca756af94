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

/// A private nginx with a `proxy_cache` in front of a server, that ends with this value.
///
/// What a cache on the way does with a response is nginx's own affair, and not what RFC 9111 says. Each of its answers
/// says in `x-cache` where it comes from (`$upstream_cache_status`; nothing where the cache was not asked).
///
/// ```no_run
/// let origin = ([127, 0, 0, 1], 3000).into();
/// let nginx = test_support::Nginx::caching(origin, "proxy_cache_valid 200 1m;");
/// println!("ask {}", nginx.addr());
/// ```
#[derive(Debug)]
pub struct Nginx {
    // Before `_dir`: the process ends first, then its directory goes.
    _process: Process,
    port: u16,
    _dir: TempDir,
}

impl Nginx {
    /// Starts one in front of `origin`. The `rules` are directives of its one location, beside `proxy_pass` and
    /// `proxy_cache`.
    ///
    /// # Panics
    ///
    /// When there is no `nginx` on `PATH` or in `/usr/sbin`, or when it is not ready in time.
    pub fn caching(origin: SocketAddr, rules: &str) -> Self {
        let program = find_program("nginx").or_else(|| executable(Path::new("/usr/sbin/nginx")));
        let program = program.expect("nginx is missing; run scripts/test, which installs it");
        let dir = tempfile::Builder::new().prefix("nginx-").tempdir();
        let dir = dir.expect("cannot make a directory for nginx");
        // As for Redis: only a taken port is worth another go.
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
        panic!("nginx found every port taken that we tried");
    }

    /// The loopback address and port.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

fn configuration(dir: &Path, port: u16, origin: SocketAddr, rules: &str) -> String {
    let dir = dir.display();
    // One process: no user to change to, and nothing that outlives it.
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

/// A server that is ready, or `None` if its port was taken.
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
            panic!("nginx ended at once ({status}):\n{}", log_tail(&log));
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
