//! The database by itself: migrations, seed and outbox under concurrency, on both kinds.

use chrono::{DateTime, Utc};
use demo::db::{
    Database as Pool, InsertError, Kept, NewToken, Subject, Target, TenantStatus, Timestamp,
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

/// Runs the body on a SQLite file and on a PostgreSQL server of its own.
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
                    pool.seed(Kept::Digest).await.unwrap().is_some()
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
async fn token_comes_back_as_it_was_written() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(Kept::Digest).await.unwrap();
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
async fn refused_insertion_owes_nothing() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(Kept::Digest).await.unwrap();
        let pending = pool.insert_token(&new_token("only-once")).await.unwrap();
        pool.settle(&pending).await.unwrap();

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
        // The transactions that were given up hold no lock.
        let _ = pool.insert_token(&new_token("afterwards")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_an_older_invalidation_leaves_the_newer_one_owed() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(Kept::Digest).await.unwrap();
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

        // Whoever confirmed the creation knows nothing of the revocation.
        pool.settle(&created).await.unwrap();
        let owed = pool.pending(10).await.unwrap();
        assert_eq!(
            owed.iter().map(|pending| &pending.id).collect::<Vec<_>>(),
            [&revoked.id]
        );
        pool.settle(&revoked).await.unwrap();
        assert_eq!(pool.pending_count().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidation_that_fails_goes_behind_the_others() {
    on_both(async |database| {
        let pool = database.open().await;
        pool.seed(Kept::Digest).await.unwrap();
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
        pool.seed(Kept::Digest).await.unwrap();
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
                    pool.settle(&pending).await.unwrap();
                })
            })
            .collect();
        for change in changes {
            change.await.unwrap();
        }
        // The last one to be committed was settled by its own id, or its row would still be here.
        assert_eq!(pool.pending_count().await.unwrap(), 0);
    })
    .await;
}

/// Two connections of the server for all, so that each statement may come to another one than the one before.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_no_obstacle() {
    let server = PostgresServer::start();
    let pooler = PgBouncer::in_front_of(&server, 2);
    let url = pooler.url();
    // Another program, whose prepared statement stays where it was made.
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

/// Sets the times of a token, as somebody with a console may.
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

/// A row that cannot be shown would end the request of everybody who reads the list.
#[tokio::test(flavor = "multi_thread")]
async fn no_time_in_a_row_is_too_early_or_too_late_to_be_read() {
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
fn a_time_that_is_in_another_year_in_utc_is_taken() {
    let demo = Demo::on(&Database::sqlite(), &[]);
    let body = r#"{"tenant_id":"acme","type":"app","expires_at":"9999-12-31T23:59:59-02:00"}"#;
    let made = demo.admin("POST", "/admin/tokens", Some(body)).expect(201);
    assert_eq!(made.json()["expires_at"], "9999-12-31T23:59:59.999999Z");
}

#[test]
fn no_text_of_a_token_is_in_the_database() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    for token in demo.seeded() {
        assert!(database.holds(&token.id));
        assert!(database.holds(&TokenDigest::of(&token.text).to_string()));
        assert!(!database.holds(&token.text));
    }
}
