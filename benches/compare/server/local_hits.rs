//! The cost of the layer when everything is answered from memory, compared with no layer and with a
//! hand-written one.

use test_support::RedisServer;
use tokio::runtime::Runtime;

use super::measure::Scene;
use crate::common::table::{aside, median, median_ratio, row};

pub(crate) const TOKENS: usize = 1_000;
const CONNECTIONS: usize = 32;

pub(crate) const BARE: &str = "without authentication";
pub(crate) const LAYER: &str = "the layer";
pub(crate) const BY_HAND: &str = "by hand";
/// The layer with the default `max_staleness`, which reads each hot token again every half second.
pub(crate) const SHORT: &str = "the layer, S = 1 s";
/// The cost in axum of every layer that changes the body's type: boxes, and a clone of the service.
pub(crate) const NOTHING: &str = "a layer that does nothing";
const SERVERS: [&str; 5] = [BARE, NOTHING, LAYER, BY_HAND, SHORT];

pub(crate) fn run(runtime: &Runtime) {
    let redis = RedisServer::start();
    let scene = Scene {
        runtime,
        redis: &redis,
        tokens: TOKENS,
        connections: CONNECTIONS,
    };
    let figures = scene.measure(SERVERS);
    let counts = SERVERS.map(|name| {
        // Background work depends on time, in which there are fewer requests with valgrind.
        let is_steady = name != SHORT;
        is_steady.then(|| scene.counted(name))?
    });
    for (nth, name) in SERVERS.into_iter().enumerate() {
        let micros = median(figures[nth].nanos.clone()) / 1e3;
        let counted = counts[nth].map_or(String::new(), |n| format!(", {n:.0} instructions"));
        let of_it = format!("{micros:.1} µs of CPU{counted} a request");
        aside(&format!("axum over HTTP, {name}"), of_it);
    }
    for (other, goal) in [(BARE, Some(0.97)), (NOTHING, None), (BY_HAND, Some(1.0))] {
        let at = |wanted| SERVERS.iter().position(|name| *name == wanted);
        let (Some(other_at), Some(layer)) = (at(other), at(LAYER)) else {
            continue;
        };
        let ratio = median_ratio(&figures[other_at].nanos, &figures[layer].nanos);
        let counted = counts[other_at].zip(counts[layer]).map(|(a, b)| a / b);
        let by_count = counted.map_or(String::new(), |n| format!("; {n:.3} × by instructions"));
        let measured = format!("{ratio:.3} × by CPU time{by_count}");
        let what = format!("axum over HTTP, the layer against {other}");
        match goal {
            Some(goal) => row(&what, &format!("≥ {goal} ×"), measured, ratio >= goal),
            None => aside(&what, measured),
        }
    }
}
