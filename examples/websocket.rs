//! WebSockets with an API token: `cargo run -p examples --bin websocket --features websocket`.
//!
//! Programs send `Authorization`, which the layer reads before the upgrade, as for any request. A page cannot
//! set it for a WebSocket, but it can choose the subprotocols, and sends its token as one of them:
//! `new WebSocket(url, ["demo.v1", "bearer." + token])`. (A token in the URL would be in every log. With the token
//! in the first message, anybody could open sockets that wait for it.)
//!
//! * [`TokenSource::websocket_protocol`] reads it there, and hides it from the handler, which selects another
//!   protocol. A request that offers no other one is a 400.
//! * [`CachedApiToken::revoked`] completes when the token is revoked or expires, or when its tenant is suspended.
//!   Then its sockets are closed, also idle ones.
//! * An unavailable loader is a 503 before the upgrade. An outage closes no socket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, Rejection, TokenDigest,
    TokenFormat, TokenRecord, TokenSource,
};

const TOKEN_TYPE: &str = "app";

/// The subprotocol that is selected and sent back. The token's never is.
const PROTOCOL: &str = "demo.v1";
const TOKEN_PREFIX: &str = "bearer.";

/// How long a client may take to receive a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// The maximum size of a message. The default of 64 MiB is too much memory for one client.
const MAX_MESSAGE: usize = 64 * 1024;

/// The ids of the tokens by their digests. In a service: a table in a database.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<TokenDigest, &'static str>>>);

impl Table {
    fn insert(&self, digest: TokenDigest, id: &'static str) {
        self.with(|rows| rows.insert(digest, id));
    }

    fn remove(&self, digest: TokenDigest) {
        self.with(|rows| rows.remove(&digest));
    }

    fn find(&self, digest: TokenDigest) -> Option<TokenRecord> {
        let id = self.with(|rows| rows.get(&digest).copied())?;
        Some(TokenRecord::new(id).token_type(TOKEN_TYPE))
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<TokenDigest, &'static str>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone)]
struct Service {
    cache: ApiTokenCache,
    table: Table,
}

/// Opens a socket. A request without a valid token has been rejected before. Browsers do not show the status to a
/// page, only that the socket was not opened.
async fn open(caller: CachedApiToken, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(MAX_MESSAGE)
        .on_upgrade(|socket| converse(socket, caller))
}

/// Echoes messages while the token is valid.
async fn converse(mut socket: WebSocket, caller: CachedApiToken) {
    tokio::select! {
        // The end first: a message that arrives after it is not echoed.
        biased;
        () = caller.revoked() => close(socket).await,
        () = echo(&mut socket, &caller) => {}
    }
}

/// Echoes each text with the caller's id until the client disconnects.
async fn echo(socket: &mut WebSocket, caller: &CachedApiToken) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message {
            let echo = Message::text(format!("{}: {text}", caller.id()));
            let Ok(Ok(())) = timeout(PATIENCE, socket.send(echo)).await else {
                return;
            };
        }
    }
}

/// Closes with 1008, after which a client needs another token.
async fn close(mut socket: WebSocket) {
    let code = close_code::POLICY;
    let reason = Rejection::InvalidToken.detail().into();
    let farewell = async {
        let frame = CloseFrame { code, reason };
        socket.send(Message::Close(Some(frame))).await?;
        // Until the client's close frame: dropping a connection with unread data resets it, and the client
        // might not receive the reason.
        while socket.recv().await.transpose()?.is_some() {}
        Ok::<_, axum::Error>(())
    };
    // The client may have disconnected.
    let _ = timeout(PATIENCE, farewell).await;
}

/// Revokes the caller's own token. For requests, the layer does the authentication.
async fn revoke(State(service): State<Service>, caller: CachedApiToken) -> StatusCode {
    let token = caller.token();
    // In this order: first the commit, then the invalidation.
    service.table.remove(token.digest());
    match service.cache.invalidate(token.expose()).await {
        Ok(_) => StatusCode::NO_CONTENT,
        // Not confirmed, which does not happen with the store in memory. See `examples/own_table` for Redis.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn app(service: Service, format: TokenFormat) -> Result<Router, ConfigError> {
    let layer = ApiTokenLayer::builder(service.cache.clone())
        .token_type(TOKEN_TYPE)
        .token_format(format)
        .sources([
            TokenSource::bearer(),
            TokenSource::websocket_protocol(TOKEN_PREFIX),
        ])
        .build()?;
    Ok(Router::new()
        .route("/token", delete(revoke))
        .route("/echo", get(open))
        .layer(layer)
        .with_state(service))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let table = Table::default();
    let rows = table.clone();
    let loader = move |lookup: Lookup| {
        let found = rows.find(lookup.digest());
        async { Ok::<_, Infallible>(found) }
    };
    let cache = ApiTokenCache::builder(loader)
        .token_types([TOKEN_TYPE])
        .build()?;
    let format = TokenFormat::from_static("demo_");
    // Generated at each start.
    let token = format.generate()?;
    table.insert(token.digest(), "tok-1");
    let service = Service { cache, table };

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    print_usage(token.expose(), listener.local_addr()?);
    axum::serve(listener, app(service, format)?).await?;
    Ok(())
}

fn print_usage(token: &str, address: std::net::SocketAddr) {
    println!("# In the console of a browser, then s.send('hello'):");
    println!(
        "s = new WebSocket('ws://{address}/echo', ['{PROTOCOL}', '{TOKEN_PREFIX}{token}']); \
         s.onmessage = (e) => console.log(e.data); s.onclose = (e) => console.log(e.code, e.reason)"
    );
    println!("# The upgrade alone, as a page does it, and as a program may:");
    println!(
        "curl -i --http1.1 --max-time 1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
         -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
         -H 'Sec-WebSocket-Protocol: {PROTOCOL}, {TOKEN_PREFIX}{token}' http://{address}/echo"
    );
    println!(
        "curl -i --http1.1 --max-time 1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
         -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
         -H 'Authorization: Bearer {token}' http://{address}/echo"
    );
    println!("# The token is revoked, and its sockets are closed:");
    println!("curl -i -X DELETE -H 'Authorization: Bearer {token}' http://{address}/token");
    println!("listening on http://{address}");
}
