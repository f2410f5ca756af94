//! Private reverse proxies with the settings of a test.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use crate::process::{
    PATIENCE, POLL, Process, bound_to_us, executable, find_program, free_port, log_tail,
    port_was_taken,
};

/// Which program a [`ReverseProxy`] is, and what its settings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// nginx; the settings are what its `http` block includes.
    Nginx,
    /// Caddy, with a Caddyfile.
    Caddy,
    /// HAProxy.
    HaProxy,
    /// Traefik; the settings are its dynamic configuration, for an entry point `web`.
    Traefik,
    /// Envoy.
    Envoy,
}

impl ProxyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::HaProxy => "haproxy",
            Self::Traefik => "traefik",
            Self::Envoy => "envoy",
        }
    }

    fn program(self) -> PathBuf {
        let name = self.name();
        if let Some(path) = std::env::var_os(name.to_uppercase()) {
            return executable(Path::new(&path))
                .unwrap_or_else(|| panic!("{path:?}, which is set for {name}, is not a program"));
        }
        let program = find_program(name).or_else(|| executable(&Path::new("/usr/sbin").join(name)));
        program.unwrap_or_else(|| panic!("{name} is missing; run scripts/test, which installs it"))
    }

    /// Returns a command that stays in the foreground and runs with the file `settings`.
    fn command(self, settings: &Path, dir: &Path, port: u16) -> Command {
        let mut command = bound_to_us(&self.program(), "TERM");
        match self {
            Self::Nginx => {
                let main = dir.join("nginx.conf");
                fs::write(&main, nginx_main(settings, dir)).unwrap();
                command.arg("-p").arg(dir).args(["-e", "stderr", "-c"]);
                command.arg(main);
            }
            Self::Caddy => {
                // It saves its settings, and would otherwise do so in the user's home directory.
                command.env("HOME", dir).env("XDG_CONFIG_HOME", dir);
                command.env("XDG_DATA_HOME", dir);
                // Its port for administration is the same for all.
                let main = dir.join("Caddyfile");
                let import = format!("{{\n\tadmin off\n}}\nimport {}\n", settings.display());
                fs::write(&main, import).unwrap();
                command.args(["run", "--adapter", "caddyfile", "--config"]);
                command.arg(main);
            }
            Self::HaProxy => {
                command.args(["-db", "-f"]).arg(settings);
            }
            Self::Traefik => {
                command.arg(format!("--entrypoints.web.address=127.0.0.1:{port}"));
                command.arg(format!("--providers.file.filename={}", settings.display()));
            }
            Self::Envoy => {
                command.args(["--concurrency", "1", "--disable-hot-restart"]);
                command.args(["--log-level", "warn", "-c"]).arg(settings);
            }
        }
        command
    }
}

/// A private reverse proxy. Dropping it ends the process.
///
/// A variable with the program's name in capitals, such as `ENVOY`, names another one than that on `PATH`.
///
/// ```no_run
/// use test_support::{ProxyKind, ReverseProxy};
///
/// let proxy = ReverseProxy::start(ProxyKind::Caddy, |port| {
///     format!("http://127.0.0.1:{port} {{\n\treverse_proxy 127.0.0.1:3000\n}}\n")
/// });
/// println!("ask {}", proxy.addr());
/// ```
#[derive(Debug)]
pub struct ReverseProxy {
    // Before `dir`: the process ends before its directory is removed.
    _process: Process,
    port: u16,
    dir: TempDir,
}

impl ReverseProxy {
    /// Starts the program with what `settings` returns for the port to listen on, on 127.0.0.1.
    ///
    /// # Panics
    ///
    /// Panics if the program is neither on `PATH` nor in `/usr/sbin`, or when it is not ready in time.
    pub fn start(kind: ProxyKind, settings: impl Fn(u16) -> String) -> Self {
        let name = kind.name();
        let dir = tempfile::Builder::new().prefix(name).tempdir();
        let dir = dir.unwrap_or_else(|error| panic!("no directory for {name}: {error}"));
        // Only a port in use is worth a retry.
        for _ in 0..10 {
            let port = free_port();
            // Traefik and Envoy go by the name's end.
            let file = dir.path().join("settings.yaml");
            fs::write(&file, settings(port)).unwrap();
            let log = log_file(&dir);
            let _ = fs::remove_file(&log);
            let process = Process::spawn(kind.command(&file, dir.path(), port), &log)
                .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
            if let Some(process) = ready(process, kind, port, &log) {
                return Self {
                    _process: process,
                    port,
                    dir,
                };
            }
        }
        panic!("all ports that were tried for {name} are in use");
    }

    /// Returns the loopback address and port.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the end of its log.
    pub fn log(&self) -> String {
        log_tail(&log_file(&self.dir))
    }
}

fn log_file(dir: &TempDir) -> PathBuf {
    dir.path().join("log")
}

/// One process, which changes no user and leaves no other process behind.
fn nginx_main(included: &Path, dir: &Path) -> String {
    let (dir, included) = (dir.display(), included.display());
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
    include {included};
}}
"
    )
}

/// Waits until the process is ready. Returns `None` if its port is in use.
fn ready(mut process: Process, kind: ProxyKind, port: u16, log: &Path) -> Option<Process> {
    let name = kind.name();
    let deadline = Instant::now() + PATIENCE;
    while !answers(kind, port) {
        if let Some(status) = process.exited() {
            if port_was_taken(log) {
                return None;
            }
            panic!("{name} ended immediately ({status}):\n{}", log_tail(log));
        }
        assert!(
            Instant::now() < deadline,
            "{name} was not ready within {PATIENCE:?}:\n{}",
            log_tail(log)
        );
        thread::sleep(POLL);
    }
    Some(process)
}

fn answers(kind: ProxyKind, port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    // It accepts connections before it has read its dynamic configuration, and then answers 404.
    kind != ProxyKind::Traefik || {
        let mut status = [0; 12];
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let answered = asked.and_then(|()| stream.read_exact(&mut status));
        answered.is_ok() && !status.ends_with(b"404")
    }
}
