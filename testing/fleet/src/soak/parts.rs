//! Redis, PostgreSQL and two instances of the demo, on free loopback ports.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use test_support::{PostgresServer, RedisServer, bound_to_us, free_port};

/// The operator's token.
pub const ADMIN: &str = "an-admin-token-of-the-soak";

/// The records in an instance's memory: little more than there are keys, so that it is full after a minute. Before that,
/// memory grows with each key, because one that has ended is in memory until its place is needed.
const LOCAL_CAPACITY: &str = "2500";

/// How long the demo may take to end: longer than it drains.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub struct Parts {
    // Before the servers, so that they end first.
    pub demos: [Demo; 2],
    pub redis: RedisServer,
    pub postgres: PostgresServer,
}

impl Parts {
    /// Starts all. The demos write their logs into `directory`.
    pub fn start(program: &Path, directory: &Path) -> Self {
        let (redis, postgres) = (RedisServer::start(), PostgresServer::start());
        let demos = ["first", "second"].map(|name| {
            let log = directory.join(name).with_extension("log");
            Demo::start(program, &log, &redis.url(), &postgres.url())
        });
        Self {
            demos,
            redis,
            postgres,
        }
    }
}

/// An instance of the demo, which is terminated when dropped.
#[derive(Debug)]
pub struct Demo {
    process: Child,
    pub address: SocketAddr,
    program: PathBuf,
    log: PathBuf,
    urls: [String; 2],
}

impl Demo {
    fn start(program: &Path, log: &Path, redis: &str, postgres: &str) -> Self {
        let address = (Ipv4Addr::LOCALHOST, free_port()).into();
        let urls = [redis.to_owned(), postgres.to_owned()];
        Self {
            process: launch(program, address, log, &urls),
            address,
            program: program.to_owned(),
            log: log.to_owned(),
            urls,
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends the process as an orchestrator does, and starts it again at the same address.
    ///
    /// # Panics
    /// Panics if it does not end in order.
    pub fn restart(&mut self) {
        let status = self.stop();
        assert_eq!(status, Some(0), "the demo does not end in order");
        self.process = launch(&self.program, self.address, &self.log, &self.urls);
    }

    /// Ends the process by SIGTERM, and returns its exit code.
    fn stop(&mut self) -> Option<i32> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("an id"), Signal::TERM).expect("our child runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("our child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the demo does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a process, and waits until it listens.
fn launch(program: &Path, address: SocketAddr, log: &Path, urls: &[String; 2]) -> Child {
    let logs = File::options().create(true).append(true).open(log);
    let mut process = bound_to_us(program, "KILL")
        .env_clear()
        .env("LISTEN", address.to_string())
        .env("REDIS_URL", &urls[0])
        .env("DATABASE_URL", &urls[1])
        .env("ADMIN_TOKEN", ADMIN)
        .env("CANARY_SECONDS", "5")
        .env("LOCAL_CAPACITY", LOCAL_CAPACITY)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(logs.expect("a file for the logs"))
        .spawn()
        .expect("the demo starts");
    let output = BufReader::new(process.stdout.take().expect("piped"));
    let mut lines = output.lines().map_while(Result::ok);
    let listens = lines.any(|line| line.starts_with("listening on "));
    assert!(listens, "the demo does not start: {}", log.display());
    process
}
