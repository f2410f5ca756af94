//! The schema: its names, its files, and instances that start together.

use sqlx::ConnectOptions as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use test_support::{PgBouncer, PostgresServer};
use tower_api_token_sqlx::{ApiKeys, Database, KeyQuery, NewKey};

use crate::world::{World, answer, issue};

crate::on_both!(
    instances_that_start_together_migrate_once,
    tables_of_two_prefixes_live_beside_each_other,
    keys_live_beside_a_services_own_migrator,
    another_migrator_can_run_the_files,
    invalid_settings_are_named,
    closed_database_fails_its_check,
);

async fn instances_that_start_together_migrate_once(world: World) {
    let mut builders = Vec::new();
    for _ in 0..8 {
        builders.push(world.builder().await);
    }
    let starts = builders.into_iter().map(|it| tokio::spawn(it.build()));
    for start in starts.collect::<Vec<_>>() {
        issue(&start.await.unwrap().unwrap()).await;
    }
    let listed = world.keys().await.list(KeyQuery::new()).await.unwrap();
    assert_eq!(listed.keys.len(), 8);
}

async fn tables_of_two_prefixes_live_beside_each_other(world: World) {
    let one = world.keys().await;
    let other = world.builder().await.table_prefix("other_");
    let other = other.build().await.unwrap();
    let (_one, cache) = (one.cache().build().unwrap(), other.cache().build().unwrap());
    let issued = issue(&one).await;
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
    let issued = issue(&other).await;
    assert_eq!(answer(&cache, &issued.token).await, "valid");
    other.suspend("acme").await.unwrap();
    assert_eq!(answer(&cache, &issued.token).await, "denied");
    assert!(!one.is_suspended("acme").await.unwrap());
}

async fn keys_live_beside_a_services_own_migrator(world: World) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("0001_orders.sql");
    std::fs::write(file, "CREATE TABLE orders (id TEXT PRIMARY KEY)").unwrap();
    // Twice, as at two starts.
    for _ in 0..2 {
        let keys = world.keys().await;
        let migrator = Migrator::new(directory.path()).await.unwrap();
        match &world {
            World::Sqlite(_) => {
                let pool = sqlx::SqlitePool::connect(&world.url()).await.unwrap();
                migrator.run(&pool).await.unwrap();
            }
            World::Postgres(_, schema) => {
                let options: PgConnectOptions = world.url().parse().unwrap();
                let options = options.options([("search_path", schema)]);
                let pool = sqlx::PgPool::connect_with(options).await.unwrap();
                migrator.run(&pool).await.unwrap();
            }
        }
        issue(&keys).await;
    }
}

async fn another_migrator_can_run_the_files(world: World) {
    let (file, before) = match &world {
        World::Sqlite(_) => ("sqlite", String::new()),
        World::Postgres(_, schema) => (
            "postgres",
            format!("CREATE SCHEMA {schema}; SET search_path TO {schema};"),
        ),
    };
    let path = format!(
        "{}/migrations/{file}/0001_keys.sql",
        env!("CARGO_MANIFEST_DIR")
    );
    let script = std::fs::read_to_string(path).unwrap();
    let builder = world.builder().await.migrate(false);
    world.execute(&(before + &script)).await;
    let keys = builder.build().await.unwrap();
    let cache = keys.cache().build().unwrap();
    let issued = issue(&keys).await;
    assert_eq!(answer(&cache, &issued.token).await, "valid");
}

async fn invalid_settings_are_named(world: World) {
    let rejected = async |builder: tower_api_token_sqlx::ApiKeysBuilder| {
        builder.build().await.unwrap_err().to_string()
    };
    let builder = async || world.builder().await;
    let prefix = builder().await.table_prefix("x; DROP TABLE keys");
    assert!(rejected(prefix).await.starts_with("table_prefix: "));
    let schema = builder().await.schema("Auth");
    assert!(rejected(schema).await.starts_with("schema: "));
    let interval = builder().await.outbox_interval(std::time::Duration::ZERO);
    assert!(rejected(interval).await.starts_with("outbox_interval: "));
    for prefix in ["", "a/b", "a b", "ä"] {
        let id = builder().await.id_prefix(prefix);
        assert!(rejected(id).await.starts_with("id_prefix: "));
    }
}

#[tokio::test]
async fn invalid_url_is_rejected_and_not_shown() {
    for url in [
        "",
        "keys.db",
        "mysql://u:hunter22@h/db",
        "postgres://u:hunter22@h:port/db",
        "postgres://u:hunter22@h:99999/db",
        "sqlite://x.db?hunter22=1",
        "sqlite://:memory:",
        "sqlite://x?mode=memory",
        "sqlite:",
    ] {
        let error = ApiKeys::connect(url).await.expect_err(url);
        let shown = format!("{error} {error:?}");
        assert!(shown.starts_with("database_url: "), "{shown}");
        assert!(!shown.contains("hunter22"), "{shown}");
    }
}

#[tokio::test]
async fn readers_of_sqlite_do_not_wait_for_a_writer() {
    let world = World::sqlite();
    let keys = world.keys().await;
    let issued = issue(&keys).await;
    let pool = sqlx::SqlitePool::connect(&world.url()).await.unwrap();
    let writer = pool.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    assert!(keys.get(&issued.key.id).await.unwrap().is_some());
    writer.rollback().await.unwrap();
}

async fn closed_database_fails_its_check(world: World) {
    let keys = world.keys().await;
    keys.database().check().await.unwrap();
    keys.database().close().await;
    keys.database().check().await.unwrap_err();
}

/// The pooler has two server connections, so consecutive statements may use different ones.
#[tokio::test(flavor = "multi_thread")]
async fn keys_work_behind_a_pooler_in_transaction_mode() {
    let server = PostgresServer::start();
    let pooler = PgBouncer::in_front_of(&server, 2);
    // Another client, whose prepared statement stays on the server connection.
    let options = pooler.url().parse::<PgConnectOptions>().unwrap();
    let mut other = options.extra_float_digits(None).connect().await.unwrap();
    let select = sqlx::query("SELECT $1").bind("named like the first of ours");
    select.execute(&mut other).await.unwrap();

    let mut instances = Vec::new();
    for _ in 0..3 {
        let database = Database::connect(&pooler.url()).await.unwrap();
        let keys = ApiKeys::builder(database).schema("auth");
        let keys = keys.build().await.unwrap();
        let use_it = async move {
            let cache = keys.cache().local_capacity(0).build().unwrap();
            for _ in 0..10 {
                let issued = keys.issue(NewKey::new("acme")).await.unwrap();
                let id = &issued.key.id;
                assert_eq!(answer(&cache, &issued.token).await, "valid");
                keys.list(KeyQuery::new().tenant("acme")).await.unwrap();
                let overlap = std::time::Duration::from_secs(60);
                keys.rotate(id, overlap).await.unwrap();
                keys.revoke(id).await.unwrap();
                assert_eq!(answer(&cache, &issued.token).await, "invalid");
            }
            assert_eq!(keys.shutdown().await, 0);
            keys.database().check().await.unwrap();
        };
        instances.push(tokio::spawn(use_it));
    }
    for instance in instances {
        instance.await.unwrap();
    }
}
