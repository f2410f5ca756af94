//! The database: migrations, first tokens and the outbox under concurrency, on SQLite and PostgreSQL.

use chrono::{DateTime, Utc};
use demo::db::{
    Database as Pool, InsertError, NewToken, StoredForm, Subject, Target, TenantStatus, Timestamp,
};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use test_support::{PgBouncer, PostgresServer};
use tower_api_token::TokenDigest;

use super::server::{Database, Demo};

fn new_token(text: &str) -> NewToken {
    NewToken {
        id: format!("tok_{text}"),
        tenant_id: "acme".to_owned(),
        app_id: Some("chat".to_owned()),
        token_type: "app",
        digest: TokenDigest::of(text),
        text: None,
        created_at: Timestamp::now(),
        expires_at: Timestamp::parse("2100-01-01T00:00:00.000001Z"),
    }
}

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
                    let pool = Pool::open(Target::parse(&url).unwrap()).await.unwrap();
                    pool.seed(StoredForm::Digest).await.unwrap().is_some()
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

#[tokio::test(flavor = "multi_thread")]
async fn token_is_read_as_it_was_written() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(StoredForm::Digest).await.unwrap();
        let token = new_token("written-and-read");
        let _ = pool.insert_token(&token).await.unwrap();
        let row = pool
            .find_token(token.digest)
            .await
            .unwrap()
            .expect("it is there");
        assert_eq!(
            (row.id, row.tenant_id, row.app_id),
            (token.id, token.tenant_id, token.app_id)
        );
        assert_eq!(
            (row.token_type.as_str(), row.digest),
            (token.token_type, token.digest)
        );
        assert_eq!(
            (row.created_at, row.expires_at, row.last_used_at),
            (token.created_at, token.expires_at, None)
        );
        assert!(DateTime::from(row.created_at) <= Utc::now());
        assert!(!row.tenant_suspended);

        let pending = pool
            .set_tenant_status("acme", TenantStatus::Suspended)
            .await
            .unwrap()
            .expect("a tenant");
        assert_eq!(pending.subject, Subject::Tenant("acme".to_owned()));
        assert!(
            pool.find_token(token.digest)
                .await
                .unwrap()
                .unwrap()
                .tenant_suspended
        );
        assert!(
            pool.find_token(TokenDigest::of("another"))
                .await
                .unwrap()
                .is_none()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_change_adds_no_pending_invalidation() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(StoredForm::Digest).await.unwrap();
        let pending = pool.insert_token(&new_token("only-once")).await.unwrap();
        pool.delete_pending(&pending).await.unwrap();

        let again = NewToken {
            id: "tok_other".to_owned(),
            ..new_token("only-once")
        };
        assert!(matches!(
            pool.insert_token(&again).await,
            Err(InsertError::Duplicate)
        ));
        let homeless = NewToken {
            tenant_id: "nobody".to_owned(),
            ..new_token("homeless")
        };
        assert!(matches!(
            pool.insert_token(&homeless).await,
            Err(InsertError::NoSuchTenant)
        ));
        assert!(pool.revoke_token("tok_none").await.unwrap().is_none());
        assert!(
            pool.set_tenant_status("nobody", TenantStatus::Active)
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(pool.pending_count().await.unwrap(), 0);
        // Abandoned transactions hold no lock.
        let _ = pool.insert_token(&new_token("afterwards")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirming_an_older_invalidation_keeps_the_newer_one() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(StoredForm::Digest).await.unwrap();
        let created = pool
            .insert_token(&new_token("changed-twice"))
            .await
            .unwrap();
        let revoked = pool
            .revoke_token("tok_changed-twice")
            .await
            .unwrap()
            .expect("it is there");
        assert_eq!(created.subject, revoked.subject);

        // This confirmation is of the creation, not of the revocation.
        pool.delete_pending(&created).await.unwrap();
        let owed = pool.pending(10).await.unwrap();
        assert_eq!(
            owed.iter().map(|pending| &pending.id).collect::<Vec<_>>(),
            [&revoked.id]
        );
        pool.delete_pending(&revoked).await.unwrap();
        assert_eq!(pool.pending_count().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_invalidation_is_sorted_behind_the_others() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(StoredForm::Digest).await.unwrap();
        let first = pool
            .set_tenant_status("acme", TenantStatus::Suspended)
            .await
            .unwrap()
            .unwrap();
        let second = pool
            .set_tenant_status("globex", TenantStatus::Suspended)
            .await
            .unwrap()
            .unwrap();
        pool.count_attempt(&first.id).await.unwrap();
        let owed = pool.pending(10).await.unwrap();
        assert_eq!(
            owed.iter().map(|pending| &pending.id).collect::<Vec<_>>(),
            [&second.id, &first.id]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_of_one_subject_all_succeed() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(StoredForm::Digest).await.unwrap();
        let changes: Vec<_> = (0..20)
            .map(|number| {
                let pool = pool.clone();
                let status = if number % 2 == 0 {
                    TenantStatus::Suspended
                } else {
                    TenantStatus::Active
                };
                tokio::spawn(async move {
                    let pending = pool
                        .set_tenant_status("acme", status)
                        .await
                        .unwrap()
                        .unwrap();
                    pool.delete_pending(&pending).await.unwrap();
                })
            })
            .collect();
        for change in changes {
            change.await.unwrap();
        }
        // Otherwise the row of the last commit would still exist.
        assert_eq!(pool.pending_count().await.unwrap(), 0);
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
            let body = r#"{"tenant_id":"acme","type":"app"}"#;
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
        "UPDATE tokens SET created_at = {value}, expires_at = {value}, last_used_at = {value} \
         WHERE id = '{id}'"
    );
    match database.open().await {
        Pool::Sqlite(pool) => drop(sqlx::query(&update).execute(&pool).await.unwrap()),
        Pool::Postgres(pool) => drop(sqlx::query(&update).execute(&pool).await.unwrap()),
    }
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
            let body = r#"{"tenant_id":"acme","type":"app"}"#;
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
    let body = r#"{"tenant_id":"acme","type":"app","expires_at":"9999-12-31T23:59:59-02:00"}"#;
    let made = demo.admin("POST", "/admin/tokens", Some(body)).expect(201);
    assert_eq!(made.json()["expires_at"], "9999-12-31T23:59:59.999999Z");
}

#[test]
fn database_has_no_text_of_a_token() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    for token in demo.seeded() {
        assert!(database.holds(&token.id));
        assert!(database.holds(&TokenDigest::of(&token.text).to_string()));
        assert!(!database.holds(&token.text));
    }
}
