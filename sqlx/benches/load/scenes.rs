//! The scenes of the bench, with a size that a test can make small.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use test_support::PostgresServer;
use tower_api_token::ApiTokenCache;
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token_sqlx::{ApiKeys, Database, KeyQuery, NewKey};

/// How much is measured.
pub(crate) struct Size {
    /// Keys that are issued.
    issued: u64,
    /// Keys that the table has for the pages. A multiple of a thousand.
    keys: u64,
    /// The page that is compared with the first.
    page: u64,
    /// Keys whose last use is written.
    used: u64,
    /// Invalidations that are worked off.
    pending: u64,
}

#[allow(dead_code, reason = "only the bench uses it")]
pub(crate) const LARGE: Size = Size {
    issued: 20_000,
    keys: 1_000_000,
    page: 10_000,
    used: 100_000,
    pending: 10_000,
};

#[allow(dead_code, reason = "only the test uses it")]
pub(crate) const SMALL: Size = Size {
    issued: 50,
    keys: 2_000,
    page: 20,
    used: 300,
    pending: 20,
};

const PAGE: u32 = 100;

/// How many tasks issue keys at once, as an API with some clients does.
const TASKS: u64 = 16;

/// A figure and its goal.
pub(crate) struct Row {
    pub(crate) what: String,
    unit: &'static str,
    measured: f64,
    goal: f64,
    more_is_better: bool,
}

impl Row {
    fn at_least(what: impl Into<String>, goal: f64, measured: f64, unit: &'static str) -> Self {
        let what = what.into();
        Self {
            what,
            unit,
            measured,
            goal,
            more_is_better: true,
        }
    }

    fn at_most(what: impl Into<String>, goal: f64, measured: f64, unit: &'static str) -> Self {
        let more_is_better = false;
        Self {
            more_is_better,
            ..Self::at_least(what, goal, measured, unit)
        }
    }

    pub(crate) fn reached(&self) -> bool {
        if self.more_is_better {
            self.measured >= self.goal
        } else {
            self.measured <= self.goal
        }
    }

    #[allow(dead_code, reason = "only the bench prints it")]
    pub(crate) fn goal_text(&self) -> String {
        let sign = if self.more_is_better { "≥" } else { "≤" };
        format!("{sign} {} {}", self.goal, self.unit)
    }

    #[allow(dead_code, reason = "only the bench prints it")]
    pub(crate) fn measured_text(&self) -> String {
        format!("{:.1} {}", self.measured, self.unit)
    }
}

/// Runs all scenes in a new database.
pub(crate) async fn run(size: &Size) -> Vec<Row> {
    let given = std::env::var("DATABASE_URL").ok();
    let server = given.is_none().then(PostgresServer::start);
    let url = server
        .as_ref()
        .map_or_else(|| given.unwrap_or_default(), PostgresServer::url);
    let database = Database::connect(&url).await.expect("the database opens");
    let builder = ApiKeys::builder(database).outbox_interval(None);
    let keys = builder.build().await.expect("it migrates");
    let mut rows = issue(&keys, size).await;
    fill(&url, size.keys).await;
    rows.extend(pages(&keys, &url, size).await);
    rows.extend(last_uses(&keys, size).await);
    rows.push(outbox(&keys, &url, size).await);
    rows
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Returns the value below which this share of the durations is, in milliseconds.
fn percentile(durations: &mut [Duration], share: f64) -> f64 {
    durations.sort_unstable();
    let index = ((durations.len() - 1) as f64 * share).round();
    millis(durations[index as usize])
}

async fn issue(keys: &ApiKeys, size: &Size) -> Vec<Row> {
    let issued = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (keys, issued, most) = (keys.clone(), Arc::clone(&issued), size.issued);
            tokio::spawn(async move {
                let mut durations = Vec::new();
                while issued.fetch_add(1, Ordering::Relaxed) < most {
                    let begun = Instant::now();
                    let new = NewKey::new(format!("issued-{task}")).name("bench");
                    keys.issue(new).by("bench").await.expect("it is issued");
                    durations.push(begun.elapsed());
                }
                durations
            })
        })
        .collect();
    let mut durations = Vec::new();
    for task in tasks {
        durations.extend(task.await.expect("no panic"));
    }
    let rate = durations.len() as f64 / begun.elapsed().as_secs_f64();
    let tail = percentile(&mut durations, 0.99);
    vec![
        Row::at_least(
            format!("keys issued per second, by {TASKS} tasks"),
            1_000.0,
            rate,
            "/s",
        ),
        Row::at_most("99 % of them", 50.0, tail, "ms"),
    ]
}

/// The text of the key with this number, of those that [`fill`] adds.
fn text(number: u64) -> String {
    format!("bench-key-{number:08}")
}

/// Adds keys of a thousand tenants, by the database itself.
async fn fill(url: &str, keys: u64) {
    let pool = PgPool::connect(url).await.expect("the database opens");
    let insert = format!(
        "INSERT INTO api_token_keys (id, tenant_id, digest, created_at) \
         SELECT 'key_' || lpad(n::text, 12, '0'), 't-' || n % 1000, \
             sha256(('bench-key-' || lpad(n::text, 8, '0'))::bytea), now() \
         FROM generate_series(1, {keys}) AS n; \
         ANALYZE api_token_keys"
    );
    sqlx::raw_sql(&insert)
        .execute(&pool)
        .await
        .expect("the table is filled");
}

/// Lists the first page, and one deep in the table, of all keys and of a tenant.
async fn pages(keys: &ApiKeys, url: &str, size: &Size) -> Vec<Row> {
    let pool = PgPool::connect(url).await.expect("the database opens");
    let id = "SELECT id FROM api_token_keys ORDER BY id OFFSET $1 LIMIT 1";
    let before = i64::try_from((size.page - 1) * u64::from(PAGE) - 1).expect("a page");
    let id: String = sqlx::query_scalar(id)
        .bind(before)
        .fetch_one(&pool)
        .await
        .expect("a key");
    let first = KeyQuery::new().limit(PAGE);
    let deep = first.clone().after(Some(id.parse().expect("an id")));
    let mut rows = Vec::new();
    for (what, query) in [
        ("page 1 of all keys".to_owned(), first.clone()),
        (format!("page {} of all keys", size.page), deep.clone()),
        ("page 1 of a tenant".to_owned(), first.tenant("t-7")),
        (
            "the same tenant, deep in the table".to_owned(),
            deep.tenant("t-7"),
        ),
    ] {
        let mut durations = Vec::new();
        for _ in 0..51 {
            let begun = Instant::now();
            keys.list(query.clone()).await.expect("a page");
            durations.push(begun.elapsed());
        }
        rows.push(Row::at_most(
            what,
            5.0,
            percentile(&mut durations, 0.5),
            "ms",
        ));
    }
    rows
}

/// Uses keys, which loads each from the large table, and writes when.
async fn last_uses(keys: &ApiKeys, size: &Size) -> Vec<Row> {
    let hour = Duration::from_secs(3_600);
    let recorder = LastUseRecorder::new(keys.last_use_sink())
        .flush_interval(hour)
        .capacity(200_000)
        .shutdown_timeout(hour);
    let cache = keys.cache().last_use(recorder).local_capacity(200_000);
    let cache = cache.build().expect("valid settings");
    let mut loads = load_all(&cache, size.used).await;
    let begun = Instant::now();
    assert_eq!(cache.shutdown().await, 0, "all last uses are written");
    let (flushed, loaded) = (begun.elapsed(), percentile(&mut loads, 0.5));
    vec![
        Row::at_most("a load by digest, median, by 16 tasks", 10.0, loaded, "ms"),
        Row::at_most(
            format!("{} last uses written, 500 in a statement", size.used),
            60_000.0,
            millis(flushed),
            "ms",
        ),
    ]
}

async fn load_all(cache: &ApiTokenCache, keys: u64) -> Vec<Duration> {
    let next = Arc::new(AtomicU64::new(1));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (cache, next) = (cache.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut durations = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number > keys {
                        return durations;
                    }
                    let begun = Instant::now();
                    let answer = cache.authenticate(&text(number)).await.expect("an answer");
                    durations.push(begun.elapsed());
                    assert!(answer.valid().is_some(), "key {number}");
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("no panic"));
    }
    all
}

/// Works off an outbox, as after a long outage.
async fn outbox(keys: &ApiKeys, url: &str, size: &Size) -> Row {
    let pool = PgPool::connect(url).await.expect("the database opens");
    let insert = format!(
        "INSERT INTO api_token_outbox (id, kind, subject, created_at) \
         SELECT 'inv_' || n, 'tenant', 't-' || n, now() FROM generate_series(1, {}) AS n; \
         ANALYZE api_token_outbox",
        size.pending
    );
    sqlx::raw_sql(&insert)
        .execute(&pool)
        .await
        .expect("the outbox is filled");
    let begun = Instant::now();
    let confirmed = keys.work_outbox().await.expect("they are confirmed");
    assert_eq!(confirmed, size.pending);
    let rate = confirmed as f64 / begun.elapsed().as_secs_f64();
    Row::at_least("invalidations worked off per second", 500.0, rate, "/s")
}
