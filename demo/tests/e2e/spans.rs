//! Export of spans to an OpenTelemetry collector.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use super::configuration::refused;
use super::server::{Database, Demo};

#[test]
fn invalid_endpoint_is_rejected() {
    let line = refused("OTLP_ENDPOINT", "https://user:secret@collector");
    assert!(!line.contains("secret"), "{line}");
}

/// Receives one request as a collector does, and returns its path, content type and body.
fn receive(listener: &TcpListener) -> (String, String, Vec<u8>) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(&stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let fields = lines.iter().filter_map(|line| line.split_once(':'));
        let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    (&stream).write_all(answer.as_bytes()).unwrap();
    (lines[0].clone(), header("content-type").unwrap(), body)
}

#[cfg(unix)]
#[test]
fn span_of_a_miss_is_exported_without_its_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = thread::spawn(move || receive(&listener));
    let database = Database::sqlite();
    let mut demo = Demo::on(&database, &[("OTLP_ENDPOINT", &endpoint)]);
    let token = demo.token("acme", "app").text;
    demo.whoami(&token).expect(200);
    demo.signal("TERM");
    // Spans are sent before the process ends, at the latest.
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.logs());
    let (line, kind, body) = collector.join().unwrap();
    assert_eq!(line, "POST /v1/traces HTTP/1.1");
    assert_eq!(kind, "application/x-protobuf");
    // Protobuf contains strings verbatim.
    let holds = |text: &str| body.windows(text.len()).any(|at| at == text.as_bytes());
    for text in [
        "api_token.lookup",
        "tower-api-token-demo",
        "outcome",
        "valid",
        "origin",
        "loaded",
    ] {
        assert!(holds(text), "{text}: {}", String::from_utf8_lossy(&body));
    }
    assert!(!holds(&token) && !holds(&token[10..]));
}
