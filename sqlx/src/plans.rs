//! How the databases run the statements that matter: by which indexes, with ten thousand keys.

use sqlx::Row as _;
use test_support::PostgresServer;

use crate::core::Core;
use crate::database::pool::Database;
use crate::keys::ApiKeys;
use crate::loader;
use crate::operations::list::{self, KeyQuery};
use crate::operations::purge;
use crate::outbox::pending;

/// Fills the tables, as far as plans depend on their size, and has the database look at them.
const SQLITE: &str = "\
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000) \
    INSERT INTO ~keys (id, tenant_id, digest, created_at, expires_at, revoked_at) \
    SELECT 'key_' || n, 't-' || n % 100, randomblob(32), n, n, iif(n % 10 = 0, n, NULL) FROM n; \
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000) \
    INSERT INTO ~outbox (id, kind, subject, created_at) SELECT n, 'tenant', n, n FROM n; \
    INSERT INTO ~tenants (id) SELECT 't-' || n.value FROM json_each('[1, 2, 3]') AS n; \
    ANALYZE";

const POSTGRES: &str = "\
    INSERT INTO ~keys (id, tenant_id, digest, created_at, expires_at, revoked_at) \
    SELECT 'key_' || n, 't-' || n % 100, sha256(n::text::bytea), now(), now() - n * interval '1 hour', \
        CASE WHEN n % 10 = 0 THEN now() - n * interval '1 hour' END FROM generate_series(1, 10000) AS n; \
    INSERT INTO ~outbox (id, kind, subject, created_at) \
    SELECT n, 'tenant', n, now() FROM generate_series(1, 10000) AS n; \
    INSERT INTO ~tenants (id) SELECT 't-' || n FROM generate_series(1, 10000) AS n; \
    ANALYZE ~keys; ANALYZE ~outbox; ANALYZE ~tenants";

/// Returns the plan of a statement, with these values for its parameters.
async fn plan(core: &Core, statement: &str, values: &[&str]) -> String {
    let mut sql = core.sql(statement);
    for (number, value) in values.iter().enumerate() {
        sql = sql.replace(&format!("${}", number + 1), value);
    }
    let lines: Vec<String> = match &core.database {
        Database::Sqlite(pool) => {
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let rows = sqlx::query(&explain).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| row.get("detail")).collect()
        }
        Database::Postgres(pool) => {
            let mut transaction = pool.begin().await.unwrap();
            // With as few rows as these, sorting them is as cheap as reading them in order.
            let set = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off";
            sqlx::raw_sql(set).execute(&mut *transaction).await.unwrap();
            let explain = format!("EXPLAIN {sql}");
            let rows = sqlx::query(&explain)
                .fetch_all(&mut *transaction)
                .await
                .unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
    };
    lines.join("\n")
}

/// Asserts that a plan reads tables by these indexes, in this order, and sorts nothing.
#[track_caller]
fn assert_by_indexes(plan: &str, indexes: &[&str]) {
    let is_scan =
        |line: &&str| line.contains("SCAN ") || line.contains("SEARCH ") || line.contains("Scan");
    let scans: Vec<&str> = plan.lines().filter(is_scan).collect();
    assert_eq!(scans.len(), indexes.len(), "{plan}");
    for (scan, index) in scans.iter().zip(indexes) {
        assert!(scan.contains(index), "{index}: {plan}");
        assert!(!scan.contains("Seq Scan"), "{plan}");
    }
    assert!(
        !plan.contains("Sort") && !plan.contains("TEMP B-TREE"),
        "{plan}"
    );
}

#[tokio::test]
async fn statements_on_postgres_use_their_indexes() {
    let server = PostgresServer::start();
    let keys = ApiKeys::connect(&server.url()).await.unwrap();
    let core = keys.core();
    let Database::Postgres(pool) = &core.database else {
        panic!("another database");
    };
    sqlx::raw_sql(&core.sql(POSTGRES))
        .execute(pool)
        .await
        .unwrap();

    let (keys, tenants) = ("api_token_keys", "api_token_tenants");
    let plan_of = async |statement: &str, values: &[&str]| plan(core, statement, values).await;
    let digest = "sha256('17'::bytea)";
    let found = plan_of(&loader::select(), &[digest]).await;
    assert_by_indexes(
        &found,
        &[&format!("{keys}_digest_key"), &format!("{tenants}_pkey")],
    );

    let after = "key_5".parse().unwrap();
    let query = KeyQuery::new().after(Some(after));
    let (page, _) = list::statement(query.clone());
    let all = plan_of(&page, &["100", "'key_5'"]).await;
    assert!(
        all.contains(&format!("Index Scan using {keys}_pkey")),
        "{all}"
    );
    let (page, _) = list::statement(query.tenant("t-1").newest_first());
    let of_tenant = plan_of(&page, &["100", "'t-1'", "'key_5'"]).await;
    let backward = format!("Index Scan Backward using {keys}_by_tenant");
    assert!(of_tenant.contains(&backward), "{of_tenant}");
    for page in [all, of_tenant] {
        assert_by_indexes(&page, &["Index Scan", &format!("{tenants}_pkey")]);
    }

    let first = plan_of(pending::SELECT, &["100"]).await;
    assert_by_indexes(&first, &["api_token_outbox_in_order"]);
    for (column, index) in [("revoked_at", "by_revocation"), ("expires_at", "by_expiry")] {
        let ended = plan_of(
            &purge::delete(column),
            &["now() - interval '9000 hours'", "10"],
        )
        .await;
        assert!(ended.contains(&format!("{keys}_{index}")), "{ended}");
    }
}

#[tokio::test]
async fn statements_on_sqlite_use_their_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/keys.db", directory.path().display());
    let keys = ApiKeys::connect(&url).await.unwrap();
    let core = keys.core();
    let Database::Sqlite(pool) = &core.database else {
        panic!("another database");
    };
    sqlx::raw_sql(&core.sql(SQLITE))
        .execute(pool)
        .await
        .unwrap();

    let plan_of = async |statement: &str, values: &[&str]| plan(core, statement, values).await;
    let found = plan_of(&loader::select(), &["x'00'"]).await;
    assert_by_indexes(&found, &["(digest=?)", "(id=?)"]);
    let after = "key_5".parse().unwrap();
    let query = KeyQuery::new().after(Some(after));
    let (page, _) = list::statement(query.clone());
    let all = plan_of(&page, &["100", "'key_5'"]).await;
    assert_by_indexes(&all, &["(id>?)", "(id=?)"]);
    let (page, _) = list::statement(query.tenant("t-1").newest_first());
    let of_tenant = plan_of(&page, &["100", "'t-1'", "'key_5'"]).await;
    assert_by_indexes(&of_tenant, &["api_token_keys_by_tenant", "(id=?)"]);
    let first = plan_of(pending::SELECT, &["100"]).await;
    assert_by_indexes(&first, &["api_token_outbox_in_order"]);
    for (column, index) in [("revoked_at", "by_revocation"), ("expires_at", "by_expiry")] {
        let ended = plan_of(&purge::delete(column), &["100", "10"]).await;
        assert!(
            ended.contains(&format!("api_token_keys_{index}")),
            "{ended}"
        );
    }
}
