//! The rows of the demo server, and of services that copied it, move into the crate's tables.

use std::path::Path;
use std::time::Duration;

use sqlx::{ConnectOptions as _, Executor as _};
use tower_api_token::{BearerToken, TokenDigest};
use tower_api_token_sqlx::{AuditQuery, ChangeError, Error, KeyQuery, Subject};

use crate::world::{World, answer};

crate::on_both!(rows_of_the_demo_are_moved_and_go_on_as_keys);

/// Runs scripts in the schema of the world, as a migrator does.
async fn run(world: &World, scripts: &[String]) {
    let script = scripts.join("\n");
    match world {
        World::Sqlite(_) => {
            let options: sqlx::sqlite::SqliteConnectOptions = world.url().parse().unwrap();
            let mut connection = options.create_if_missing(true).connect().await.unwrap();
            connection.execute(script.as_str()).await.unwrap();
        }
        World::Postgres(_, schema) => {
            let options: sqlx::postgres::PgConnectOptions = world.url().parse().unwrap();
            let mut connection = options.connect().await.unwrap();
            let create =
                format!("CREATE SCHEMA IF NOT EXISTS {schema}; SET search_path TO {schema};");
            let script = create + &script;
            connection.execute(script.as_str()).await.unwrap();
        }
    }
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the demo's rows: keys that are valid, revoked, rotated and suspended, and what it had not confirmed.
fn rows(now: &str, in_an_hour: &str) -> String {
    let mut script = String::from(
        "INSERT INTO tenants (id, name, status) VALUES ('acme', 'Acme', 'active'), ('globex', 'Globex', 'suspended');",
    );
    for (id, tenant, expires, revoked, successor) in [
        ("tok_valid", "acme", "NULL", "NULL", "NULL"),
        ("tok_revoked", "acme", "NULL", now, "NULL"),
        ("tok_old", "acme", in_an_hour, "NULL", "'tok_new'"),
        ("tok_new", "acme", "NULL", "NULL", "NULL"),
        ("tok_suspended", "globex", "NULL", "NULL", "NULL"),
    ] {
        let digest = TokenDigest::of(&text(id));
        script += &format!(
            "INSERT INTO tokens (id, tenant_id, app_id, type, digest, created_at, expires_at, revoked_at, last_used_at, successor_id) \
             VALUES ('{id}', '{tenant}', 'chat', 'app', '{digest}', {now}, {expires}, {revoked}, {now}, {successor});"
        );
    }
    let digest = TokenDigest::of(&text("tok_revoked"));
    script += &format!(
        "INSERT INTO pending_invalidations (id, kind, subject, created_at, attempts) \
         VALUES ('inv_1', 'token_digest', '{digest}', {now}, 2), ('inv_2', 'tenant', 'globex', {now}, 0);"
    );
    script
}

fn text(id: &str) -> String {
    format!("demo_app_0123456789-{id}")
}

async fn rows_of_the_demo_are_moved_and_go_on_as_keys(world: World) {
    let (name, now, in_an_hour) = match &world {
        World::Sqlite(_) => (
            "sqlite",
            "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            "CAST(unixepoch('subsec') * 1000000 AS INTEGER) + 3600000000",
        ),
        World::Postgres(..) => ("postgres", "now()", "now() + interval '1 hour'"),
    };
    let mut before: Vec<String> = ["0001_tokens", "0002_text", "0003_successor"]
        .map(|file| read(&format!("tests/demo-tables/{name}/{file}.sql")))
        .into();
    before.push(rows(now, in_an_hour));
    run(&world, &before).await;

    let builder = world.builder().await.outbox_interval(None);
    let keys = builder.build().await.unwrap();
    run(&world, &[read(&format!("migrations/from-demo/{name}.sql"))]).await;

    let cache = keys.cache().build().unwrap();
    let ask = async |id: &str| answer(&cache, &BearerToken::new(text(id))).await;
    assert_eq!(ask("tok_valid").await, "valid");
    assert_eq!(ask("tok_revoked").await, "invalid");
    assert_eq!(ask("tok_old").await, "valid");
    assert_eq!(ask("tok_new").await, "valid");
    assert_eq!(ask("tok_suspended").await, "denied");
    let valid = keys.get("tok_valid").await.unwrap().unwrap();
    assert_eq!(
        (valid.app_id.as_deref(), valid.token_type.as_deref()),
        (Some("chat"), Some("app"))
    );
    assert!(valid.last_used_at.is_some());
    assert_eq!(keys.list(KeyQuery::new()).await.unwrap().keys.len(), 5);
    let audit = keys.audit(AuditQuery::new()).await.unwrap();
    assert_eq!(audit[0].detail.as_deref(), Some("5"));

    // What the demo had not confirmed is confirmed.
    let pending = keys.pending(10).await.unwrap();
    let subjects: Vec<_> = pending.into_iter().map(|it| it.subject).collect();
    assert_eq!(
        subjects,
        [
            Subject::Tenant("globex".to_owned()),
            Subject::Key(TokenDigest::of(&text("tok_revoked")))
        ]
    );
    assert_eq!(keys.work_outbox().await.unwrap(), 2);

    // A rotation of before goes on, and is undone.
    let error = keys.rotate("tok_old", Duration::ZERO).await.unwrap_err();
    let rotated = matches!(&error, ChangeError::Failed(Error::AlreadyRotated { successor_id }) if successor_id == "tok_new");
    assert!(rotated, "{error}");
    let rotation = keys.rotation("tok_new").await.unwrap().unwrap();
    assert_eq!(rotation.predecessor.id, "tok_old");
    let undone = keys.undo_rotation("tok_old").await.unwrap();
    assert_eq!(undone.expires_at, None);
    assert_eq!(ask("tok_new").await, "invalid");
    keys.resume("globex").await.unwrap();
    assert_eq!(ask("tok_suspended").await, "valid");
}
