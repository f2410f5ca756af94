//! The cost of the layer when everything is answered from Redis, without a local level, compared with a
//! hand-written middleware that sends one GET for each request. The records have no tenant, so that both read
//! one key.

use test_support::RedisServer;
use tokio::runtime::Runtime;

use super::measure::{Figures, Scene};
use super::routes::{UNCACHED_BY_HAND as BY_HAND, UNCACHED_LAYER as LAYER};
use super::{by_hand, routes};
use crate::common::table::{aside, median, median_ratio, row};

const TOKENS: usize = 10_000;
const CONNECTIONS: usize = 64;
const GOAL: f64 = 1.3;

pub(crate) fn run(runtime: &Runtime) {
    let redis = RedisServer::start();
    runtime.block_on(async {
        routes::prime(&routes::uncached(&redis.url()), TOKENS).await;
        let by_hand = by_hand::Uncached::connect(&redis.url()).await;
        by_hand.write(TOKENS, None).await;
    });
    let scene = Scene {
        runtime,
        redis: &redis,
        tokens: TOKENS,
        connections: CONNECTIONS,
    };
    let servers = [LAYER, BY_HAND];
    let figures = scene.measure(servers);
    let counts = servers.map(|name| scene.counted(name));
    for ((name, figures), counted) in servers.into_iter().zip(&figures).zip(&counts) {
        print(name, figures, *counted);
    }
    let [layer, by_hand] = &figures;
    let ratio = median_ratio(&layer.throughput, &by_hand.throughput);
    let by_time = median_ratio(&by_hand.nanos, &layer.nanos);
    let counted = counts[1].zip(counts[0]).map(|(a, b)| a / b);
    let by_count = counted.map_or(String::new(), |n| format!(", {n:.3} × by instructions"));
    let of_redis = median_ratio(&by_hand.redis_nanos, &layer.redis_nanos);
    row(
        "axum over HTTP, Redis hits, the layer against by hand",
        &format!("≥ {GOAL} ×"),
        format!(
            "{ratio:.3} × the requests/s; {by_time:.3} × by CPU time{by_count}, {of_redis:.3} × by Redis' CPU time"
        ),
        ratio >= GOAL,
    );
}

fn print(name: &str, figures: &Figures, counted: Option<f64>) {
    let micros = median(figures.nanos.clone()) / 1e3;
    let of_redis = median(figures.redis_nanos.clone()) / 1e3;
    let throughput = median(figures.throughput.clone());
    let commands = median(figures.commands.clone());
    let counted = counted.map_or(String::new(), |n| format!(", {n:.0} instructions"));
    aside(
        &format!("axum over HTTP, {name}"),
        format!(
            "{throughput:.0} requests/s; {micros:.1} µs of CPU{counted}, {of_redis:.1} µs of Redis' CPU, {commands:.2} commands a request"
        ),
    );
}
