//! Metrics, probes, logs, and the end of a process.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use test_support::{Direction, FaultProxy, PostgresServer};

use super::server::{ADMIN, Database, Demo, eventually, unknown};

#[test]
fn counters_are_updated() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let token = demo.token("acme", "app").text;
    let lookups = |outcome: &str, origin: &str| {
        let (outcome, origin) = (
            format!("outcome=\"{outcome}\""),
            format!("origin=\"{origin}\""),
        );
        demo.metric("api_token_lookups_total", &[&outcome, &origin])
    };
    assert_eq!(
        (
            demo.metric("api_token_loads_total", &[]),
            lookups("valid", "loaded")
        ),
        (0, 0)
    );
    demo.whoami(&token).expect(200);
    for _ in 0..3 {
        demo.whoami(&token).expect(200);
    }
    demo.whoami(&unknown("app")).expect(401);
    assert_eq!(demo.metric("api_token_loads_total", &[]), 2);
    assert_eq!(
        (lookups("valid", "loaded"), lookups("valid", "local")),
        (1, 3)
    );
    assert_eq!(lookups("invalid", "loaded"), 1);
}

#[test]
fn every_sample_belongs_to_a_described_metric() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    demo.whoami(&demo.token("acme", "app").text).expect(200);
    let answer = demo.get("/metrics").expect(200);
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let mut described: Option<(&str, bool)> = None;
    let mut histograms = 0;
    for line in answer.body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            described = rest.split_once(' ').map(|(name, _)| (name, false));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(described, Some((name, false)), "{line}");
            let expected = match name {
                _ if name.ends_with("_total") => "counter",
                _ if name.ends_with("_seconds") => "histogram",
                _ => "gauge",
            };
            assert_eq!(kind, expected, "{line}");
            histograms += usize::from(kind == "histogram");
            described = Some((name, true));
        } else if !line.is_empty() {
            let name = line.split(['{', ' ']).next().unwrap();
            let (described, true) = described.unwrap() else {
                panic!("{line}");
            };
            let part = name.strip_prefix(described).unwrap_or("of another");
            let parts: &[&str] = match described.ends_with("_seconds") {
                true => &["_bucket", "_sum", "_count"],
                false => &[""],
            };
            assert!(parts.contains(&part), "{line}");
        }
    }
    assert!(histograms >= 2, "a miss and its load: {answer:?}");
    let found = [
        "outcome=\"valid\"",
        "origin=\"loaded\"",
        "cache=\"api_token\"",
    ];
    assert_eq!(demo.metric("api_token_lookups_total", &found), 1);
    let slow = ["result=\"ok\"", "le=\"+Inf\""];
    assert_eq!(demo.metric("api_token_load_seconds_bucket", &slow), 1);
}

#[test]
fn probes_need_no_token() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    demo.get("/healthz").expect(200);
    let ready = demo.get("/readyz").expect(200).json();
    assert_eq!(
        ready,
        serde_json::json!({ "status": "ready", "database": "ok", "store": "in memory" })
    );
}

#[cfg(unix)]
#[test]
fn sigterm_drains_open_requests() {
    // Long enough for the signal to arrive while the load is delayed.
    let database = Database::sqlite();
    let mut demo = Demo::on(&database, &[("LOAD_DELAY_MS", "1500")]);
    let token = demo.token("acme", "app").text;
    thread::scope(|scope| {
        let request = scope.spawn(|| demo.whoami(&token));
        eventually("the load began", || {
            demo.metric("api_token_loads_total", &[]) == 1
        });
        demo.signal("TERM");
        request.join().unwrap().expect(200);
    });
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.logs());
}

/// The client sends half of a body.
#[cfg(unix)]
#[test]
fn client_that_never_finishes_does_not_delay_the_exit() {
    let database = Database::sqlite();
    let mut demo = Demo::on(&database, &[("DRAIN_SECONDS", "1")]);
    let mut client = TcpStream::connect(demo.base.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "POST /admin/tokens HTTP/1.1\r\nhost: demo\r\nauthorization: Bearer {ADMIN}\r\n\
         content-length: 100\r\nexpect: 100-continue\r\n\r\n"
    );
    client.write_all(head.as_bytes()).unwrap();
    // Sent when the handler begins to read, so the request is open.
    let mut line = [0; 12];
    client.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100");
    demo.signal("TERM");
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.logs());
    assert!(demo.logs().contains("still open"), "{}", demo.logs());
}

/// The database never answers a query.
#[cfg(unix)]
#[test]
fn database_that_hangs_does_not_delay_the_exit() {
    let postgres = PostgresServer::start();
    let proxy = FaultProxy::start(postgres.addr());
    let mut demo = Demo::start(&[
        ("DATABASE_URL", &postgres.url_at(proxy.addr())),
        ("DRAIN_SECONDS", "1"),
    ]);
    demo.whoami(&demo.token("acme", "app").text).expect(200);
    proxy.stall(Direction::ToClient);
    demo.get("/readyz").expect(503);
    demo.signal("TERM");
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.logs());
}

#[test]
fn concurrent_requests_for_one_token_load_once() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("LOAD_DELAY_MS", "500")]);
    let token = demo.token("acme", "app").text;
    thread::scope(|scope| {
        for request in [(); 16].map(|()| scope.spawn(|| demo.whoami(&token))) {
            request.join().unwrap().expect(200);
        }
    });
    assert_eq!(demo.metric("api_token_loads_total", &[]), 1);
}
