//! The program by itself.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use test_support::{Answer, Example, FaultProxy, RedisServer, free_port};

use super::client::{ask, bearer, eventually, send};
use super::database::{Database, invented};

const PROGRAM: &str = env!("CARGO_BIN_EXE_forward_auth");
const IDENTITY: [&str; 4] = [
    "x-api-token-id",
    "x-api-token-tenant",
    "x-api-token-app",
    "x-api-token-type",
];

/// Starts the program with a database.
pub(super) fn start(database_url: &str, variables: &[(&str, &str)]) -> Example {
    let variables = [&[("DATABASE_URL", database_url)], variables].concat();
    Example::start(Path::new(PROGRAM), &variables)
}

pub(super) fn address(verifier: &Example) -> SocketAddr {
    verifier.address().parse().unwrap()
}

fn identity(answer: &Answer) -> Vec<&str> {
    IDENTITY.map(|name| answer.header(name)).to_vec()
}

#[test]
fn method_and_path_do_not_matter_over_http1_and_http2() {
    let database = Database::create();
    let token = database.add("tok_1", "acme", Some("shop"));
    let verifier = start(&database.url(), &[]);
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"] {
        for path in ["/", "/orders/1?a=b", "/%ff//..;"] {
            for version in ["--http1.1", "--http2-prior-knowledge"] {
                let arguments = ["-X", method, "--path-as-is", version];
                let answer = verifier
                    .curl_as(token.expose(), path, &arguments)
                    .expect(200);
                assert_eq!(identity(&answer), ["tok_1", "acme", "shop", "app"]);
                assert_eq!(answer.header("cache-control"), "no-store");
                assert_eq!(answer.body, "");
                let refused = verifier.curl(path, &arguments).expect(401);
                assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"api\"");
                assert!(refused.body.contains("\"status\":401"), "{refused:?}");
            }
        }
    }
    let head = verifier.curl_as(token.expose(), "/", &["--head"]);
    assert_eq!(identity(&head.expect(200))[0], "tok_1");
    verifier.curl("/", &["--head"]).expect(401);
}

#[test]
fn identity_is_escaped_and_always_there() {
    let database = Database::create();
    let token = database.add("tok_1", "zwölf, GmbH\r\nX-Api-Token-Id: admin", None);
    let verifier = start(&database.url(), &[]);
    let answer = ask(address(&verifier), "GET /", &[&bearer(&token)]).expect(200);
    let tenant = "zw%C3%B6lf%2C%20GmbH%0D%0AX-Api-Token-Id%3A%20admin";
    assert_eq!(identity(&answer), ["tok_1", tenant, "", "app"]);
    // Empty, and not missing.
    assert!(answer.head.contains("\nx-api-token-app:"), "{answer:?}");
    assert_eq!(answer.head.matches("x-api-token-id:").count(), 1);
}

/// gRPC's status would be in a header, with HTTP's 200.
#[test]
fn grpc_call_is_refused_by_http_status() {
    let database = Database::create();
    let verifier = start(&database.url(), &[]);
    let grpc = ["-X", "POST", "-H", "content-type: application/grpc"];
    verifier.curl("/shop.Orders/List", &grpc).expect(401);
    verifier
        .curl_as(invented().expose(), "/shop.Orders/List", &grpc)
        .expect(401);
}

#[test]
fn body_is_not_waited_for() {
    let database = Database::create();
    let token = database.add("tok_1", "acme", None);
    let verifier = start(&database.url(), &[]);
    for body in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        send(address(&verifier), "POST /", &[&bearer(&token), body], b"").expect(200);
        send(address(&verifier), "POST /", &[body], b"").expect(401);
    }
}

#[test]
fn only_tokens_of_the_configured_type_are_good() {
    let database = Database::create();
    let app = database.add_of_type("app", "tok_1", "acme", None);
    let dataset = database.add_of_type("dataset", "tok_2", "acme", None);
    let any = start(&database.url(), &[]);
    for token in [&app, &dataset] {
        any.curl_as(token.expose(), "/", &[]).expect(200);
    }
    let only = start(&database.url(), &[("TOKEN_TYPE", "dataset")]);
    only.curl_as(dataset.expose(), "/", &[]).expect(200);
    only.curl_as(app.expose(), "/", &[]).expect(401);
}

#[test]
fn token_is_read_from_the_configured_header() {
    let database = Database::create();
    let token = database.add("tok_1", "acme", None);
    let verifier = start(&database.url(), &[("TOKEN_HEADER", "x-api-key")]);
    let key = format!("x-api-key: {}", token.expose());
    verifier.curl("/", &["-H", &key]).expect(200);
    verifier.curl("/", &["-H", &key, "-H", &key]).expect(400);
    verifier.curl_as(token.expose(), "/", &[]).expect(401);
}

#[test]
fn large_head_is_answered_and_a_huge_one_refused() {
    let database = Database::create();
    let token = database.add("tok_1", "acme", None);
    let verifier = start(&database.url(), &[]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let large = format!("cookie: {}", "a".repeat(40 * 1024));
        verifier
            .curl_as(token.expose(), "/", &[version, "-H", &large])
            .expect(200);
    }
    let huge = format!("cookie: {}", "a".repeat(100 * 1024));
    verifier
        .curl_as(token.expose(), "/", &["--http1.1", "-H", &huge])
        .expect(431);
}

#[test]
fn preflights_pass_only_where_the_method_comes_from_the_proxy() {
    let database = Database::create();
    let preflight = [
        "Origin: https://page.example",
        "Access-Control-Request-Method: POST",
    ];
    let forwarded = [&preflight[..], &["X-Forwarded-Method: OPTIONS"]].concat();
    for (variables, own, by_header) in [
        (&[][..], 401, 401),
        (&[("CORS_PREFLIGHTS", "refuse")], 401, 401),
        (&[("CORS_PREFLIGHTS", "method")], 200, 401),
        (&[("CORS_PREFLIGHTS", "x-forwarded-method")], 401, 200),
    ] {
        let verifier = start(&database.url(), variables);
        let passed = ask(address(&verifier), "OPTIONS /", &preflight).expect(own);
        assert_eq!(identity(&passed), ["", "", "", ""]);
        assert_eq!(passed.head.contains("\nx-api-token-id:"), own == 200);
        ask(address(&verifier), "GET /", &forwarded).expect(by_header);
        let unknown = bearer(&invented());
        let with_token = [&forwarded[..], &[unknown.as_str()]].concat();
        for method in ["OPTIONS /", "GET /"] {
            ask(address(&verifier), method, &with_token).expect(401);
        }
    }
}

/// The proxy waits for as many bytes as the header says, and would hang.
#[test]
fn refusal_has_its_body_whatever_method_is_forwarded() {
    let database = Database::create();
    let verifier = start(
        &database.url(),
        &[("CORS_PREFLIGHTS", "x-forwarded-method")],
    );
    let answer = ask(address(&verifier), "GET /", &["X-Forwarded-Method: HEAD"]).expect(401);
    assert!(answer.body.contains("\"status\":401"), "{answer:?}");
    assert_eq!(
        answer.header("content-length"),
        answer.body.len().to_string()
    );
}

#[test]
fn program_starts_while_the_database_is_away_and_refuses() {
    let database = Database::create();
    let token = database.add("tok_1", "acme", None);
    let way = FaultProxy::start(database.server.addr());
    way.cut();
    let verifier = start(&database.url_at(way.addr()), &[]);
    let refused = verifier.curl_as(token.expose(), "/", &[]).expect(503);
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    way.heal();
    eventually("the database is back", || {
        verifier.curl_as(token.expose(), "/", &[]).status == 200
    });
}

#[test]
fn revocation_takes_effect_on_every_instance() {
    let (database, redis) = (Database::create(), RedisServer::start());
    let token = database.add("tok_1", "acme", None);
    let redis = [("REDIS_URL", redis.url())];
    let redis = redis.each_ref().map(|(name, url)| (*name, url.as_str()));
    let instances = [(); 2].map(|()| start(&database.url(), &redis));
    for instance in &instances {
        instance.curl_as(token.expose(), "/", &[]).expect(200);
    }
    database.change("UPDATE tokens SET revoked_at = now()");
    for instance in &instances {
        instance.curl_as(token.expose(), "/", &[]).expect(401);
    }
}

#[test]
fn each_change_of_a_token_is_seen() {
    let database = Database::create();
    let verifier = start(&database.url(), &[]);
    let token = invented();
    let status = |expected| verifier.curl_as(token.expose(), "/", &[]).expect(expected);
    // "Unknown" is cached.
    status(401);
    let digest = token.digest();
    database.change(&format!(
        "INSERT INTO tenants (id) VALUES ('acme');
         INSERT INTO tokens (id, tenant_id, type, digest) VALUES ('tok_1', 'acme', 'app', '\\x{digest}')"
    ));
    status(200);
    database.change("UPDATE tokens SET app_id = 'shop'");
    assert_eq!(status(200).header("x-api-token-app"), "shop");
    let other = invented().digest();
    database.change(&format!("UPDATE tokens SET digest = '\\x{other}'"));
    status(401);
    database.change(&format!("UPDATE tokens SET digest = '\\x{digest}'"));
    status(200);
    database.change("DELETE FROM tokens");
    status(401);
}

#[test]
fn nothing_is_printed_about_requests() {
    let database = Database::create();
    let token = database.add("tok_1", "acme", None);
    let way = FaultProxy::start(database.server.addr());
    let verifier = start(&database.url_at(way.addr()), &[]);
    let path = format!("/?access_token={}", token.expose());
    verifier.curl(&path, &[]).expect(401);
    verifier.curl_as(token.expose(), &path, &[]).expect(200);
    way.cut();
    let other = invented();
    verifier.curl_as(other.expose(), &path, &[]).expect(503);
    for token in [token, other] {
        let digest = token.digest().to_string();
        for secret in [token.expose(), digest.as_str()] {
            assert!(!verifier.output().contains(secret), "{}", verifier.output());
        }
    }
}

#[test]
fn wrong_setting_is_named_and_not_shown() {
    for (name, value) in [
        ("CORS_PREFLIGHTS", "hunter2"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "postgres://user:hunter2@127.0.0.1:port/db"),
        ("LISTEN", "hunter2"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1:port"),
        ("TOKEN_HEADER", ""),
        ("TOKEN_TYPE", ""),
    ] {
        let mut command = Command::new(PROGRAM);
        command.env_clear().env("LISTEN", "127.0.0.1:0");
        command.env("DATABASE_URL", "postgres://user:hunter2@127.0.0.1/db");
        let output = command.env(name, value).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{name}");
        assert!(printed.contains(name), "{name}: {printed}");
        assert!(!printed.contains("hunter2"), "{name}: {printed}");
    }
}

#[test]
fn program_ends_on_sigterm_beside_idle_connections() {
    let database = Database::create();
    let mut verifier = start(&database.url(), &[]);
    let _idle = TcpStream::connect(address(&verifier)).unwrap();
    verifier.curl("/", &[]).expect(401);
    assert!(verifier.terminate().success());
}

#[test]
fn program_refuses_while_postgresql_is_not_there() {
    let url = format!("postgres://postgres@127.0.0.1:{}/none", free_port());
    let verifier = start(&url, &[]);
    verifier.curl_as(invented().expose(), "/", &[]).expect(503);
    // What needs no database is answered.
    verifier.curl("/", &[]).expect(401);
}
