//! The cost of last uses: 10,000 requests per second for 1,000 tokens, through the local level and Redis, with a
//! recorder that writes to PostgreSQL, and without one.
//!
//! `cargo bench --bench scenes --all-features -- last_used` takes about four minutes, and `… last_used 30` runs each
//! part for 30 seconds. It counts commands and measures no time, because requests have a fixed rate. It needs `psql`.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::program;
use test_support::{PostgresServer, RedisServer};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tower_api_token::last_use::{LastUse, LastUseRecorder, LastUseSink};
use tower_api_token::{Answer, ApiTokenCache, BoxError, Lookup, RedisStore, TokenRecord};

const TOKENS: usize = 1_000;
const RATE: usize = 10_000;
const TICK: Duration = Duration::from_millis(10);

#[tokio::main]
pub(crate) async fn main() {
    let seconds = program::number(120);
    println!(
        "{TOKENS} tokens, {RATE} requests a second for {seconds} s, each token every {} ms; the defaults\n\n\
         | | requests | statements | rows | statements/s | rows/s | Redis: EVAL, GET, SET | commands a request |\n\
         |---|---|---|---|---|---|---|---|",
        TOKENS * 1_000 / RATE
    );
    run("no recorder", seconds, None).await;
    let table = Table::start().await;
    run("LastUseRecorder", seconds, Some(table)).await;
}

async fn run(name: &str, seconds: u64, table: Option<Table>) {
    let server = RedisServer::start();
    let tokens: Vec<String> = (0..TOKENS).map(|n| format!("app-{n:020}")).collect();
    let cache = cache(&server, table.clone());
    for token in &tokens {
        cache.warm(token).await.expect("primed");
    }
    server.reset_stats();
    let requests = requests(&cache, &tokens, seconds).await;
    // Before the shutdown's flush, to get the rate in the steady state.
    let commands = ["eval", "get", "set"].map(|command| server.command_count(command));
    // Redis also counts the commands of scripts: a GET and a SET each.
    let [evals, gets, sets] = commands;
    let (gets, sets) = (gets - evals.min(gets), sets - evals.min(sets));
    let sent = evals + gets + sets;
    assert_eq!(cache.shutdown().await, 0, "all is written");
    let (statements, rows) = match &table {
        Some(table) => (table.statements.load(Ordering::Relaxed), table.rows().await),
        None => (0, 0),
    };
    let each = |count: u64| count as f64 / seconds as f64;
    println!(
        "| {name} | {requests} | {statements} | {rows} | {:.2} | {:.1} | {evals}, {gets}, {sets} | {:.4} |",
        each(statements),
        each(rows),
        sent as f64 / requests as f64
    );
}

fn cache(server: &RedisServer, table: Option<Table>) -> ApiTokenCache {
    let loader = |lookup: Lookup| async move {
        let id = lookup.token().expose();
        Ok::<_, std::io::Error>(Some(TokenRecord::new(id).token_type("app")))
    };
    let store = RedisStore::new(&server.url()).expect("a url");
    let builder = ApiTokenCache::builder(loader)
        .store(store)
        .token_types(["app"]);
    let builder = match table {
        Some(table) => builder.last_use(LastUseRecorder::new(table)),
        None => builder,
    };
    builder.build().expect("a cache")
}

/// Sends the requests that are due at each tick. A late tick catches up.
async fn requests(cache: &ApiTokenCache, tokens: &[String], seconds: u64) -> usize {
    let mut ticks = tokio::time::interval(TICK);
    let all = RATE * usize::try_from(seconds).expect("a few seconds");
    let each = RATE * usize::try_from(TICK.as_millis()).expect("small") / 1_000;
    let mut asked = 0;
    while asked < all {
        ticks.tick().await;
        for _ in 0..each {
            let token = &tokens[asked % tokens.len()];
            let answer = cache.authenticate_typed(token, "app").await;
            assert!(matches!(answer, Ok(Answer::Valid(_))), "{answer:?}");
            asked += 1;
        }
    }
    asked
}

/// The table of tokens in a real PostgreSQL, written by a running `psql`.
#[derive(Clone)]
struct Table {
    psql: Arc<Mutex<Psql>>,
    statements: Arc<AtomicU64>,
    /// Stopped when dropped.
    _server: Arc<PostgresServer>,
}

impl Table {
    async fn start() -> Self {
        let server = Arc::new(PostgresServer::start());
        let mut psql = Psql::start(&server.url());
        psql.run("CREATE TABLE tokens (id text PRIMARY KEY, last_used_at timestamptz)")
            .await;
        let fill = format!(
            "INSERT INTO tokens (id) SELECT 'app-' || lpad(n::text, 20, '0') FROM generate_series(0, {}) n",
            TOKENS - 1
        );
        psql.run(&fill).await;
        Self {
            psql: Arc::new(Mutex::new(psql)),
            statements: Arc::default(),
            _server: server,
        }
    }

    /// Returns the number of updated rows, as counted by PostgreSQL.
    async fn rows(&self) -> u64 {
        let mut psql = self.psql.lock().await;
        psql.run("SELECT pg_stat_force_next_flush()").await;
        let counted = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'tokens'";
        let lines = psql.run(counted).await;
        lines[0].parse().expect("a number")
    }
}

impl LastUseSink for Table {
    async fn write(&self, batch: Vec<LastUse>) -> Result<(), BoxError> {
        let row = |used: &LastUse| {
            format!(
                "('{}', '{}'::timestamptz)",
                used.token_id(),
                used.last_used_at()
            )
        };
        let rows: Vec<_> = batch.iter().map(row).collect();
        let statement = format!(
            "WITH used (id, at) AS (VALUES {}), locked AS (\
                 SELECT tokens.id, used.at FROM tokens JOIN used ON used.id = tokens.id \
                 WHERE tokens.last_used_at IS NULL OR tokens.last_used_at < used.at \
                 ORDER BY tokens.id FOR UPDATE OF tokens\
             ) UPDATE tokens SET last_used_at = locked.at FROM locked WHERE tokens.id = locked.id",
            rows.join(", ")
        );
        self.psql.lock().await.run(&statement).await;
        self.statements.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Psql {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Stopped when dropped.
    _child: Child,
}

impl Psql {
    fn start(url: &str) -> Self {
        let mut child = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("psql is installed");
        Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")).lines(),
            _child: child,
        }
    }

    /// Runs a statement and returns its output. After an error `psql` ends, and so does the benchmark.
    async fn run(&mut self, statement: &str) -> Vec<String> {
        let text = format!("{statement};\n\\echo done\n");
        let written = self.input.write_all(text.as_bytes()).await;
        written.expect("psql reads");
        let mut printed = Vec::new();
        loop {
            let line = self.output.next_line().await.expect("psql prints");
            match line.expect("psql is there").as_str() {
                "done" => return printed,
                line => printed.push(line.to_owned()),
            }
        }
    }
}
