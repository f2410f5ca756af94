//! Tests of the layer behind a real server, for the bytes on the wire.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http_conformance::transport::{Framework, Server};
use crate::http_conformance::world::*;

struct Wire {
    world: World,
    server: Server,
}

async fn start() -> Wire {
    let world = World::new();
    let server = Server::of(&world, Framework::Axum).await;
    Wire { world, server }
}

/// An answer in bytes, without the date.
#[derive(PartialEq, Eq)]
struct Raw {
    head: String,
    body: Vec<u8>,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

impl Raw {
    fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let named = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value).collect()
    }

    #[track_caller]
    fn assert_rejected(&self, status: &str, challenge: &str) {
        assert!(
            self.head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{self:?}"
        );
        assert_eq!(self.values("www-authenticate"), [challenge], "{self:?}");
    }
}

impl Wire {
    /// Sends `head` as the request line, followed by `fields` byte for byte.
    async fn send(&self, head: &str, fields: &[&[u8]]) -> Raw {
        let mut stream = self.server.connect().await;
        let mut request = format!("{head} HTTP/1.1\r\nHost: h\r\n").into_bytes();
        for field in fields {
            request.extend_from_slice(field);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"Connection: close\r\n\r\n");
        stream.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        raw(&answer)
    }

    async fn authorization(&self, value: &[u8]) -> Raw {
        let field = [b"Authorization:", value].concat();
        self.send("GET /", &[&field]).await
    }

    fn request(&self, authorizations: &[&[u8]]) -> Request<Pending> {
        let mut request = get(authorizations).map(|_| Pending { ends: true });
        *request.uri_mut() = format!("http://{}/", self.server.address).parse().unwrap();
        request
    }
}

fn raw(answer: &[u8]) -> Raw {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("the end of the head");
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let dated = |line: &&str| !line.to_ascii_lowercase().starts_with("date:");
    Raw {
        head: head.lines().filter(dated).collect::<Vec<_>>().join("\n"),
        body: answer[end + 4..].to_vec(),
    }
}

/// The body of a request over HTTP/2, which is empty or never arrives.
struct Pending {
    ends: bool,
}

impl Body for Pending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ends {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ends
    }
}

async fn http2_reply(response: Response<Incoming>) -> Reply {
    let mut reply = Reply::read(response).await;
    reply.headers.retain(|(name, _)| name != "date");
    reply
}

/// 1, 2, 3, 5, 6, 8, 11, 18, 20: the same bytes on the wire.
#[tokio::test]
async fn over_http1_every_invalid_token_gets_the_same_bytes() {
    let wire = start().await;
    let nothing = wire.send("GET /", &[]).await;
    nothing.assert_rejected("401", BARE);
    for other in [
        &b""[..],
        b" \t ",
        b" Basic YTpi",
        b" Bearerapp-Good-0123456789",
    ] {
        assert_eq!(wire.authorization(other).await, nothing);
    }
    let unknown = wire.authorization(b" Bearer app-unknown-0123456").await;
    unknown.assert_rejected("401", INVALID);
    assert!(unknown.head.contains("401 Unauthorized"), "{unknown:?}");
    for value in [
        &b" Bearer"[..],
        b" Bearer \t ",
        b" Bearer\tapp-Good-0123456789",
        b" Bearer \tapp-Good-0123456789",
        b" Bearer app-Good -0123456789",
        b" Bearer app-Good-012345678\xe9",
        b" Bearer \x80\x81\xfe\xff\xc3\xa9\xa0\xad",
        b" Bearer app-Good-0123456789, Bearer app-Good-0123456789",
        b" Bearer app-revoked-0123456",
        b" Bearer app-expired-0123456",
        b" Bearer dataset-0123456789a",
    ] {
        let reply = wire.authorization(value).await;
        assert_eq!(reply, unknown, "{}", String::from_utf8_lossy(value));
    }
    assert!(wire.world.reached().is_empty());
    assert_eq!(wire.world.calls(), 4);
}

/// 10
#[tokio::test]
async fn over_http1_two_authorization_lines_are_rejected_in_any_case() {
    let wire = start().await;
    let good = b"Authorization: Bearer app-Good-0123456789";
    for second in [
        &b"Authorization: Bearer app-Good-0123456789"[..],
        b"AUTHORIZATION: Bearer app-unknown-0123456",
        b"authorization:",
    ] {
        for fields in [[good, second], [second, good]] {
            let reply = wire.send("GET /", &fields).await;
            reply.assert_rejected("400", AMBIGUOUS);
        }
    }
    wire.world.assert_no_lookup();
}

/// 33
#[tokio::test]
async fn over_http1_head_gets_the_head_of_get() {
    let wire = start().await;
    for fields in [
        &[][..],
        &[&b"Authorization: Bearer app-unknown-0123456"[..]],
        &[b"Authorization: Bearer app-suspended-01234"],
        &[b"Authorization: Bearer app-failing-0123456"],
        &[b"Authorization: Bearer a", b"Authorization: Bearer b"],
    ] {
        let get = wire.send("GET /", fields).await;
        let head = wire.send("HEAD /", fields).await;
        assert_eq!(head.head, get.head);
        assert!(!get.body.is_empty() && head.body.is_empty());
        let length = get.body.len().to_string();
        assert_eq!(get.values("content-length"), [length], "{get:?}");
    }
}

/// 35
#[tokio::test]
async fn over_http1_a_rejection_does_not_wait_for_the_body() {
    let wire = start().await;
    for (framing, authorization, status) in [
        ("Content-Length: 1000000", "", "401"),
        ("Transfer-Encoding: chunked", "", "401"),
        (
            "Content-Length: 1000000",
            "Authorization: Bearer app-unknown-0123456\r\n",
            "401",
        ),
        (
            "Content-Length: 1000000",
            "Authorization: Bearer app-suspended-01234\r\n",
            "403",
        ),
        (
            "Content-Length: 1000000",
            "Authorization: Bearer app-failing-0123456\r\n",
            "503",
        ),
    ] {
        let mut stream = wire.server.connect().await;
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n{authorization}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // The connection stays open, so that only the answer can end the loop.
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let read = stream.read_buf(&mut answer).await.unwrap();
            assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&answer));
        }
        let reply = raw(&answer);
        let line = format!("HTTP/1.1 {status} ");
        assert!(reply.head.starts_with(&line), "{reply:?}");
    }
}

/// 33, 35
#[tokio::test]
async fn over_http2_head_has_no_body_and_no_rejection_waits_for_one() {
    let wire = start().await;
    let mut client = wire.server.http2().await;
    let get = client.send_request(wire.request(&[])).await.unwrap();
    let get = http2_reply(get).await;
    let mut head = wire.request(&[]);
    *head.method_mut() = Method::HEAD;
    let head = http2_reply(client.send_request(head).await.unwrap()).await;
    assert_eq!(head.headers, get.headers);
    assert!(head.body.is_empty() && !get.body.is_empty());
    let mut post = wire.request(&[]);
    *post.method_mut() = Method::POST;
    post.body_mut().ends = false;
    let post = http2_reply(client.send_request(post).await.unwrap()).await;
    assert_eq!(post, get);
}
