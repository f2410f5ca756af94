//! The example `own_table` with a PostgreSQL and a Redis, used by the commands that it prints.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use test_support::{Direction, Example, FaultProxy, PostgresServer, RedisServer};
use tower_api_token::{TokenDigest, TokenFormat};

/// The printed commands, by their index.
const WHOAMI: usize = 0;
const SUSPEND: usize = 1;
const RESUME: usize = 2;
const REVOKE: usize = 3;

fn start(variables: &[(&str, &str)]) -> Example {
    Example::start(Path::new(env!("CARGO_BIN_EXE_own_table")), variables)
}

fn user(example: &Example) -> &str {
    example.token(WHOAMI, "Bearer ")
}

fn operator(example: &Example) -> &str {
    example.token(REVOKE, "Bearer ")
}

#[test]
fn revocation_takes_effect_on_the_other_instance() {
    let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
    let (database, cache) = (postgres.url(), redis.url());
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("REDIS_URL", cache.as_str()),
    ];
    let (one, other) = (start(&variables), start(&variables));
    let loaded = one.paste(WHOAMI).expect(200).body;
    assert!(loaded.ends_with(" of acme (loaded)\n"), "{loaded}");
    let shared = other
        .curl_as(user(&one), "/v1/whoami", &[])
        .expect(200)
        .body;
    assert_eq!(shared, loaded.replace("loaded", "shared"));

    one.paste(REVOKE).expect(204);

    other.curl_as(user(&one), "/v1/whoami", &[]).expect(401);
    one.paste(WHOAMI).expect(401);
    one.paste(REVOKE).expect(204);
    other.paste(WHOAMI).expect(200);
}

#[test]
fn token_is_denied_until_its_tenant_is_resumed() {
    let postgres = PostgresServer::start();
    let example = start(&[("DATABASE_URL", &postgres.url())]);
    for _ in 0..2 {
        example.paste(WHOAMI).expect(200);
        example.paste(SUSPEND).expect(204);
        for _ in 0..2 {
            let denied = example.paste(WHOAMI).expect(403);
            assert!(
                denied.body.contains("The account is suspended."),
                "{denied:?}"
            );
        }
        example.paste(RESUME).expect(204);
    }
    example.paste(WHOAMI).expect(200);
}

#[test]
fn each_type_of_token_works_only_for_its_routes() {
    let postgres = PostgresServer::start();
    let example = start(&[("DATABASE_URL", &postgres.url())]);
    example.curl("/v1/whoami", &[]).expect(401);
    let suspend = "/operator/tenants/acme/suspend";
    let post = ["-X", "POST"];
    example.curl(suspend, &post).expect(401);
    example.curl_as(user(&example), suspend, &post).expect(401);
    example
        .curl_as(operator(&example), "/v1/whoami", &[])
        .expect(401);
    for nothing in ["tokens/tok_none/revoke", "tenants/nobody/suspend"] {
        let path = format!("/operator/{nothing}");
        example
            .curl_as(operator(&example), &path, &post)
            .expect(404);
    }
    example.paste(WHOAMI).expect(200);
}

#[tokio::test]
async fn token_expires_when_its_row_says_so() {
    let postgres = PostgresServer::start();
    let example = start(&[("DATABASE_URL", &postgres.url())]);
    let mut database = PgConnection::connect(&postgres.url()).await.unwrap();
    let format = TokenFormat::from_static("demo_app_");
    let ends = [
        ("now() - interval '1 second'", 401),
        ("now() + interval '1 hour'", 200),
        ("NULL", 200),
        ("'infinity'", 200),
        ("'10000-01-01'", 200),
        ("'9999-12-31 23:59:59-14'", 200),
        ("'-infinity'", 401),
        ("'4713-01-01 BC'", 401),
    ];
    for (expires_at, status) in ends {
        let token = format.generate().unwrap();
        let insert = format!(
            "INSERT INTO tokens (tenant_id, type, digest, expires_at) VALUES ('acme', 'app', $1, {expires_at})"
        );
        sqlx::query(&insert)
            .bind(token.digest().as_bytes())
            .execute(&mut database)
            .await
            .unwrap();
        let answer = example.curl_as(token.expose(), "/v1/whoami", &[]);
        answer.expect(status);
    }
    // The table has the digest of the printed token.
    let digest = TokenDigest::of(user(&example));
    let known: i64 = sqlx::query_scalar("SELECT count(*) FROM tokens WHERE digest = $1")
        .bind(digest.as_bytes())
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(known, 1);
}

/// Waits until another process has made the condition true.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn disconnect_does_not_prevent_the_invalidation() {
    let postgres = PostgresServer::start();
    let example = start(&[("DATABASE_URL", &postgres.url())]);
    example.paste(WHOAMI).expect(200);
    let mut holder = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut observer = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut rows = holder.begin().await.unwrap();
    let lock = sqlx::query("SELECT FROM tokens FOR UPDATE");
    lock.execute(&mut *rows).await.unwrap();

    let line = example.commands()[REVOKE];
    let (_, path) = line.split_once(example.address()).unwrap();
    let mut request = TcpStream::connect(example.address()).unwrap();
    write!(
        request,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        operator(&example)
    )
    .unwrap();
    eventually("the revocation waits for the row", async || {
        const WAITING: &str =
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let waiting = sqlx::query_scalar(WAITING).fetch_one(&mut observer);
        waiting.await.unwrap()
    })
    .await;
    drop(request);
    rows.commit().await.unwrap();

    eventually("the token is refused", async || {
        example.paste(WHOAMI).status == 401
    })
    .await;
}

/// The process ends between the commit and the invalidation, which does not get through to Redis. Another instance
/// performs it.
#[tokio::test]
async fn invalidation_survives_a_crash() {
    let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
    let proxy = FaultProxy::start(redis.addr());
    let (database, cache) = (postgres.url(), redis.url());
    let through_proxy = format!("redis://{}", proxy.addr());
    let with = |cache: &str| start(&[("DATABASE_URL", &database), ("REDIS_URL", cache)]);
    let one = with(&through_proxy);
    one.paste(WHOAMI).expect(200);
    proxy.stall(Direction::ToServer);

    let line = one.commands()[REVOKE];
    let (_, path) = line.split_once(one.address()).unwrap();
    let mut request = TcpStream::connect(one.address()).unwrap();
    let (address, token) = (one.address(), operator(&one));
    write!(
        request,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    let mut observer = PgConnection::connect(&database).await.unwrap();
    let mut pending = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM pending_invalidations");
        count.fetch_one(&mut observer).await.unwrap()
    };
    eventually("the change is committed", async || pending().await == 1).await;
    let token = user(&one).to_owned();
    drop(one);

    let other = with(&cache);
    eventually("the token is refused", async || {
        other.curl_as(&token, "/v1/whoami", &[]).status == 401
    })
    .await;
    eventually("nothing is pending", async || pending().await == 0).await;
}

#[test]
fn instances_that_start_together_create_the_tables_once() {
    let postgres = PostgresServer::start();
    let url = postgres.url();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| start(&[("DATABASE_URL", &url)]).paste(WHOAMI).expect(200));
        }
    });
}

#[test]
fn outage_of_the_database_does_not_make_a_token_invalid() {
    let postgres = PostgresServer::start();
    let example = start(&[("DATABASE_URL", &postgres.url())]);
    drop(postgres);
    let answer = example.paste(WHOAMI).expect(503);
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    example.paste(REVOKE).expect(503);
}
