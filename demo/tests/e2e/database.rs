//! The database: migrations, first tokens and the outbox under concurrency, on SQLite and PostgreSQL.

use std::path::Path;

use demo::config::Layout;
use demo::seed;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use test_support::{PgBouncer, PostgresServer};
use tower_api_token::TokenDigest;
use tower_api_token_sqlx::Database as Pool;

use super::server::{Database, Demo, unknown};

/// Runs the body with a SQLite file, and with a PostgreSQL server.
async fn on_both<F: AsyncFn(&Database)>(body: F) {
    body(&Database::sqlite()).await;
    body(&Database::postgres()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_together_migrate_and_seed_once() {
    on_both(async |database| {
        let url = database.url();
        let starts: Vec<_> = (0..8)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move {
                    let pool = Pool::connect(&url).await.unwrap();
                    let opened = seed::open(pool, &Layout::Digest).await.unwrap();
                    opened.seeded.is_some()
                })
            })
            .collect();
        let mut seeded = 0;
        for start in starts {
            seeded += usize::from(start.await.unwrap());
        }
        assert_eq!(seeded, 1);
    })
    .await;
}

/// Creates the tables of the demo before it stood on `tower_api_token_sqlx`, with a tenant that has a token, and one without.
async fn former_version(database: &Database, text: &str) {
    let (kind, now) = match database {
        Database::Sqlite(_) => ("sqlite", "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"),
        Database::Postgres(_) => ("postgres", "now()"),
    };
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sqlx/tests/demo-tables");
    let mut scripts = Vec::new();
    for file in ["0001_tokens", "0002_text", "0003_successor"] {
        let path = tables.join(kind).join(file).with_extension("sql");
        scripts.push(std::fs::read_to_string(path).unwrap());
    }
    let digest = TokenDigest::of(text);
    scripts.push(format!(
        "INSERT INTO tenants (id, name) VALUES ('acme', 'Acme'), ('initech', 'Initech');
         INSERT INTO tokens (id, tenant_id, type, digest, token, created_at)
         VALUES ('tok_1', 'acme', 'app', '{digest}', '{text}', {now});"
    ));
    match database.open().await {
        Pool::Sqlite(pool) => {
            sqlx::raw_sql(&scripts.concat())
                .execute(&pool)
                .await
                .unwrap();
            pool.close().await;
        }
        Pool::Postgres(pool) => {
            sqlx::raw_sql(&scripts.concat())
                .execute(&pool)
                .await
                .unwrap();
            pool.close().await;
        }
        _ => panic!("another database"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_texts_of_a_former_version_are_moved() {
    on_both(async |database| {
        let text = unknown("app");
        former_version(database, &text).await;
        let demo = Demo::with(database, "dify", None);
        assert!(demo.seeded().is_empty(), "{}", demo.banner);
        assert_eq!(demo.whoami(&text).expect(200).json()["id"], "tok_1");
        demo.admin("POST", "/admin/tenants/initech/suspend", None)
            .expect(200);
        demo.delete("tok_1").expect(200);
        demo.whoami(&text).expect(401);
        drop(demo);
        let demo = Demo::with(database, "dify", None);
        let listed = demo.admin("GET", "/admin/tokens", None).expect(200).json();
        assert_eq!(listed["tokens"].as_array().unwrap().len(), 1);
    })
    .await;
}

/// The pooler has two server connections, so consecutive statements may use different ones.
#[tokio::test(flavor = "multi_thread")]
async fn server_works_behind_a_pooler_in_transaction_mode() {
    let server = PostgresServer::start();
    let pooler = PgBouncer::in_front_of(&server, 2);
    let url = pooler.url();
    // Another client, whose prepared statement stays on the server connection.
    let options = url.parse::<PgConnectOptions>().unwrap();
    let mut other = options.extra_float_digits(None).connect().await.unwrap();
    let select = sqlx::query("SELECT $1").bind("named like the first of ours");
    select.execute(&mut other).await.unwrap();
    let start = || Demo::start(&[("DATABASE_URL", &url), ("LOCAL_CAPACITY", "0")]);
    let demo = start();
    let (others, token) = ([start(), start()], demo.token("acme", "app"));
    let use_it = |demo: &Demo| {
        for _ in 0..10 {
            let body = r#"{"tenant_id":"acme","token_type":"app"}"#;
            let made = demo.admin("POST", "/admin/tokens", Some(body)).expect(201);
            let made = made.json();
            let (id, text) = (
                made["id"].as_str().unwrap(),
                made["token"].as_str().unwrap(),
            );
            demo.whoami(text).expect(200);
            demo.admin("GET", "/admin/tokens", None).expect(200);
            let path = format!("/admin/tokens/{id}/rotate");
            demo.admin("POST", &path, None).expect(201);
            demo.delete(id).expect(200);
            demo.whoami(text).expect(401);
            demo.get("/readyz").expect(200);
        }
    };
    std::thread::scope(|scope| {
        for demo in others.iter().chain([&demo]) {
            scope.spawn(|| use_it(demo));
        }
    });
    demo.whoami(&token.text).expect(200);
    assert_eq!(demo.metric("demo_pending_invalidations", &[]), 0);
}

/// Sets the times of a token, as an operator may do by hand.
async fn set_times(database: &Database, id: &str, value: &str) {
    let update = format!(
        "UPDATE api_token_keys SET created_at = {value}, expires_at = {value}, last_used_at = {value} \
         WHERE id = '{id}'"
    );
    database.execute(&update).await;
}

/// A row that cannot be read would make every request for the list fail.
#[tokio::test(flavor = "multi_thread")]
async fn every_time_in_a_row_can_be_read() {
    let postgres = [
        ("'infinity'", 200),
        ("'10000-01-01'", 200),
        ("'-infinity'", 401),
        ("'0044-03-15 BC'", 401),
    ];
    let sqlite = [
        ("9223372036854775807", 200),
        ("253402300800000000", 200),
        ("-9223372036854775807", 401),
    ];
    for (database, values) in [
        (Database::postgres(), &postgres[..]),
        (Database::sqlite(), &sqlite[..]),
    ] {
        let demo = Demo::on(&database, &[]);
        for (value, status) in values {
            let body = r#"{"tenant_id":"acme","token_type":"app"}"#;
            let made = demo.admin("POST", "/admin/tokens", Some(body)).expect(201);
            let made = made.json();
            let id = made["id"].as_str().unwrap();
            set_times(&database, id, value).await;
            demo.whoami(made["token"].as_str().unwrap()).expect(*status);
            let listed = demo.admin("GET", "/admin/tokens", None).expect(200).json();
            let tokens = listed["tokens"].as_array().unwrap();
            let listed = tokens.iter().find(|token| token["id"] == id).unwrap();
            assert!(listed["created_at"].is_string(), "{value}");
            assert_eq!(listed["expires_at"].is_null(), *status == 200, "{value}");
            if *status == 200 {
                let path = format!("/admin/tokens/{id}/rotate");
                let rotated = demo.admin("POST", &path, None).expect(201).json();
                assert!(rotated["expires_at"].is_null(), "{value}");
            }
        }
    }
}

#[test]
fn expiry_in_another_year_in_utc_is_accepted() {
    let demo = Demo::on(&Database::sqlite(), &[]);
    let body =
        r#"{"tenant_id":"acme","token_type":"app","expires_at":"9999-12-31T23:59:59-02:00"}"#;
    let made = demo.admin("POST", "/admin/tokens", Some(body)).expect(201);
    // A year that cannot be written with four digits is as good as never.
    assert_eq!(made.json()["expires_at"], serde_json::Value::Null);
}

#[test]
fn database_has_no_text_of_a_token() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    for token in demo.seeded() {
        assert!(database.holds(&token.id));
        assert!(database.holds_bytes(TokenDigest::of(&token.text).as_bytes()));
        assert!(!database.holds(&token.text));
    }
}
