//! Last uses, from the request to the row in the table.

use std::process::ExitStatus;

use chrono::{DateTime, Utc};
use test_support::RedisServer;
use tower_api_token::TokenDigest;
use tower_api_token_sqlx::ApiKeys;

use super::server::{Database, Demo, eventually};

/// Reads the column `last_used_at` of a token.
fn last_used(database: &Database, token: &str) -> Option<DateTime<Utc>> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let pool = database.open().await;
        let keys = ApiKeys::builder(pool.clone()).migrate(false).build();
        let key = keys.await.unwrap().find(TokenDigest::of(token)).await;
        pool.close().await;
        key.unwrap().unwrap().last_used_at
    })
}

fn both(test: fn(Database)) {
    test(Database::sqlite());
    test(Database::postgres());
}

#[test]
fn use_is_written_once_from_two_instances() {
    both(|database| {
        let redis = RedisServer::start();
        let url = redis.url();
        let variables = [("REDIS_URL", url.as_str()), ("LAST_USE_FLUSH_SECONDS", "1")];
        let one = Demo::on(&database, &variables);
        let other = Demo::on(&database, &variables);
        let before = Utc::now();
        let (app, dataset) = (
            one.token("acme", "app").text,
            one.token("acme", "dataset").text,
        );
        for _ in 0..5 {
            one.whoami(&app).expect(200);
            other.get_as("/v1/datasets", &dataset).expect(200);
        }
        for demo in [&one, &other] {
            eventually("it is written", || {
                demo.metric("api_token_last_uses_written_total", &[]) == 1
            });
            assert_eq!(demo.metric("api_token_last_uses_recorded_total", &[]), 1);
        }
        for token in [&app, &dataset] {
            assert!(last_used(&database, token).is_some_and(|at| before <= at));
        }
    });
}

fn end(demo: &mut Demo, signal: &str) -> ExitStatus {
    demo.signal(signal);
    demo.wait()
}

#[test]
fn sigterm_writes_pending_uses() {
    both(|database| {
        let mut demo = Demo::on(&database, &[("LAST_USE_FLUSH_SECONDS", "3600")]);
        let token = demo.token("acme", "app").text;
        demo.whoami(&token).expect(200);
        assert_eq!(demo.metric("api_token_last_uses_written_total", &[]), 0);
        assert_eq!(last_used(&database, &token), None);
        assert!(end(&mut demo, "TERM").success());
        assert!(last_used(&database, &token).is_some());
        let again = Demo::on(&database, &[]);
        assert!(again.whoami(&token).expect(200).json()["last_used_at"].is_string());
    });
}

/// Uses older than a flush interval are in the database. Lost ones do not prevent that later ones are
/// recorded.
#[test]
fn killed_process_loses_at_most_one_flush_interval() {
    both(|database| {
        let variables = [("LAST_USE_FLUSH_SECONDS", "1")];
        let mut demo = Demo::on(&database, &variables);
        let [app, dataset] = ["app", "dataset"].map(|kind| demo.token("acme", kind).text);
        demo.whoami(&app).expect(200);
        let written = |demo: &Demo| demo.metric("api_token_last_uses_written_total", &[]);
        eventually("it is written", || written(&demo) == 1);
        demo.get_as("/v1/datasets", &dataset).expect(200);
        assert!(!end(&mut demo, "KILL").success());
        assert!(last_used(&database, &app).is_some());
        let before = Utc::now();
        let again = Demo::on(&database, &variables);
        again.get_as("/v1/datasets", &dataset).expect(200);
        eventually("it is written", || written(&again) == 1);
        assert!(last_used(&database, &dataset).is_some_and(|at| before <= at));
    });
}
