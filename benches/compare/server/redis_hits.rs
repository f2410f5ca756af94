//! The cost of the layer when it has to ask Redis, compared with a hand-written middleware: for tokens that are there,
//! without a local level, and for tokens that are loaded from a database in memory.
//!
//! The hand-written one sends one GET for each request. The layer also reads one key, and a second one, after the first,
//! if the record has a tenant whose generation is not in memory. A miss costs the hand-written one a GET and a SETEX, without a lease: concurrent requests load
//! twice, and a load that began before a revocation brings the token back.

use test_support::RedisServer;
use tokio::runtime::Runtime;

use super::measure::{Figures, Scene};
use super::routes::{
    BOTH_KEYS, LOADING_BY_HAND, LOADING_LAYER, UNCACHED_BY_HAND, UNCACHED_LAYER, WITH_TENANT,
};
use super::{by_hand, routes};
use crate::common::table::{aside, median, median_ratio, row};

const TOKENS: usize = 10_000;
/// More than are asked for, so that each is loaded once.
const COLD: usize = 400_000;
const CONNECTIONS: usize = 64;

pub(crate) fn run(runtime: &Runtime) {
    let redis = RedisServer::start();
    runtime.block_on(async {
        routes::prime(&routes::uncached(&redis.url()), TOKENS).await;
        routes::prime(&routes::with_tenant(&redis.url(), 0), TOKENS).await;
        let by_hand = by_hand::Uncached::connect(&redis.url()).await;
        by_hand.write(TOKENS, None).await;
    });
    let scene = |tokens| Scene {
        runtime,
        redis: &redis,
        tokens,
        connections: CONNECTIONS,
    };
    let hits = [UNCACHED_BY_HAND, UNCACHED_LAYER, WITH_TENANT, BOTH_KEYS];
    compare(&scene(TOKENS), hits, [Some(1.0), Some(0.9), None]);
    compare(&scene(COLD), [LOADING_BY_HAND, LOADING_LAYER], [Some(0.7)]);
}

/// Compares the first server with each of the others, which have these goals.
fn compare<const N: usize, const G: usize>(
    scene: &Scene<'_>,
    servers: [&str; N],
    goals: [Option<f64>; G],
) {
    let figures = scene.measure(servers);
    // Few requests under valgrind would ask for what the slices have loaded.
    let is_cold = scene.tokens == COLD;
    let counts = servers.map(|name| (!is_cold).then(|| scene.counted(name))?);
    for ((name, figures), counted) in servers.into_iter().zip(&figures).zip(&counts) {
        print(name, figures, *counted);
    }
    for (nth, goal) in (1..N).zip(goals) {
        let (by_hand, other) = (&figures[0], &figures[nth]);
        let requests = median_ratio(&other.throughput, &by_hand.throughput);
        let by_time = median_ratio(&by_hand.nanos, &other.nanos);
        let counted = counts[0].zip(counts[nth]).map(|(a, b)| a / b);
        let by_count = counted.map_or(String::new(), |n| format!(", {n:.3} × by instructions"));
        let of_redis = median_ratio(&by_hand.redis_nanos, &other.redis_nanos);
        let what = format!("axum over HTTP, {}, against by hand", servers[nth]);
        let measured = format!(
            "{by_time:.3} × by CPU time{by_count}; {requests:.3} × the requests/s; {of_redis:.3} × by Redis' CPU time"
        );
        match goal {
            Some(goal) => row(&what, &format!("≥ {goal} ×"), measured, by_time >= goal),
            None => aside(&what, measured),
        }
    }
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
