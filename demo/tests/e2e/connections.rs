//! Connections of clients that do not send enough, and HTTP/2.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use super::server::{ADMIN, Database, Demo};

fn open(demo: &Demo) -> TcpStream {
    let address = demo.base.strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    // Only limits how long a test can hang.
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).unwrap();
    stream
}

/// Returns everything that the server sends until it closes the connection.
#[track_caller]
fn until_closed(mut stream: TcpStream, what: &str) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{what}: the connection stays open: {error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn with_short_timeout() -> (Database, Demo) {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("CLIENT_TIMEOUT_SECONDS", "1")]);
    (database, demo)
}

#[test]
fn incomplete_request_head_closes_the_connection() {
    let (_database, demo) = with_short_timeout();
    let heads: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("a letter, in every version", b"P"),
        ("half of HTTP/2's preface", b"PRI * HTTP/2.0\r\n"),
        (
            "the preface without a frame",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        ("half of a head", b"GET /healthz HTTP/1.1\r\nhost: h\r\n"),
        (
            "half of a second head",
            b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\nGET /healthz HTTP/1.1\r\n",
        ),
    ];
    let streams = heads.map(|(what, head)| {
        let mut stream = open(&demo);
        stream.write_all(head).unwrap();
        (what, stream)
    });
    for (what, stream) in streams {
        let answer = until_closed(stream, what);
        assert_eq!(
            answer.contains("200 OK"),
            what.contains("second"),
            "{answer}"
        );
    }
    demo.get("/healthz").expect(200);
}

#[test]
fn incomplete_body_is_rejected() {
    let (_database, demo) = with_short_timeout();
    let mut stream = open(&demo);
    write!(
        stream,
        "POST /admin/tokens HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {ADMIN}\r\n\
         content-length: 100\r\n\r\n{{"
    )
    .unwrap();
    let answer = until_closed(stream, "a body");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn event_stream_outlives_the_client_timeout() {
    let (_database, demo) = with_short_timeout();
    let mut stream = open(&demo);
    write!(stream, "GET /live HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    let mut events = String::new();
    let mut bytes = [0; 4096];
    // One sample per second.
    while events.matches("event: sample").count() < 4 {
        let read = stream.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "the stream ended: {events}");
        events += &String::from_utf8_lossy(&bytes[..read]);
    }
}

#[test]
fn http2_works() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let whoami = format!("{}/v1/whoami", demo.base);
    let token = demo.token("acme", "app").text;
    let header = format!("authorization: Bearer {token}");
    let answer = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-o", "/dev/null"])
        .args(["-w", "%{http_version} %{http_code}", "-H", &header, &whoami])
        .output()
        .expect("curl starts");
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "2 200");
}
