//! The design that this crate is derived from, with Flask, gunicorn and one GET by redis-py for each
//! request, beside axum with the layer. Both have the same Redis, in the layout that
//! they share (`KeyLayout::dify()`), the same tokens, and a worker or thread for each core.
//!
//! `cargo bench --bench compare --all-features -- flask`; a minute. It asks `scripts/lib/python-env` for a Python with
//! `benches/compare/flask/requirements.txt`, or `FLASK_PYTHON` names one. Linux, for its CPU times.

mod servers;

use std::time::{Duration, Instant};

use crate::client::{Client, Requests, requests};
use crate::common::hot;
use crate::common::program;
use crate::common::table::{aside, cpu_time, median, median_ratio, row};
use crate::process::Server;
use servers::{LOCAL, Python, SHARED, WORKERS};
use test_support::RedisServer;
use tokio::runtime::Runtime;

const TOKENS: usize = 10_000;
const CONNECTIONS: usize = 64;
const SLICE: Duration = Duration::from_millis(1_200);
const ROUNDS: usize = 7;
const GOAL: f64 = 15.0;

struct Scene {
    name: String,
    server: Server,
    /// Requests per second, in each round.
    throughput: Vec<f64>,
    /// The server's CPU time per request, including its workers, in nanoseconds.
    nanos: Vec<f64>,
}

pub(crate) fn main() {
    let arguments = program::arguments();
    // Servers and client have as many threads as there are cores.
    let runtime = Runtime::new().expect("a runtime");
    if let [serve, name, redis] = arguments.as_slice()
        && serve == "serve"
    {
        runtime.block_on(servers::serve(name, redis));
        return;
    }
    let redis = RedisServer::start();
    let python = Python::find();
    let mut scenes: Vec<Scene> = Vec::new();
    for workers in WORKERS {
        let server = python.serve(workers, &redis.url());
        scenes.push(Scene::new(format!("Flask, gunicorn {workers}"), server));
    }
    for name in [SHARED, LOCAL] {
        let server = servers::rust(name, &redis.url());
        scenes.push(Scene::new(format!("axum, {name}"), server));
    }
    runtime.block_on(measure(&mut scenes, &redis));
    print(&scenes);
    for scene in scenes {
        scene.server.stop();
    }
}

async fn measure(scenes: &mut [Scene], redis: &RedisServer) {
    let requests = requests((0..TOKENS).map(hot::token));
    // The first requests to Flask read its database, and write to Redis for all servers.
    drop(Client::connect(scenes[0].server.address, CONNECTIONS, &requests).await);
    assert_eq!(redis.keys("api_token:app:*").len(), CONNECTIONS);
    // With its first request a server connects, and its test of client tracking reads a key that does not exist.
    for scene in &scenes[1..] {
        drop(Client::connect(scene.server.address, CONNECTIONS, &requests).await);
    }
    servers::prime(&redis.url(), TOKENS).await;
    let misses = misses(redis);
    for _ in 0..ROUNDS {
        for scene in &mut *scenes {
            scene.slice(&requests).await;
        }
    }
    assert_eq!(self::misses(redis), misses, "everything was in Redis");
}

impl Scene {
    fn new(name: String, server: Server) -> Self {
        Self {
            name,
            server,
            throughput: Vec::new(),
            nanos: Vec::new(),
        }
    }

    /// Uses new connections, because gunicorn closes those that are idle for some seconds.
    async fn slice(&mut self, requests: &Requests) {
        let mut client = Client::connect(self.server.address, CONNECTIONS, requests).await;
        let (start, before) = (Instant::now(), cpu_time_of_all(self.server.id()));
        let answered = client.ask_for(SLICE).await as f64;
        let after = cpu_time_of_all(self.server.id());
        self.throughput
            .push(answered / start.elapsed().as_secs_f64());
        self.nanos.push((after - before) / answered);
    }
}

/// Prints the comparison with the kind of workers that is best for Python.
fn print(scenes: &[Scene]) {
    for scene in scenes {
        let micros = median(scene.nanos.clone()) / 1e3;
        let throughput = median(scene.throughput.clone());
        let measured = format!("{throughput:.0} requests/s; {micros:.1} µs of CPU a request");
        aside(&scene.name, measured);
    }
    let (pythons, rusts) = scenes.split_at(WORKERS.len());
    let throughput = |scene: &&Scene| median(scene.throughput.clone());
    let best = pythons
        .iter()
        .max_by(|a, b| throughput(a).total_cmp(&throughput(b)));
    let best = best.expect("some workers");
    for rust in rusts {
        let ratio = median_ratio(&rust.throughput, &best.throughput);
        let by_time = median_ratio(&best.nanos, &rust.nanos);
        row(
            &format!("{}, against {}", rust.name, best.name),
            &format!("≥ {GOAL} ×"),
            format!("{ratio:.1} × the requests/s; {by_time:.1} × by CPU time"),
            ratio >= GOAL,
        );
    }
}

/// Returns the CPU time of a process and its children.
fn cpu_time_of_all(process: u32) -> f64 {
    let children = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(children).expect("a process");
    let children = children.split_whitespace().map(cpu_time);
    cpu_time(&process.to_string()) + children.sum::<f64>()
}

/// Returns how often Redis was asked for a key that it did not have.
fn misses(redis: &RedisServer) -> u64 {
    redis.info("stats", "keyspace_misses").expect("a count")
}
