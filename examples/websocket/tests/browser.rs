//! The program, asked as a browser does: a WebSocket with the token among the subprotocols.

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

/// The line that is pasted to revoke.
const REVOKE: usize = 1;

fn start() -> Example {
    Example::start(Path::new(env!("CARGO_BIN_EXE_example-websocket")), &[])
}

fn token(example: &Example) -> &str {
    example.token(REVOKE, "Bearer ")
}

/// A socket, or the status that it was refused with.
async fn open(example: &Example, protocols: &str) -> Result<Socket, u16> {
    let url = format!("ws://{}/echo", example.address());
    let mut request = url.into_client_request().unwrap();
    if !protocols.is_empty() {
        let protocols = protocols.parse().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocols);
    }
    match connect_async(request).await {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "demo.v1");
            Ok(socket)
        }
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn open_as(example: &Example, token: &str) -> Result<Socket, u16> {
    open(example, &format!("demo.v1, bearer.{token}")).await
}

/// The next message. Its limit bounds a hang, and measures nothing.
async fn next(socket: &mut Socket) -> Message {
    let next = tokio::time::timeout(Duration::from_secs(30), socket.next()).await;
    let next = next.expect("a message or a close");
    next.expect("an open socket").unwrap()
}

async fn echo(socket: &mut Socket, text: &str) -> String {
    socket.send(Message::text(text)).await.unwrap();
    next(socket).await.into_text().unwrap().to_string()
}

/// What the socket is closed with, if nothing else comes before.
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

    // Closed already, perhaps, by a check of that second. It is not echoed in either case.
    let _ = busy.send(Message::text("still there?")).await;
    let expected = (
        CloseCode::Policy,
        "The bearer token is not valid.".to_owned(),
    );
    assert_eq!(closed(&mut busy).await, expected);
    assert_eq!(closed(&mut idle).await, expected, "without a message");
    let again = open_as(&example, token(&example)).await;
    assert_eq!(again.unwrap_err(), 401);
    example.paste(REVOKE).expect(401);
}

#[tokio::test]
async fn who_presents_no_good_token_gets_a_status_and_no_socket() {
    let example = start();
    let good = token(&example);
    let invented = TokenFormat::new("demo_").generate().unwrap();
    let refused = async |protocols: &str| open(&example, protocols).await.unwrap_err();
    assert_eq!(refused("").await, 401);
    assert_eq!(refused("demo.v1").await, 401);
    assert_eq!(refused(&format!("demo.v1, {good}")).await, 401);
    assert_eq!(refused("demo.v1, bearer.").await, 401);
    assert_eq!(refused("demo.v1, bearer.demo_made-up").await, 401);
    let invented = format!("bearer.{}", invented.expose());
    assert_eq!(refused(&format!("demo.v1, {invented}")).await, 401);
    let two = format!("demo.v1, bearer.{good}, {invented}");
    assert_eq!(refused(&two).await, 400);
}

#[test]
fn the_printed_upgrade_is_answered_and_the_token_is_not_echoed() {
    let example = start();
    let answer = example.paste(0).expect(101);
    assert_eq!(answer.header("sec-websocket-protocol"), "demo.v1");
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
