//! A running demo server, and requests to it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, SubsecRound as _, Utc};
use tempfile::TempDir;
use test_support::{PostgresServer, RedisServer};
use tower_api_token::TokenFormat;
use tower_api_token_sqlx::Database as Pool;
use ureq::http;

use super::answer::Answer;

/// Only limits how long a test can hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The operator's token in these tests.
pub(crate) const ADMIN: &str = "an-admin-token-for-tests";

/// A database for one test. It is there until each clone is dropped.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Arc<TempDir>),
    Postgres(Arc<PostgresServer>),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(Arc::new(
            tempfile::tempdir().expect("a temporary directory"),
        ))
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Arc::new(PostgresServer::start()))
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(directory) => format!("sqlite://{}/demo.db", directory.path().display()),
            Self::Postgres(server) => server.url(),
        }
    }

    /// Opens the database as the server does.
    pub(crate) async fn open(&self) -> Pool {
        let database = Pool::connect(&self.url()).await;
        database.expect("the database opens")
    }

    /// Runs one statement, as another program on the same database would.
    pub(crate) async fn execute(&self, statement: &str) {
        match self.open().await {
            Pool::Sqlite(pool) => {
                sqlx::query(statement).execute(&pool).await.unwrap();
                pool.close().await;
            }
            Pool::Postgres(pool) => {
                sqlx::query(statement).execute(&pool).await.unwrap();
                pool.close().await;
            }
            _ => panic!("another database"),
        }
    }

    /// Returns whether the files of a SQLite database, including its log, contain the text.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.holds_bytes(text.as_bytes())
    }

    pub(crate) fn holds_bytes(&self, wanted: &[u8]) -> bool {
        let Self::Sqlite(directory) = self else {
            panic!("only SQLite's files are looked into");
        };
        let files = std::fs::read_dir(directory.path()).expect("a directory");
        files.flatten().any(|file| {
            let bytes = match std::fs::read(file.path()) {
                // The log is deleted with the last connection, at a time of the pool's choice.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                bytes => bytes.expect("a file"),
            };
            bytes.windows(wanted.len()).any(|at| at == wanted)
        })
    }
}

/// A token of a new database, as the banner prints it.
#[derive(Clone, Debug)]
pub(crate) struct Seeded {
    pub(crate) tenant: String,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) text: String,
}

/// An instance of the demo server, which is terminated when dropped.
pub(crate) struct Demo {
    child: Child,
    pub(crate) base: String,
    pub(crate) banner: String,
    agent: ureq::Agent,
    logs: PathBuf,
    /// The standard output after the banner.
    printed: Arc<Mutex<String>>,
    _directory: TempDir,
    /// What `on` was given, which is not deleted while the server runs.
    _database: Option<Database>,
}

impl Demo {
    /// Starts an instance with these variables (empty ones are unset) and waits until it listens.
    #[track_caller]
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let logs = directory.path().join("stderr");
        let mut command = command();
        command
            .env("LISTEN", "127.0.0.1:0")
            .env("ADMIN_TOKEN", ADMIN)
            // Tests of counts and of the keys in Redis would find the canary's.
            .env("CANARY_SECONDS", "0");
        for (name, value) in variables {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        let mut child = command
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(File::create(&logs).expect("a file for the logs"))
            .spawn()
            .expect("the demo server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut banner = String::new();
        let base = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.kill();
                panic!(
                    "it ended: {banner}\n{}",
                    std::fs::read_to_string(&logs).unwrap_or_default()
                );
            };
            if let Some(base) = line.strip_prefix("listening on ") {
                break base.to_owned();
            }
            banner.push_str(&line);
            banner.push('\n');
        };
        let printed = Arc::new(Mutex::new(String::new()));
        let rest = Arc::clone(&printed);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *rest.lock().unwrap() += &(line + "\n");
            }
        });
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // The server closes the connection when it rejects a request before reading its body, and a
            // request that takes such a connection from a pool fails.
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .timeout_global(Some(PATIENCE));
        Self {
            child,
            base,
            banner,
            agent: config.build().into(),
            logs,
            printed,
            _directory: directory,
            _database: None,
        }
    }

    /// Starts an instance on this database, and keeps the database.
    #[track_caller]
    pub(crate) fn on(database: &Database, more: &[(&str, &str)]) -> Self {
        let url = database.url();
        let mut demo = Self::start(&[&[("DATABASE_URL", url.as_str())], more].concat());
        demo._database = Some(database.clone());
        demo
    }

    /// Starts an instance with this `KEY_LAYOUT`, and with Redis or a store in memory.
    #[track_caller]
    pub(crate) fn with(database: &Database, layout: &str, redis: Option<&RedisServer>) -> Self {
        let url = redis.map(RedisServer::url).unwrap_or_default();
        Self::on(database, &[("KEY_LAYOUT", layout), ("REDIS_URL", &url)])
    }

    /// Parses the tokens in the banner: a comment with their ids, then a `curl` line.
    pub(crate) fn seeded(&self) -> Vec<Seeded> {
        let lines: Vec<_> = self.banner.lines().collect();
        let tokens = lines.windows(2).filter_map(|pair| {
            let names: Vec<_> = pair[0].strip_prefix("# ")?.split(", ").collect();
            let [tenant, kind, id] = names[..] else {
                return None;
            };
            let text = pair[1].split_once("Bearer ")?.1.split_once('\'')?.0;
            let (tenant, kind, id) = (tenant.to_owned(), kind.to_owned(), id.to_owned());
            Some(Seeded {
                tenant,
                kind,
                id,
                text: text.to_owned(),
            })
        });
        tokens.collect()
    }

    /// Returns the banner's token of this tenant and type.
    #[track_caller]
    pub(crate) fn token(&self, tenant: &str, kind: &str) -> Seeded {
        let found = self
            .seeded()
            .into_iter()
            .find(|token| token.tenant == tenant && token.kind == kind);
        found.unwrap_or_else(|| panic!("no such token in {}", self.banner))
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let url = format!("{}{path}", self.base);
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body {
            Some(body) => self
                .agent
                .run(request.body(body.to_owned()).expect("a request")),
            None => self.agent.run(request.body(()).expect("a request")),
        };
        let mut answer = sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let body = answer.body_mut().read_to_string().expect("a body of text");
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body,
        }
    }

    /// Opens a stream of events, with the admin token if the path is below `/admin`.
    #[track_caller]
    pub(crate) fn stream(&self, path: &str) -> impl BufRead + use<> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if path.starts_with("/admin") {
            request = request.header("authorization", format!("Bearer {ADMIN}"));
        }
        let answer = request.call().expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        BufReader::new(answer.into_body().into_reader())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    /// Sends a GET with a bearer token.
    pub(crate) fn get_as(&self, path: &str, token: &str) -> Answer {
        self.send(
            "GET",
            path,
            &[("authorization", &format!("Bearer {token}"))],
            None,
        )
    }

    pub(crate) fn whoami(&self, token: &str) -> Answer {
        self.get_as("/v1/whoami", token)
    }

    /// Expects an answer of the local level. On a busy machine the request may come when the generation of the tenant, which
    /// nothing watches yet, is too old; then Redis answers once, and it is watched.
    #[track_caller]
    pub(crate) fn locally(&self, path: &str, token: &str) -> Answer {
        let first = self.get_as(path, token).expect(200);
        let again = first.json()["origin"] == "shared";
        let answer = if again {
            self.get_as(path, token)
        } else {
            first
        };
        answer.expect_origin("local")
    }

    /// See [`locally`](Self::locally).
    #[track_caller]
    pub(crate) fn whoami_locally(&self, token: &str) -> Answer {
        self.locally("/v1/whoami", token)
    }

    /// Sends a request with the admin token.
    pub(crate) fn admin(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        // Without a body, POST has an empty one, as with curl.
        let body = body.or((method == "POST").then_some(""));
        self.send(
            method,
            path,
            &[("authorization", &format!("Bearer {ADMIN}"))],
            body,
        )
    }

    pub(crate) fn delete(&self, id: &str) -> Answer {
        self.admin("DELETE", &format!("/admin/tokens/{id}"), None)
    }

    /// Returns the sum of a metric's samples that have all of these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.get("/metrics").expect(200).body;
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        });
        samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Returns the process's id.
    #[cfg(target_os = "linux")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything that was logged so far.
    pub(crate) fn logs(&self) -> String {
        std::fs::read_to_string(&self.logs).expect("the file of the logs")
    }

    /// Returns the standard output after the banner so far.
    pub(crate) fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// Sends a signal, such as `TERM`, to the process.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let kill = kill.args(["-s", name, &self.child.id().to_string()]);
        assert!(kill.status().expect("kill starts").success());
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {}",
                self.logs()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("logs of {}:\n{}", self.base, self.logs());
        }
    }
}

/// Returns an unknown token with the format of this type.
pub(crate) fn unknown(kind: &str) -> String {
    let format = TokenFormat::new(&format!("demo_{kind}_")).unwrap();
    let token = format.generate().expect("random bytes");
    token.expose().to_owned()
}

/// Formats a time as the server does, in whole microseconds.
pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.trunc_subsecs(6)
        .to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Returns the command of the binary, without variables of the test's own environment.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Waits until a background task has made the condition true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
