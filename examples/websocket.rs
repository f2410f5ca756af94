//! A WebSocket that is opened by an API token: `cargo run -p examples --bin websocket --features websocket`.
//!
//! Programs send `Authorization`, which the layer reads before the upgrade as it does before any request. A
//! page cannot set it on a WebSocket. What it can choose are the subprotocols, so its token comes as one of
//! them, beside the real one: `new WebSocket(url, ["demo.v1", "bearer." + token])`. That is looked up by hand.
//! (In the URL it would be in every log on the way. In the first message it is well hidden, but then
//! anybody can open sockets, which wait for that message and need a time-out.)
//!
//! What to take from it:
//!
//! * The layer is optional there: it refuses a bad `Authorization`, and lets through what has none.
//! * [`ApiTokenCache::authenticate`] is the whole look-up, for wherever the layer does not fit. What the
//!   layer checks beforehand one checks oneself, here by [`TokenFormat::check`], and so one answers a refusal:
//!   its challenge, `Retry-After`, and that it is not to be cached.
//! * Who is let in is asked again before each message and each second, so that a revoked or expired token
//!   ends its sockets too, and not its requests alone. That is a look into this process's memory; Redis
//!   is asked at most once a second for each token.
//! * "We cannot tell" is no refusal: 503 before the upgrade, and "try again later" after it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, BearerToken, CachedApiToken, ConfigError, Lookup, Rejection,
    TokenDigest, TokenFormat, TokenRecord,
};

const SCOPE: &str = "app";

/// What is selected and echoed. The token never is.
const PROTOCOL: &str = "demo.v1";
const TOKEN_PREFIX: &str = "bearer.";

/// How long an idle socket may outlive its token. The same as the cache's staleness bound: less would
/// ask more often than there can be news.
const RECHECK: Duration = Duration::from_secs(1);

/// How long a client may take to read what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// The default, 64 MiB, is a lot to keep for somebody else.
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
        Some(TokenRecord::new(id).token_type(SCOPE))
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<TokenDigest, &'static str>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone)]
struct Service {
    cache: ApiTokenCache,
    format: TokenFormat,
    table: Table,
}

impl Service {
    /// Who presents this token; or what the layer would refuse it with.
    async fn caller(&self, token: &BearerToken) -> Result<CachedApiToken, Rejection> {
        let answer = self.cache.authenticate_typed(token.expose(), SCOPE).await?;
        answer.into_result()
    }

    /// The token that opens the socket: the layer's, or the one among the subprotocols, if it is good. With
    /// two of them, which one counts is nothing to be guessed.
    async fn admit(
        &self,
        caller: Option<CachedApiToken>,
        upgrade: &WebSocketUpgrade,
    ) -> Result<BearerToken, Rejection> {
        let mut presented = upgrade
            .requested_protocols()
            .filter_map(|protocol| protocol.to_str().ok()?.strip_prefix(TOKEN_PREFIX));
        let token = match (caller, presented.next(), presented.next()) {
            (Some(caller), None, _) => return Ok(caller.token().clone()),
            (None, None, _) => return Err(Rejection::MissingToken),
            (None, Some(token), None) => token,
            _ => return Err(Rejection::MultipleTokens),
        };
        // What comes from outside is not looked up before that.
        if !self.format.matches(token) {
            return Err(Rejection::InvalidToken);
        }
        let token = BearerToken::new(token);
        self.caller(&token).await.map(|_| token)
    }
}

/// Whoever is refused gets no socket, but an HTTP status. A page sees neither: browsers tell it only
/// that the socket was not opened.
async fn open(
    State(service): State<Service>,
    caller: Option<CachedApiToken>,
    upgrade: WebSocketUpgrade,
) -> Response {
    match service.admit(caller, &upgrade).await {
        Ok(token) => upgrade
            .protocols([PROTOCOL])
            .max_message_size(MAX_MESSAGE)
            .on_upgrade(|socket| converse(socket, service, token)),
        Err(refusal) => refuse(&refusal),
    }
}

/// As the layer answers.
fn refuse(refusal: &Rejection) -> Response {
    let mut response = (refusal.status(), refusal.detail().to_owned()).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match refusal {
        Rejection::Unavailable { retry_after } => {
            headers.insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
        }
        refused => {
            let challenge = match refused.error_code() {
                Some("invalid_token") => r#"Bearer realm="api", error="invalid_token""#,
                Some("invalid_request") => r#"Bearer realm="api", error="invalid_request""#,
                _ => r#"Bearer realm="api""#,
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }
    response
}

/// Echoes each text with the caller's name, for as long as the token is good.
async fn converse(mut socket: WebSocket, service: Service, token: BearerToken) {
    let mut recheck = tokio::time::interval(RECHECK);
    loop {
        let message = tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(message)) => Some(message),
                _ => return,
            },
            _ = recheck.tick() => None,
        };
        // After the message came and before it is acted upon.
        let caller = match service.caller(&token).await {
            Ok(caller) => caller,
            Err(refusal) => return close(socket, &refusal).await,
        };
        if let Some(Message::Text(text)) = message {
            let echo = Message::text(format!("{}: {text}", caller.id()));
            // Who reads nothing would hold this task here, away from the next check.
            let Ok(Ok(())) = timeout(PATIENCE, socket.send(echo)).await else {
                return;
            };
        }
    }
}

/// A client that reads 1013 opens another socket after a while; after 1008 it needs another token.
async fn close(mut socket: WebSocket, refusal: &Rejection) {
    let code = match refusal {
        Rejection::Unavailable { .. } => close_code::AGAIN,
        _ => close_code::POLICY,
    };
    // At most 123 bytes (RFC 6455 section 5.5), which a loader's own words for a denial have to keep to.
    let reason = refusal.detail().into();
    let farewell = async {
        let frame = CloseFrame { code, reason };
        socket.send(Message::Close(Some(frame))).await?;
        // To the client's own close frame: a connection that is dropped with something unread is reset, and
        // the client might not learn why.
        while socket.recv().await.transpose()?.is_some() {}
        Ok::<_, axum::Error>(())
    };
    // Whether the client still listened makes no difference any more.
    let _ = timeout(PATIENCE, farewell).await;
}

/// The caller revokes its own token. A request is what the layer is for.
async fn revoke(State(service): State<Service>, caller: CachedApiToken) -> StatusCode {
    let token = caller.token();
    // The order matters: first the database commits, then the cache forgets.
    service.table.remove(token.digest());
    match service.cache.invalidate(token.expose()).await {
        Ok(_) => StatusCode::NO_CONTENT,
        // Not confirmed, which the store in memory never says. `examples/postgres` does what Redis needs.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn app(service: Service) -> Result<Router, ConfigError> {
    let layer = || {
        ApiTokenLayer::builder(service.cache.clone())
            .token_type(SCOPE)
            .token_format(service.format.clone())
    };
    Ok(Router::new()
        .route("/token", delete(revoke).layer(layer().build()?))
        .route("/echo", get(open).layer(layer().optional().build()?))
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
        .token_types([SCOPE])
        .build()?;
    let format = TokenFormat::from_static("demo_");
    // A new one at each start.
    let token = format.generate()?;
    table.insert(token.digest(), "tok-1");
    let service = Service {
        cache,
        format,
        table,
    };

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    print_usage(token.expose(), listener.local_addr()?);
    axum::serve(listener, app(service)?).await?;
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
