//! Server-sent events that end with their token: `cargo run -p examples --bin events`.
//!
//! The layer authenticates the request that opens a stream, and sees nothing of what follows. So the stream takes
//! the token's end itself: [`CachedApiToken::revoked`] completes when the token is revoked or expires, or when its
//! tenant is suspended, also on another instance. While it waits it costs a timer, and no queries.
//!
//! A page's `EventSource` connects again when a stream ends, is then rejected with 401 or 403, and gives up.
//!
//! `LIFETIME_SECONDS` is how long the second token is valid, by default 60.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::routing::{delete, get, post};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, BearerToken, CachedApiToken, InvalidateError,
    InvalidationReceipt, Lookup, TokenFormat, TokenRecord,
};

/// The tenant of both tokens.
const TENANT: &str = "acme";

/// The time between two events.
const PERIOD: Duration = Duration::from_secs(1);

/// Two tokens of a tenant. In a service: tables in a database.
struct Table {
    token: BearerToken,
    is_revoked: AtomicBool,
    short: BearerToken,
    expires_at: SystemTime,
    is_suspended: AtomicBool,
}

impl Table {
    fn find(&self, lookup: &Lookup) -> Option<TokenRecord> {
        let record = if lookup.digest() == self.token.digest() {
            let is_valid = !self.is_revoked.load(Ordering::SeqCst);
            is_valid.then(|| TokenRecord::new("tok-1"))?
        } else if lookup.digest() == self.short.digest() {
            TokenRecord::new("tok-2").expires_at(self.expires_at)
        } else {
            return None;
        };
        let record = record.tenant_id(TENANT);
        Some(if self.is_suspended.load(Ordering::SeqCst) {
            record.denied("The account is suspended.")
        } else {
            record
        })
    }
}

#[derive(Clone)]
struct Service {
    cache: ApiTokenCache,
    table: Arc<Table>,
}

/// Streams a number each second while the token is valid.
async fn events(
    token: CachedApiToken,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let id = token.id().to_owned();
    let numbers = stream::unfold(1, |number| async move {
        sleep(PERIOD).await;
        Some((number, number + 1))
    });
    let events =
        numbers.map(move |number: u64| Ok(Event::default().data(format!("{id}: {number}"))));
    Sse::new(events.take_until(token.revoked()))
}

/// Revokes the caller's own token.
async fn revoke(State(service): State<Service>, caller: CachedApiToken) -> StatusCode {
    if caller.id() != "tok-1" {
        return StatusCode::NOT_FOUND;
    }
    // In this order: first the commit, then the invalidation.
    service.table.is_revoked.store(true, Ordering::SeqCst);
    let invalidated = service.cache.invalidate(caller.token().expose()).await;
    confirmed(&invalidated)
}

/// Suspends the caller's tenant. In a service: for an operator.
async fn suspend(State(service): State<Service>) -> StatusCode {
    service.table.is_suspended.store(true, Ordering::SeqCst);
    let invalidated = service.cache.invalidate_tenant(TENANT).await;
    confirmed(&invalidated)
}

/// Not confirmed does not happen with the store in memory. See `examples/own_table` for Redis.
fn confirmed(invalidated: &Result<InvalidationReceipt, InvalidateError>) -> StatusCode {
    match invalidated {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let lifetime = match std::env::var("LIFETIME_SECONDS") {
        Ok(seconds) => seconds.parse()?,
        Err(_) => 60,
    };
    let format = TokenFormat::from_static("demo_");
    // Generated at each start.
    let table = Arc::new(Table {
        token: format.generate()?,
        is_revoked: AtomicBool::new(false),
        short: format.generate()?,
        expires_at: SystemTime::now() + Duration::from_secs(lifetime),
        is_suspended: AtomicBool::new(false),
    });
    let rows = Arc::clone(&table);
    let loader = move |lookup: Lookup| {
        let found = rows.find(&lookup);
        async { Ok::<_, Infallible>(found) }
    };
    let cache = ApiTokenCache::builder(loader).build()?;

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    print_usage(&table, lifetime, listener.local_addr()?);
    let app = Router::new()
        .route("/events", get(events))
        .route("/token", delete(revoke))
        .route("/tenant/suspend", post(suspend))
        .layer(ApiTokenLayer::new(cache.clone()))
        .with_state(Service { cache, table });
    Ok(axum::serve(listener, app).await?)
}

fn print_usage(table: &Table, lifetime: u64, address: std::net::SocketAddr) {
    let (token, short) = (table.token.expose(), table.short.expose());
    let stream = |token: &str| {
        println!("curl -i -N -H 'Authorization: Bearer {token}' http://{address}/events");
    };
    println!("# A stream, and another one with a token that expires after {lifetime} s:");
    stream(token);
    stream(short);
    println!("# In another terminal: the first token is revoked, and its streams end.");
    println!("curl -i -X DELETE -H 'Authorization: Bearer {token}' http://{address}/token");
    println!("# The tenant is suspended, and all of its streams end:");
    println!("curl -i -X POST -H 'Authorization: Bearer {short}' http://{address}/tenant/suspend");
    println!("listening on http://{address}");
}
