//! An invalid configuration is rejected with one line on standard error that names the variable, and exit
//! code 1.

use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use test_support::{PostgresServer, free_port};

use super::server::{Database, Demo, PATIENCE, command};

/// Runs the binary until it exits, and returns its status, standard output and standard error.
pub(crate) fn run_to_end(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // Kills a server that started although it should not: reading its output would never end.
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            break child.wait().expect("our child").code();
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (mut output, mut errors) = (String::new(), String::new());
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut output)
        .expect("text");
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut errors)
        .expect("text");
    (status, output, errors)
}

/// Starts the binary with one invalid variable, and returns its error.
#[track_caller]
pub(crate) fn refused(variable: &str, value: &str) -> String {
    refused_with(variable, value, &[])
}

/// Starts the binary with one invalid variable among valid ones, and returns its error.
#[track_caller]
fn refused_with(variable: &str, value: &str, more: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command();
    command
        .env("LISTEN", "127.0.0.1:0")
        .envs(more.iter().copied())
        .env(variable, value)
        .current_dir(directory.path());
    let (status, output, errors) = run_to_end(&mut command);
    assert_eq!(status, Some(1), "{variable}={value}: {output}{errors}");
    assert_eq!(output, "", "{variable}={value}");
    assert_eq!(errors.lines().count(), 1, "{variable}={value}: {errors}");
    assert!(
        errors.starts_with(&format!("error: {variable}: ")),
        "{variable}={value}: {errors}"
    );
    errors
}

#[test]
fn dify_layout_on_a_cluster_is_rejected() {
    let line = refused_with(
        "REDIS_URL",
        "redis+cluster://api:hunter22@a:7000,b:7000",
        &[("KEY_LAYOUT", "dify")],
    );
    assert!(
        line.contains("KEY_LAYOUT=dify") && line.contains("SCAN") && !line.contains("hunter22"),
        "{line}"
    );
}

#[test]
fn tls_files_are_rejected_without_tls_and_if_invalid() {
    const FILES: [&str; 3] = [
        "REDIS_CA_FILE",
        "REDIS_CLIENT_CERT_FILE",
        "REDIS_CLIENT_KEY_FILE",
    ];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("letter.pem");
    std::fs::write(&file, "a letter to my grandmother").unwrap();
    let file = file.to_str().unwrap();
    let tls = ("REDIS_URL", "rediss://:hunter22@localhost");
    for variable in FILES {
        for url in [
            "",
            "redis://localhost",
            "unix:///run/redis.sock",
            "redis+sentinel://a,b/main",
            "redis+cluster://a,b",
        ] {
            let more = [("REDIS_URL", url)];
            let more = if url.is_empty() { &[][..] } else { &more };
            let line = refused_with(variable, file, more);
            assert!(line.contains("rediss://"), "{line}");
        }
        refused_with(variable, "", &[tls]);
        let line = refused_with(variable, "no/such/file.pem", &[tls]);
        assert!(line.contains("cannot be read"), "{line}");
    }
    let [ca, certificate, key] = FILES;
    let line = refused_with(ca, file, &[tls]);
    assert!(line.contains("PEM") && !line.contains("letter"), "{line}");
    let line = refused_with(certificate, file, &[tls]);
    assert!(line.contains(key), "{line}");
    let line = refused_with(key, file, &[tls]);
    assert!(line.contains(certificate), "{line}");
    let line = refused_with(certificate, file, &[tls, (key, file)]);
    assert!(line.contains("PEM") && !line.contains("letter"), "{line}");
}

#[test]
fn key_prefix_is_rejected_in_the_digest_layout() {
    let line = refused("REDIS_KEY_PREFIX", "dify");
    assert!(line.contains("KEY_LAYOUT=dify"), "{line}");
}

#[test]
fn invalid_values_are_rejected() {
    for (variable, values) in [
        (
            "LISTEN",
            &[
                "",
                "3000",
                "localhost",
                "127.0.0.1",
                "127.0.0.1:65536",
                "here:3000",
            ][..],
        ),
        (
            "TTL_SECONDS",
            &[
                "",
                "0",
                "-1",
                "abc",
                "1.5",
                "600s",
                "18446744073709551616",
                "2592001",
            ],
        ),
        ("NEGATIVE_TTL_SECONDS", &["", "0", "-60", "abc", "86401"]),
        ("LOCAL_CAPACITY", &["", "-1", "many", "100000001"]),
        ("MAX_STALENESS_MS", &["", "0", "9", "-1", "1s", "3600001"]),
        // Valid values need a Redis.
        ("CLIENT_TRACKING", &["", "on", "off"]),
        ("HEARTBEAT_INTERVAL_MS", &["", "250"]),
        ("LOAD_DELAY_MS", &["", "-1", "abc", "60001"]),
        ("CLIENT_TIMEOUT_SECONDS", &["", "0", "-1", "abc", "3601"]),
        ("KEY_LAYOUT", &["", "Digest", "sha"]),
        ("REDIS_KEY_PREFIX", &[""]),
        ("TOKEN_FORMAT", &["", "all"]),
        ("LOG_FORMAT", &["", "xml"]),
        ("RUST_LOG", &["", "info,demo=loud"]),
        (
            "ADMIN_TOKEN",
            &["", "short", "with a blank in it", "ümlaut-ümlaut"],
        ),
        (
            "REDIS_URL",
            &[
                "",
                "localhost:6379",
                "http://localhost",
                "redis://",
                "redis://localhost:port",
                "rediss://",
                "rediss://localhost:port",
                "redis+sentinel://",
                "redis+sentinel://a:26379,b:26379",
                "redis+sentinel://a:port/main",
                "redis+sentinel://a,,b/main",
                "redis+cluster://",
                "redis+cluster://a:port,b",
                "redis+cluster://a,b/1",
                "rediss+cluster://a,b",
                "rediss+sentinel://a,b/main",
            ],
        ),
        (
            "DATABASE_URL",
            &[
                "",
                "demo.db",
                "mysql://localhost/demo",
                "postgres://localhost:port/demo",
                "sqlite:",
            ],
        ),
    ] {
        for value in values {
            refused(variable, value);
        }
    }
}

#[test]
fn invalid_settings_of_a_store_in_redis_are_rejected() {
    let redis = [("REDIS_URL", "redis://127.0.0.1:1")];
    for (variable, value) in [
        ("CLIENT_TRACKING", ""),
        ("CLIENT_TRACKING", "yes"),
        ("HEARTBEAT_INTERVAL_MS", ""),
        ("HEARTBEAT_INTERVAL_MS", "24"),
        ("HEARTBEAT_INTERVAL_MS", "250ms"),
        ("HEARTBEAT_INTERVAL_MS", "60001"),
    ] {
        let line = refused_with(variable, value, &redis);
        assert!(!line.contains("needs REDIS_URL"), "{line}");
    }
}

#[test]
fn passwords_in_urls_are_not_shown() {
    for (variable, value) in [
        ("REDIS_URL", "rediss://:hunter22@localhost:port"),
        ("REDIS_URL", "rediss+cluster://:hunter22@a,b"),
        ("REDIS_URL", "redis+cluster://:hunter22@a,b:port"),
        ("REDIS_URL", "redis+sentinel://api:hunter22@a,b"),
        ("REDIS_URL", "unix:///run/redis.sock?db=x&pass=hunter22"),
        ("REDIS_URL", "redis://:hunter22@localhost:port"),
        (
            "DATABASE_URL",
            "postgres://demo:hunter22@localhost:port/demo",
        ),
        ("DATABASE_URL", "mysql://demo:hunter22@localhost/demo"),
        ("ADMIN_TOKEN", "hunter22 hunter22"),
    ] {
        let line = refused(variable, value);
        assert!(!line.contains("hunter22"), "{line}");
    }
}

#[test]
fn invalid_flags_are_rejected() {
    for (flags, expected) in [
        (&["--ttl-seconds", "-5"][..], "TTL_SECONDS"),
        (&["--ttl-seconds=0"], "TTL_SECONDS"),
        (&["--listen", "nowhere"], "LISTEN"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--listen"], "--listen"),
        (&["surplus"], "surplus"),
    ] {
        let (status, output, errors) = run_to_end(command().args(flags));
        assert_eq!(
            (status, output.as_str(), errors.lines().count()),
            (Some(1), "", 1),
            "{flags:?}: {errors}"
        );
        assert!(
            errors.starts_with("error: ") && errors.contains(expected),
            "{flags:?}: {errors}"
        );
    }
}

#[test]
fn flag_takes_precedence_over_its_variable() {
    let mut command = command();
    command
        .env("TTL_SECONDS", "60")
        .args(["--ttl-seconds", "abc"]);
    let (_, _, errors) = run_to_end(&mut command);
    assert!(errors.contains("\"abc\""), "{errors}");
}

#[test]
fn help_shows_every_variable_and_no_value_of_the_environment() {
    let (status, output, errors) = run_to_end(
        command()
            .env("ADMIN_TOKEN", "hunter22hunter22")
            .arg("--help"),
    );
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    for variable in [
        "LISTEN",
        "REDIS_URL",
        "REDIS_CA_FILE",
        "REDIS_CLIENT_CERT_FILE",
        "REDIS_CLIENT_KEY_FILE",
        "DATABASE_URL",
        "KEY_LAYOUT",
        "REDIS_KEY_PREFIX",
        "TOKEN_FORMAT",
        "TTL_SECONDS",
        "NEGATIVE_TTL_SECONDS",
        "LOCAL_CAPACITY",
        "MAX_STALENESS_MS",
        "CLIENT_TRACKING",
        "HEARTBEAT_INTERVAL_MS",
        "LOAD_DELAY_MS",
        "ADMIN_TOKEN",
        "DRAIN_SECONDS",
        "CLIENT_TIMEOUT_SECONDS",
        "LOG_FORMAT",
        "RUST_LOG",
    ] {
        let flag = format!("--{}", variable.to_lowercase().replace('_', "-"));
        assert!(
            output.contains(&format!("{flag} <{variable}>")),
            "{variable}: {output}"
        );
        assert!(
            output.contains(&format!("[env: {variable}]")),
            "{variable}: {output}"
        );
    }
    assert!(!output.contains("hunter22"), "{output}");
}

#[test]
fn unreachable_database_is_rejected() {
    let nobody = free_port();
    let line = refused(
        "DATABASE_URL",
        &format!("postgres://demo:hunter22@127.0.0.1:{nobody}/demo"),
    );
    assert!(
        line.contains("refused") && !line.contains("hunter22"),
        "{line}"
    );

    let server = PostgresServer::start();
    let line = refused(
        "DATABASE_URL",
        &format!("postgres://postgres@{}/no_such_database", server.addr()),
    );
    assert!(line.contains("no_such_database"), "{line}");

    let line = refused("DATABASE_URL", "sqlite://no/such/directory/demo.db");
    assert!(line.contains("unable to open"), "{line}");
}

#[test]
fn file_that_is_not_a_database_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("demo.db");
    std::fs::write(
        &path,
        "this is a letter to my grandmother, not a database ".repeat(100),
    )
    .unwrap();
    refused("DATABASE_URL", &format!("sqlite://{}", path.display()));
}

#[test]
fn address_in_use_is_rejected_before_tokens_are_created() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let database = Database::sqlite();
    let mut command = command();
    command
        .env("LISTEN", taken.local_addr().unwrap().to_string())
        .env("DATABASE_URL", database.url());
    let (status, output, errors) = run_to_end(&mut command);
    assert_eq!(
        (status, output.as_str(), errors.lines().count()),
        (Some(1), "", 1),
        "{errors}"
    );
    assert!(errors.starts_with("error: LISTEN: "), "{errors}");

    let demo = Demo::on(&database, &[]);
    assert_eq!(demo.seeded().len(), 4, "{}", demo.banner);
}
