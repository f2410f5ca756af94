//! The example `websocket`: with the token in a subprotocol, as a page sends it, and in a header, as programs do.

use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use test_support::Example;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tower_api_token::TokenFormat;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The index of the printed command that revokes the token.
const REVOKE: usize = 2;

fn start() -> Example {
    Example::start(Path::new(env!("CARGO_BIN_EXE_websocket")), &[])
}

fn token(example: &Example) -> &str {
    example.token(REVOKE, "Bearer ")
}

/// Opens a socket, or returns the status and the challenge of the rejection.
async fn open_with(
    example: &Example,
    headers: &[(&'static str, &str)],
) -> Result<Socket, (u16, String)> {
    let url = format!("ws://{}/echo", example.address());
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, response)) => {
            let selected = response.headers().get("sec-websocket-protocol");
            let asked = headers.iter().any(|(_, value)| value.contains("demo.v1"));
            assert_eq!(selected.is_some(), asked);
            assert!(selected.is_none_or(|protocol| protocol == "demo.v1"));
            Ok(socket)
        }
        Err(Error::Http(response)) => {
            assert_eq!(response.headers()["cache-control"], "no-store");
            let challenge = response.headers()["www-authenticate"].to_str().unwrap();
            Err((response.status().as_u16(), challenge.to_owned()))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Opens a socket, or returns the status of the rejection.
async fn open(example: &Example, protocols: &str) -> Result<Socket, u16> {
    let protocols = [("sec-websocket-protocol", protocols)];
    let opened = open_with(example, &protocols).await;
    opened.map_err(|(status, _)| status)
}

async fn open_as(example: &Example, token: &str) -> Result<Socket, u16> {
    open(example, &format!("demo.v1, bearer.{token}")).await
}

/// Returns the next message. The timeout only limits how long a test can hang.
async fn next(socket: &mut Socket) -> Message {
    let next = tokio::time::timeout(Duration::from_secs(30), socket.next()).await;
    let next = next.expect("a message or a close");
    next.expect("an open socket").unwrap()
}

async fn echo(socket: &mut Socket, text: &str) -> String {
    socket.send(Message::text(text)).await.unwrap();
    next(socket).await.into_text().unwrap().to_string()
}

/// Asserts that the next message closes the socket, and returns its code and text.
async fn closed(socket: &mut Socket) -> (CloseCode, String) {
    match next(socket).await {
        Message::Close(Some(frame)) => (frame.code, frame.reason.to_string()),
        message => panic!("not closed: {message:?}"),
    }
}

#[tokio::test]
async fn sockets_echo_until_their_token_is_revoked() {
    let example = start();
    let mut idle = open_as(&example, token(&example)).await.unwrap();
    let mut busy = open_as(&example, token(&example)).await.unwrap();
    for text in ["hello", "again"] {
        assert_eq!(echo(&mut idle, text).await, format!("tok-1: {text}"));
        assert_eq!(echo(&mut busy, text).await, format!("tok-1: {text}"));
    }

    example.paste(REVOKE).expect(204);

    // The server may have closed the socket already. The text is not echoed in either case.
    let _ = busy.send(Message::text("still there?")).await;
    let expected = (CloseCode::Policy, "The API token is not valid.".to_owned());
    assert_eq!(closed(&mut busy).await, expected);
    assert_eq!(closed(&mut idle).await, expected, "without a message");
    let again = open_as(&example, token(&example)).await;
    assert_eq!(again.unwrap_err(), 401);
    example.paste(REVOKE).expect(401);
}

#[tokio::test]
async fn invalid_token_gets_a_status_and_no_socket() {
    let example = start();
    let good = token(&example);
    let invented = TokenFormat::from_static("demo_").generate().unwrap();
    let refused = async |protocols: &str| open(&example, protocols).await.unwrap_err();
    assert_eq!(refused("demo.v1").await, 401);
    assert_eq!(refused(&format!("demo.v1, {good}")).await, 401);
    assert_eq!(refused("demo.v1, bearer.").await, 401);
    assert_eq!(refused("demo.v1, bearer.demo_made-up").await, 401);
    let invented = format!("bearer.{}", invented.expose());
    assert_eq!(refused(&format!("demo.v1, {invented}")).await, 401);
    let two = format!("demo.v1, bearer.{good}, {invented}");
    assert_eq!(refused(&two).await, 400);
    // Nothing that the server could select.
    assert_eq!(refused(&format!("bearer.{good}")).await, 400);
}

#[tokio::test]
async fn program_opens_a_socket_with_authorization() {
    let example = start();
    let bearer = format!("Bearer {}", token(&example));
    let mut plain = open_with(&example, &[("authorization", &bearer)])
        .await
        .unwrap();
    let headers = [
        ("authorization", bearer.as_str()),
        ("sec-websocket-protocol", "demo.v1"),
    ];
    let mut named = open_with(&example, &headers).await.unwrap();
    for socket in [&mut plain, &mut named] {
        assert_eq!(echo(socket, "hello").await, "tok-1: hello");
    }

    example.paste(REVOKE).expect(204);

    assert_eq!(closed(&mut plain).await.0, CloseCode::Policy);
    assert_eq!(closed(&mut named).await.0, CloseCode::Policy);
    let again = open_with(&example, &headers).await.unwrap_err();
    assert_eq!(again.0, 401);
}

#[tokio::test]
async fn challenge_depends_on_whether_a_token_was_sent() {
    let example = start();
    let good = token(&example);
    let invented = TokenFormat::from_static("demo_").generate().unwrap();
    let bearer = |token: &str| format!("Bearer {token}");
    let protocol = |token: &str| format!("demo.v1, bearer.{token}");
    let none = r#"Bearer realm="api""#;
    let invalid = r#"Bearer realm="api", error="invalid_token""#;
    let ambiguous = r#"Bearer realm="api", error="invalid_request""#;
    let authorization = "authorization";
    let protocols = "sec-websocket-protocol";
    let invented = invented.expose();
    for (headers, status, challenge) in [
        (vec![], 401, none),
        (vec![(protocols, "demo.v1".to_owned())], 401, none),
        (vec![(authorization, "Basic YTpi".to_owned())], 401, none),
        (vec![(protocols, protocol(invented))], 401, invalid),
        (vec![(protocols, protocol("made-up"))], 401, invalid),
        (vec![(authorization, bearer(invented))], 401, invalid),
        (vec![(authorization, bearer("made-up"))], 401, invalid),
        (
            vec![(authorization, bearer(good)), (authorization, bearer(good))],
            400,
            ambiguous,
        ),
        (
            vec![(authorization, bearer(good)), (protocols, protocol(good))],
            400,
            ambiguous,
        ),
    ] {
        let named: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let refused = open_with(&example, &named).await.unwrap_err();
        assert_eq!(refused, (status, challenge.to_owned()), "{named:?}");
    }
}

#[test]
fn printed_upgrade_is_answered_without_the_token() {
    let example = start();
    let answer = example.paste(0).expect(101);
    assert_eq!(answer.header("sec-websocket-protocol"), "demo.v1");
    example.paste(1).expect(101);
    let challenged = example.curl(
        "/echo",
        &[
            "-H",
            "connection: upgrade",
            "-H",
            "upgrade: websocket",
            "-H",
            "sec-websocket-version: 13",
            "-H",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
    );
    let challenged = challenged.expect(401);
    assert_eq!(
        challenged.header("www-authenticate"),
        "Bearer realm=\"api\""
    );
}
