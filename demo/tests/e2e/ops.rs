//! The files in `ops` (a systemd unit, an image, a compose file) match the server.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use test_support::python;

use super::server::{Database, Demo, command};

/// How long closing may take after draining, in seconds.
const CLOSING: u64 = 5;

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ops")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(ops().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn help() -> String {
    let output = command().arg("--help").output().expect("the server starts");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn assert_variable(name: &str) {
    assert!(
        help().contains(&format!("[env: {name}]")),
        "the server has no {name}"
    );
}

fn drain_seconds() -> u64 {
    let help = help();
    let after = help
        .split_once("[env: DRAIN_SECONDS]")
        .expect("the variable is in the help")
        .1;
    let default = after.split_once("[default: ").expect("a default").1;
    default
        .split_once(']')
        .unwrap()
        .0
        .parse()
        .expect("a number")
}

fn compose() -> Value {
    let output = Command::new(python())
        .args([
            "-c",
            "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)",
        ])
        .arg(ops().join("compose.yml"))
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn files_name_only_existing_variables() {
    let mut names = Vec::new();
    for line in read("tower-api-token-demo.service").lines() {
        if let Some(variable) = line.strip_prefix("Environment=") {
            names.push(variable.split_once('=').unwrap().0.to_owned());
        }
    }
    for line in read("demo.env.example").lines() {
        if let Some((name, _)) = line.trim_start_matches('#').split_once('=')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        {
            names.push(name.to_owned());
        }
    }
    for line in read("Dockerfile").lines() {
        let variables = line.strip_prefix("ENV ").unwrap_or_default();
        for variable in variables.split_whitespace() {
            names.push(variable.split_once('=').unwrap().0.to_owned());
        }
    }
    let compose = compose();
    let environment = compose["services"]["server"]["environment"].as_object();
    names.extend(environment.unwrap().keys().cloned());
    assert!(names.len() >= 12, "{names:?}");
    for name in names {
        assert_variable(&name);
    }
}

#[test]
fn stop_timeouts_are_longer_than_draining() {
    let needed = drain_seconds() + CLOSING;
    let unit = read("tower-api-token-demo.service");
    let stop = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="));
    assert!(stop.unwrap().parse::<u64>().unwrap() > needed);
    let compose = compose();
    let grace = compose["services"]["server"]["stop_grace_period"].as_str();
    let grace = grace.unwrap().strip_suffix('s').unwrap();
    assert!(grace.parse::<u64>().unwrap() > needed);
}

#[test]
fn compose_publishes_only_the_server_and_has_no_passwords() {
    let text = read("compose.yml");
    for reference in text.split("${").skip(1) {
        let (reference, _) = reference.split_once('}').unwrap();
        assert!(reference.contains(":?"), "{reference} has no guard");
    }
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(
        services.keys().collect::<Vec<_>>(),
        ["postgres", "redis", "server"]
    );
    for (name, service) in services {
        let image = service.get("image").is_some();
        assert_eq!(
            service.get("healthcheck").is_some(),
            image,
            "{name}: the server's is in its image"
        );
        for (variable, value) in service["environment"].as_object().unwrap() {
            let secret = ["PASSWORD", "TOKEN", "AUTH"]
                .iter()
                .any(|word| variable.contains(word));
            assert!(
                !secret || value.as_str().unwrap().starts_with("${"),
                "{name}: {variable}"
            );
        }
        let ports = service.get("ports").and_then(Value::as_array);
        for port in ports.into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}");
        }
        assert_eq!(ports.is_some(), name == "server");
    }
    let needed = services["server"]["depends_on"].as_object().unwrap();
    for name in needed.keys() {
        assert!(services.contains_key(name), "{name}");
    }
    assert_eq!(compose["networks"]["back"]["internal"], true);
}

/// The unit is checked with the binary of this build in place of the installed one.
#[test]
fn unit_is_valid_and_its_exposure_is_low() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        eprintln!("skipped: there is no systemd-analyze here to read the unit");
        return;
    }
    let unit = read("tower-api-token-demo.service");
    let installed = "ExecStart=/usr/local/bin/tower-api-token-demo";
    assert!(unit.contains(installed));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tower-api-token-demo.service");
    let built = format!("ExecStart={}", env!("CARGO_BIN_EXE_demo"));
    std::fs::write(&file, unit.replace(installed, &built)).unwrap();

    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        verified.status.success() && verified.stderr.is_empty(),
        "{verified:?}"
    );
    // In tenths: 1.2 today, and 9.6 for a unit without any hardening.
    let secure = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=15"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(secure.status.success(), "{secure:?}");
}

/// Runs the image's command with another port.
#[test]
fn healthcheck_of_the_image_detects_a_ready_server() {
    let dockerfile = read("Dockerfile");
    let line = dockerfile
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("CMD "))
        .expect("a healthcheck");
    let words: Vec<String> = serde_json::from_str(line).expect("the exec form");
    let check = |port: &str| {
        Command::new(&words[0])
            .arg(&words[1])
            .arg(words[2].replace("127.0.0.1/3000", &format!("127.0.0.1/{port}")))
            .stderr(Stdio::null())
            .status()
            .expect("bash starts")
            .success()
    };
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let port = demo.base.rsplit(':').next().unwrap().to_owned();
    assert!(check(&port));
    drop(demo);
    assert!(!check(&port));
}
