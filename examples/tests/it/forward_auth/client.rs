//! A client that writes its requests byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use test_support::Answer;

/// Sends a request over HTTP/1.1 and returns the answer. `lines` are header lines.
#[track_caller]
pub(super) fn ask(address: SocketAddr, request: &str, lines: &[&str]) -> Answer {
    send(address, request, lines, b"")
}

/// Sends a request with a body, or only its beginning, and waits for the answer.
#[track_caller]
pub(super) fn send(address: SocketAddr, request: &str, lines: &[&str], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        // Longer than Traefik waits for the verifier, and shorter than it waits for a body.
        .set_read_timeout(Some(Duration::from_secs(45)))
        .unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("{request} HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    // Not to the end of the connection, which may come much later: a proxy waits for the rest of the request.
    while !is_complete(&answer, request.starts_with("HEAD")) {
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => answer.extend_from_slice(&buffer[..length]),
            end => panic!("no answer to {request}: {end:?} {:?}", parse(&answer)),
        }
    }
    parse(&answer).unwrap()
}

/// Parses an answer, without a `100 Continue` before it.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    Answer::parse(text.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n"))
}

fn is_complete(bytes: &[u8], is_head: bool) -> bool {
    let Some(answer) = parse(bytes).filter(|answer| answer.status != 100) else {
        return false;
    };
    let mut ends = bytes.windows(4).enumerate();
    let (head, _) = ends.rfind(|(_, four)| four == b"\r\n\r\n").unwrap();
    let length = match answer.header("content-length") {
        "" => 0,
        length => length.parse().unwrap(),
    };
    assert!(!answer.head.to_lowercase().contains("transfer-encoding"));
    is_head || bytes.len() >= head + 4 + length
}

pub(super) fn bearer(token: &tower_api_token::BearerToken) -> String {
    format!("Authorization: Bearer {}", token.expose())
}

/// Waits for what the program does in its own time.
#[track_caller]
pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
