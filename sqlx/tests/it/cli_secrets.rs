//! Nothing that the command line prints has a token, a password or a pepper in it.

use test_support::{Needles, RedisServer};

use crate::cli::{Cli, Ran};
use crate::world::World;

crate::on_both!(
    passwords_and_peppers_are_in_no_output,
    token_is_printed_once_and_never_in_an_error,
    wrong_settings_name_their_variable,
);

const PASSWORD: &str = "Zk3Qv81LmN0pRs7TwXy";

fn needles(text: &str) -> Needles {
    let mut needles = Needles::new();
    needles.add("the secret", text);
    needles
}

fn assert_hidden(needles: &Needles, what: &str, ran: &Ran) {
    needles.assert_none_in(what, &ran.out);
    needles.assert_none_in(what, &ran.err);
}

async fn passwords_and_peppers_are_in_no_output(world: World) {
    let redis = RedisServer::start();
    let needles = needles(PASSWORD);
    Cli::initialized(&world, None);
    let cli = || Cli::new(&world, Some(&redis)).with("KEY_PEPPER", PASSWORD);
    let (id, _) = cli().issue();
    let url = |scheme: &str, rest: &str| format!("{scheme}://user:{PASSWORD}@{rest}");
    let postgres = url("postgres", "127.0.0.1:1/keys");
    // Each of these fails in its own place.
    for (name, value) in [
        ("DATABASE_URL", postgres.as_str()),
        ("DATABASE_URL", &url("mysql", "127.0.0.1/keys")),
        ("DATABASE_URL", &url("postgres", "127.0.0.1:port/keys")),
        ("DATABASE_URL", &format!("sqlite://{PASSWORD}.db")),
        ("REDIS_URL", &url("redis", "127.0.0.1:1")),
        ("REDIS_URL", &url("redis", "127.0.0.1:port")),
        ("REDIS_URL", &url("http", "127.0.0.1")),
        ("REDIS_URL", PASSWORD),
        ("CACHE_NAMESPACE", "other"),
        ("MAX_STALENESS_MS", PASSWORD),
        ("KEY_LAYOUT", PASSWORD),
        ("TOKEN_FORMAT", PASSWORD),
    ] {
        for arguments in [
            ["list"].as_slice(),
            &["revoke", &id, "--wait", "0"],
            &["--json", "show", &id],
        ] {
            let ran = cli().with(name, value).run(arguments);
            assert_hidden(&needles, name, &ran);
            let is_broken =
                name == "DATABASE_URL" || (name == "REDIS_URL" && arguments[0] == "revoke");
            assert!(!is_broken || ran.code != 0, "{name}: {ran:?}");
        }
    }
    for arguments in [
        ["--help"].as_slice(),
        &["man"],
        &["completions", "bash"],
        &["revoke", "--help"],
    ] {
        let ran = cli().with("DATABASE_URL", &postgres).run(arguments);
        assert_eq!(ran.code, 0);
        assert_hidden(&needles, arguments[0], &ran);
    }
}

async fn token_is_printed_once_and_never_in_an_error(world: World) {
    let cli = Cli::initialized(&world, None);
    let (id, token) = cli.issue();
    let needles = needles(token.strip_prefix("api_").unwrap());
    // A person may pass it as an argument, and only hears what to do instead.
    let combined = format!("--limit={token}");
    for (arguments, code) in [
        (["show", &token].as_slice(), 2),
        (&["revoke", &token], 2),
        (&["rotate", &token, "--overlap", "1h"], 2),
        (&["check", &token], 2),
        (&["list", &token], 2),
        (&[&token], 2),
        (&["suspend", &token, "--no-redis"], 3),
    ] {
        let ran = cli.run(arguments);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_hidden(&needles, "the output", &ran);
    }
    assert!(cli.run(&["check", &token]).err.contains("standard input"));
    for arguments in [
        ["show", id.as_str()].as_slice(),
        &["list"],
        &["list", "--json"],
        &["list", &combined],
    ] {
        assert_hidden(&needles, "the output", &cli.run(arguments));
    }
    for arguments in [[].as_slice(), &["--json"]] {
        assert_hidden(&needles, "check", &cli.check(&token, arguments));
    }
}

async fn wrong_settings_name_their_variable(world: World) {
    let cli = || Cli::new(&world, None);
    cli().ok(&["init"]);
    for (name, value) in [
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://127.0.0.1"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("REDIS_URL", "rediss://127.0.0.1"),
        ("MAX_STALENESS_MS", "9"),
        ("KEY_LAYOUT", "other"),
        ("TOKEN_FORMAT", "other"),
        ("TOKEN_PREFIX", "ä"),
        ("REDIS_CA_FILE", "/missing"),
    ] {
        let ran = cli()
            .with("REDIS_URL", "redis://127.0.0.1:1")
            .with(name, value)
            .run(&["list"]);
        // With TLS, the URL itself is right.
        if value != "rediss://127.0.0.1" {
            assert!(
                ran.code == 2 && ran.err.contains(name),
                "{name}={value}: {ran:?}"
            );
        }
    }
    let dify = cli()
        .with("REDIS_URL", "redis://127.0.0.1:1")
        .with("KEY_LAYOUT", "dify");
    for arguments in [
        ["suspend", "acme"].as_slice(),
        &["issue", "acme"],
        &["rotate", "key_0", "--overlap", "1h", "--no-redis"],
    ] {
        let ran = dify.run(arguments);
        assert!(
            ran.code == 2 && ran.err.contains("KEY_LAYOUT: dify"),
            "{ran:?}"
        );
    }
}
