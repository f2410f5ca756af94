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

use super::ops::health;
use super::problem::Problem;
use super::{AppState, NO_STORE};
use crate::canary::Canary;
use crate::live::{Audience, Message};

/// The whole page, which loads nothing else from any server.
const PAGE: &str = include_str!("../live.html");

/// The place of the nonce of the page's script and style.
const NONCE: &str = "{{nonce}}";

/// The place of the kind of the store.
const STORE: &str = "{{store}}";

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Half of the breaker's pause of 500 ms. The probe that a half-open breaker lets through does not report
/// it as open, but the one before or after does.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Returns the public routes. The page has no data of its own, and the events that it gets here are only
/// numbers.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(page))
        .route("/live", get(samples))
}

/// Responds with the page. Its content security policy allows its own script and style and requests to
/// this server. The browser blocks injected scripts, requests to other servers, frames around the page (to
/// steal a click on *revoke*), and every API that parses text as HTML.
async fn page(State(state): State<AppState>) -> Result<Response, Problem> {
    let nonce = nonce().map_err(|error| Problem::no_randomness(&error))?;
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
        // A nonce must not be used twice.
        (CACHE_CONTROL, "no-store"),
    ];
    let html = PAGE.replace(NONCE, &nonce).replace(STORE, &store);
    Ok((headers, html).into_response())
}

/// Returns 128 random bits in hex, for the content security policy of one response.
fn nonce() -> Result<String, getrandom::Error> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

/// Serves `GET /live`: the samples of the last minute, then one per second.
async fn samples(State(state): State<AppState>) -> Result<Response, Problem> {
    events(&state, Audience::Public)
}

/// Serves `GET /admin/live`, which also has changes, with the ids of tokens and tenants.
pub(super) async fn samples_and_changes(
    State(state): State<AppState>,
) -> Result<Response, Problem> {
    events(&state, Audience::Operator)
}

fn events(state: &AppState, audience: Audience) -> Result<Response, Problem> {
    let Some(subscription) = state.live.subscribe(audience) else {
        let detail = "too many streams are open, or the server is shutting down";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let events = stream::unfold(subscription, move |mut subscription| async move {
        loop {
            let event = match subscription.next().await? {
                Message::Sample(json) => Event::default().event("sample").data(json),
                Message::Change(json) if audience == Audience::Operator => {
                    Event::default().event("change").data(json)
                }
                Message::Change(_) => continue,
            };
            return Some((Ok::<_, Infallible>(event), subscription));
        }
    });
    Ok((NO_STORE, Sse::new(events)).into_response())
}

/// Measures the time from the request's head to the response's, including the layer.
pub(super) async fn measure(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let response = next.run(request).await;
    state.live.answered(response.status(), start.elapsed());
    response
}

/// Takes samples until it is dropped. Probes have a loop of their own, so that a server that hangs does
/// not delay samples.
pub(crate) async fn run(state: AppState) {
    tokio::join!(sample(&state), probe(&state));
}

async fn sample(state: &AppState) {
    let mut ticks = ticks(SAMPLE_INTERVAL);
    let mut before = state.live.counts();
    loop {
        ticks.tick().await;
        let revocations = state.canary.as_ref().map(Canary::last_hour);
        state
            .live
            .sample(&state.cache.stats(), revocations, &mut before);
    }
}

/// Probes while a page is open, because each probe writes to Redis.
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
