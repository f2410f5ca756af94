//! The live page, and the events that drive it.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::Next;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use tokio::time::MissedTickBehavior;
use tower_api_token::store::StoreErrorKind;

use super::ops::PROBE_TIMEOUT;
use super::problem::Problem;
use super::{AppState, NO_STORE};
use crate::live::{Health, Listener, Message};
use crate::random;

/// The whole page: nothing else is requested, from us or from anybody.
const PAGE: &str = include_str!("../live.html");

/// Where the page has the nonce of its script and its style.
const NONCE: &str = "{{nonce}}";

/// Where the page has the word for the store.
const STORE: &str = "{{store}}";

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Half of the breaker's pause: the probe that it lets through at the end of one is told nothing of it,
/// and one before or after is.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// For everybody: the page is empty without events, and these hold numbers only.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(page))
        .route("/live", get(samples))
}

/// The page may run its own script and style and speak to this server, and that is all: an
/// injected script, an outside request, a frame around it (a click on *revoke* could be stolen) are
/// refused by the browser, and so is every way to make elements out of text.
async fn page(State(state): State<AppState>) -> Result<Response, Problem> {
    let nonce = random::nonce().map_err(|error| Problem::no_randomness(&error))?;
    let store = match state.redis {
        Some(kind) => format!("redis {kind}"),
        None => "memory".to_owned(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy.as_str()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // A nonce is for one answer.
        (CACHE_CONTROL, "no-store"),
    ];
    let html = PAGE.replace(NONCE, &nonce).replace(STORE, &store);
    Ok((headers, html).into_response())
}

/// `GET /live`: a sample each second, those of the last minute first.
async fn samples(State(state): State<AppState>) -> Result<Response, Problem> {
    events(&state, Listener::Anybody)
}

/// `GET /admin/live`: changes too, which name tokens and tenants.
pub(super) async fn samples_and_changes(
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    events(&state, Listener::Operator)
}

fn events(state: &AppState, listener: Listener) -> Result<Response, Problem> {
    let Some(subscription) = state.live.subscribe(listener) else {
        let detail = "too many streams are open, or the server is about to end";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let events = stream::unfold(subscription, move |mut subscription| async move {
        loop {
            let event = match subscription.next().await? {
                Message::Sample(json) => Event::default().event("sample").data(json),
                Message::Change(json) if listener == Listener::Operator => {
                    Event::default().event("change").data(json)
                }
                Message::Change(_) => continue,
            };
            return Some((Ok::<_, Infallible>(event), subscription));
        }
    });
    Ok((NO_STORE, Sse::new(events)).into_response())
}

/// Counts an answer and its time: from the request's head to the answer's, the layer included.
pub(super) async fn measure(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let response = next.run(request).await;
    state.live.answered(response.status(), begun.elapsed());
    response
}

/// Takes the samples, for ever. Probes have a loop of their own, since a server that hangs must not
/// stop the clock.
pub(crate) async fn run(state: AppState) {
    tokio::join!(sample(&state), probe(&state));
}

async fn sample(state: &AppState) {
    let mut ticks = ticks(SAMPLE_INTERVAL);
    let mut before = state.live.counts();
    loop {
        ticks.tick().await;
        state.live.sample(&state.cache.stats(), &mut before);
    }
}

/// Only while somebody looks: a probe is a write to Redis.
async fn probe(state: &AppState) {
    let mut ticks = ticks(PROBE_INTERVAL);
    loop {
        ticks.tick().await;
        if state.live.is_watched() {
            state.live.set_health(health(state).await);
        }
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn health(state: &AppState) -> Health {
    let database = tokio::time::timeout(PROBE_TIMEOUT, state.database.ping());
    let store = tokio::time::timeout(PROBE_TIMEOUT, state.cache.check_store());
    let (database, store) = tokio::join!(database, store);
    Health {
        database: matches!(database, Ok(Ok(()))),
        store: matches!(store, Ok(Ok(()))),
        breaker_open: matches!(store, Ok(Err(error)) if error.kind() == StoreErrorKind::CircuitOpen),
    }
}
