//! The example `events`: streams that end with their token.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use test_support::Example;

/// The printed commands, by their index.
const STREAM: usize = 0;
const SHORT: usize = 1;
const REVOKE: usize = 2;
const SUSPEND: usize = 3;

/// How long a test can hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(lifetime: &str) -> Example {
    let variables = [("LIFETIME_SECONDS", lifetime)];
    Example::start(Path::new(env!("CARGO_BIN_EXE_events")), &variables)
}

/// Opens a stream with the token of a printed command, and returns it after its first event.
fn open(example: &Example, command: usize) -> TcpStream {
    let token = example.token(command, "Bearer ");
    let mut stream = TcpStream::connect(example.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut read = String::new();
    let mut buffer = [0; 1024];
    while !read.contains("data: ") {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the stream ended: {read}");
        read.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    assert!(read.starts_with("HTTP/1.1 200"), "{read}");
    stream
}

/// Asserts that the response ends in order, with the last chunk.
#[track_caller]
fn ends(mut stream: TcpStream) {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("an end");
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}

#[test]
fn a_stream_ends_when_its_token_is_revoked() {
    let example = start("3600");
    let (stream, other) = (open(&example, STREAM), open(&example, SHORT));
    example.paste(REVOKE).expect(204);
    ends(stream);
    example.paste(STREAM).expect(401);
    // The other token's stream goes on, until the tenant is suspended.
    other.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1024];
    while (&other).read(&mut buffer).is_ok_and(|length| {
        assert!(length > 0, "the other stream ended too");
        true
    }) {}
    other.set_nonblocking(false).unwrap();
    example.paste(SUSPEND).expect(204);
    ends(other);
    example.paste(SHORT).expect(403);
}

#[test]
fn a_stream_ends_when_its_token_expires() {
    let example = start("4");
    let stream = open(&example, SHORT);
    ends(stream);
    example.paste(SHORT).expect(401);
    example.curl("/events", &[]).expect(401);
}
