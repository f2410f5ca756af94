//! The demo as `cargo run -p demo` builds it: without the features that need more to be compiled.

#![cfg(not(any(feature = "otel", feature = "postgres", feature = "tls")))]

use std::path::Path;
use std::process::Command;

use test_support::Example;

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

#[test]
fn lines_that_it_prints_can_be_pasted() {
    let demo = Example::start(Path::new(DEMO), &[]);
    assert!(!demo.commands().is_empty());
    let first = demo.paste(0).expect(200);
    assert!(first.body.contains("acme"), "{first:?}");
}

#[test]
fn values_that_need_a_feature_name_it() {
    let directory = tempfile::tempdir().unwrap();
    for (variable, value, feature) in [
        ("OTLP_ENDPOINT", "http://127.0.0.1:4318", "otel"),
        (
            "DATABASE_URL",
            "postgres://demo:hunter22@127.0.0.1/demo",
            "postgres",
        ),
        ("REDIS_URL", "rediss://:hunter22@127.0.0.1", "tls"),
    ] {
        let mut command = Command::new(DEMO);
        command.env_clear().current_dir(&directory);
        let output = command.env(variable, value).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert_eq!(printed.lines().count(), 1, "{printed}");
        assert!(printed.contains(variable), "{printed}");
        assert!(
            printed.contains(&format!("--features {feature}")),
            "{printed}"
        );
        assert!(!printed.contains("hunter22"), "{printed}");
    }
}
