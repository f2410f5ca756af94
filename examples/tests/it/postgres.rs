//! The example `postgres` with a PostgreSQL and a Redis, used by the command that it prints.

use std::path::Path;

use test_support::{Example, PostgresServer, RedisServer};

#[test]
fn key_is_accepted_by_every_instance() {
    let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
    let (database, cache) = (postgres.url(), redis.url());
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("REDIS_URL", cache.as_str()),
    ];
    let start = || Example::start(Path::new(env!("CARGO_BIN_EXE_postgres")), &variables);
    let (one, other) = (start(), start());
    let loaded = one.paste(0).expect(200).body;
    assert!(loaded.ends_with(" of acme (loaded)\n"), "{loaded}");
    let token = one.token(0, "Bearer ");
    let shared = other.curl_as(token, "/whoami", &[]).expect(200).body;
    assert_eq!(shared, loaded.replace("loaded", "shared"));
    other.curl_as("api_unknown", "/whoami", &[]).expect(401);
}
