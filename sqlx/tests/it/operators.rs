//! What the guide tells operators: log lines, rights in the database, and the statement after a leak.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use sqlx::PgPool;
use test_support::RedisServer;
use tower_api_token::RedisStore;
use tower_api_token_sqlx::{ApiKeys, AuditQuery, Database, KeyQuery, NewKey};

use crate::admin::send;
use crate::world::{World, answer, eventually, issue};

crate::on_both!(
    statement_of_the_guide_revokes_all_keys,
    pools_are_those_of_the_guide,
);

const GUIDE: &str = include_str!("../../docs/keys.md");

/// Returns the lines of the guide's SQL that begin with this word, with `~` for the prefix of the tables.
fn sql(word: &str) -> Vec<String> {
    let lines = GUIDE.lines().filter(|line| line.starts_with(word));
    lines.map(|line| line.replace("api_token_", "~")).collect()
}

async fn statement_of_the_guide_revokes_all_keys(world: World) {
    let redis = RedisServer::start();
    let keys = world.keys().await;
    let store = RedisStore::new(&redis.url()).unwrap();
    let cache = keys.cache().store(store).build().unwrap();
    let issued = [issue(&keys).await, issue(&keys).await];
    for key in &issued {
        assert_eq!(answer(&cache, &key.token).await, "valid");
    }

    let update = sql("UPDATE").remove(0);
    let (update, comment) = update.split_once("; -- SQLite: ").unwrap();
    let update = match &world {
        World::Sqlite(_) => update.replace("now()", comment),
        World::Postgres(..) => update.to_owned(),
    };
    assert_eq!(world.execute(&update).await, 2);
    cache.invalidate_all().await.unwrap();
    for key in &issued {
        assert_eq!(answer(&cache, &key.token).await, "invalid");
        let revoked_at = keys.get(&key.key.id).await.unwrap().unwrap().revoked_at;
        let age = Utc::now() - revoked_at.unwrap();
        assert!(age.num_seconds().abs() < 60, "{age}");
    }
}

async fn pools_are_those_of_the_guide(world: World) {
    let (connections, timeout) = match Database::connect(&world.url()).await.unwrap() {
        Database::Sqlite(pool) => {
            let options = pool.options();
            (options.get_max_connections(), options.get_acquire_timeout())
        }
        Database::Postgres(pool) => {
            let options = pool.options();
            (options.get_max_connections(), options.get_acquire_timeout())
        }
        other => panic!("{other:?}"),
    };
    let connections = match world {
        World::Sqlite(_) => format!("(SQLite: {connections})"),
        World::Postgres(..) => format!("opens up to {connections} "),
    };
    let timeout = format!("which is {} s in", timeout.as_secs());
    assert!(GUIDE.contains(&connections), "{connections}");
    assert!(GUIDE.contains(&timeout), "{timeout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_of_the_guide_are_enough_and_do_not_change_the_audit() {
    let world = World::postgres();
    world.keys().await; // Migrates.
    let World::Postgres(_, schema) = &world else {
        unreachable!()
    };
    world.execute("CREATE ROLE service LOGIN").await;
    let usage = format!("GRANT USAGE ON SCHEMA {schema} TO service");
    for grant in sql("GRANT").into_iter().chain([usage]) {
        world.execute(&grant).await;
    }

    let url = world.url().replace("//postgres@", "//service@");
    let builder = ApiKeys::builder(Database::connect(&url).await.unwrap());
    let builder = builder.schema(schema).migrate(false).outbox_interval(None);
    let keys = builder.build().await.unwrap();
    let redis = RedisServer::start();
    let store = RedisStore::new(&redis.url()).unwrap();
    let cache = keys.cache().store(store).build().unwrap();

    let [used, rotated] = [issue(&keys).await, issue(&keys).await];
    assert_eq!(answer(&cache, &used.token).await, "valid");
    keys.rotate(&rotated.key.id, Duration::from_secs(60))
        .await
        .unwrap();
    keys.undo_rotation(&rotated.key.id).await.unwrap();
    keys.revoke(&rotated.key.id).await.unwrap();
    keys.suspend("acme").await.unwrap();
    assert_eq!(answer(&cache, &used.token).await, "denied");
    keys.resume("acme").await.unwrap();
    keys.revoke_all("acme").await.unwrap();
    assert_eq!(keys.work_outbox().await.unwrap(), 0);
    assert_eq!(keys.shutdown().await, 0);
    let listed = keys.list(KeyQuery::new()).await.unwrap();
    assert_eq!(listed.keys.len(), 3);
    assert!(
        keys.get(&used.key.id)
            .await
            .unwrap()
            .unwrap()
            .last_used_at
            .is_some()
    );
    assert_eq!(keys.purge(Utc::now()).await.unwrap().into_inner(), 3);
    assert!(keys.audit(AuditQuery::new()).await.unwrap().len() >= 7);

    let pool = PgPool::connect(&url).await.unwrap();
    for statement in [
        format!("DELETE FROM {schema}.api_token_audit"),
        format!("UPDATE {schema}.api_token_audit SET actor = 'nobody'"),
    ] {
        let error = sqlx::raw_sql(&statement).execute(&pool).await.unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{error}");
    }
}

#[tokio::test]
async fn keys_on_a_lazy_pool_start_without_the_database() {
    let nowhere = "postgres://service@127.0.0.1:1/service";
    let pool = PgPool::connect_lazy(nowhere).unwrap();
    let keys = ApiKeys::builder(pool).migrate(false).build().await.unwrap();
    keys.cache().build().unwrap();
    Database::connect(nowhere).await.unwrap_err();
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins a log of what this thread does, until the guard is dropped.
    fn begin() -> (Self, impl Sized) {
        // While there is only one subscriber, a log line that another test's thread reaches first is disabled for all.
        let second = tracing::Dispatch::new(tracing_subscriber::fmt().finish());
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let guard = tracing::subscriber::set_default(subscriber.finish());
        (log, (second, guard))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// On one thread, so that the background task logs to this test's subscriber.
#[tokio::test]
async fn outbox_logs_why_an_invalidation_is_not_confirmed() {
    let (log, _guard) = Log::begin();

    let world = World::sqlite();
    let keys = world.keys().await;
    let redis = RedisServer::start();
    let store = RedisStore::new(&redis.url()).unwrap();
    let _cache = keys.cache().store(store).build().unwrap();
    redis.kill();
    let issued = keys.issue(NewKey::new("acme")).await.unwrap();
    keys.revoke(&issued.key.id).await.unwrap_err();
    let line = "pending invalidations cannot be confirmed; retrying";
    eventually(line, async || log.text().contains(line)).await;
    let text = log.text();
    let line = text.lines().find(|one| one.contains(line)).unwrap();
    assert!(line.contains("tower_api_token_sqlx"), "{line}");
    assert!(line.contains("no connection to the store"), "{line}");
}

#[tokio::test]
async fn router_logs_why_an_invalidation_is_not_confirmed() {
    let (log, _guard) = Log::begin();
    let world = World::sqlite();
    let keys = world.keys().await;
    let id = issue(&keys).await.key.id;
    let (router, path) = (keys.admin_router(), format!("/tokens/{id}"));
    send(&router, "delete", &path, "").await.expect(503);
    let (text, line) = (log.text(), "an invalidation is not confirmed");
    let line = text.lines().find(|one| one.contains(line)).expect(&text);
    assert!(line.contains("no cache is bound to the keys"), "{line}");
}

#[tokio::test]
async fn second_namespace_of_one_table_is_logged() {
    let (log, _guard) = Log::begin();
    let (world, redis) = (World::sqlite(), RedisServer::start());
    for (namespace, logged) in [("one", false), ("two", true)] {
        let keys = world.keys().await;
        let store = RedisStore::new(&redis.url()).unwrap();
        let cache = keys.cache().store(store).namespace(namespace);
        let _cache = cache.build().unwrap();
        issue(&keys).await;
        let line = "cached in another namespace too";
        assert_eq!(log.text().contains(line), logged, "{namespace}");
    }
}

#[test]
fn every_log_line_of_the_guide_exists() {
    let mut sources = String::new();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut directories = vec![std::path::PathBuf::from(directory)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else {
                sources.push_str(&std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let mut lines = 0;
    for row in GUIDE.lines() {
        let mut cells = row.split('|').map(str::trim).skip(1);
        if let Some("INFO" | "WARN" | "ERROR") = cells.next() {
            let line = cells
                .next()
                .unwrap()
                .trim_matches('`')
                .trim_end_matches(", …");
            assert!(sources.contains(line), "{line}");
            lines += 1;
        }
    }
    assert!(lines >= 8, "{lines}");
}
