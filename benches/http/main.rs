//! What the layer costs a server: axum over HTTP with the layer, without any authentication, and with a
//! middleware written by hand, each a process of its own with one thread, whose CPU time is read.
//!
//! `cargo bench --bench http`; a minute, and some more with valgrind. Linux, for its CPU times.

mod client;
mod server;
#[path = "../common/table.rs"]
mod table;
#[path = "../../tests/common/hot.rs"]
mod tokens;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use client::Client;
use table::{aside, cpu_time, median, median_ratio, row};
use test_support::RedisServer;

const TOKENS: usize = 1_000;
const CONNECTIONS: usize = 32;
const SLICE: Duration = Duration::from_millis(400);
const ROUNDS: usize = 21;

const BARE: &str = "without authentication";
const LAYER: &str = "the layer";
const BY_HAND: &str = "by hand";
/// With the default staleness bound, and so a second look at each hot token in half a second.
const SHORT: &str = "the layer, S = 1 s";
/// What axum asks for each layer whose responses have a body of another type: boxes, and a copy of the
/// service.
const NOTHING: &str = "a layer that does nothing";
const SERVERS: [&str; 5] = [BARE, NOTHING, LAYER, BY_HAND, SHORT];

/// A server in a process of its own, which ends when its input does.
struct Server {
    process: Child,
    input: Option<ChildStdin>,
    address: SocketAddr,
}

impl Server {
    fn start(mut command: Command, name: &str, redis: &str) -> Self {
        let command = command.args(["serve", name, redis]);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut said = BufReader::new(process.stdout.as_mut().expect("its output"));
        let mut line = String::new();
        said.read_line(&mut line).expect("an address");
        Self {
            input: process.stdin.take(),
            address: line.trim().parse().expect("an address"),
            process,
        }
    }

    /// What it wrote to its error output until its end.
    fn stop(mut self) -> String {
        drop(self.input.take());
        let ended = self.process.wait_with_output().expect("its end");
        String::from_utf8_lossy(&ended.stderr).into_owned()
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("this program"))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    if let [_, serve, name, redis] = arguments.as_slice()
        && serve == "serve"
    {
        runtime.block_on(server::serve(name, redis));
        return;
    }
    let redis = RedisServer::start();
    let nanos = runtime.block_on(times(&redis.url()));
    let said = SERVERS.map(|name| {
        // Its background work goes by time, and under valgrind there are fewer requests in that.
        let is_steady = name != SHORT;
        is_steady.then(|| counted(&runtime, name, &redis.url()))?
    });
    for (nth, name) in SERVERS.into_iter().enumerate() {
        let micros = median(nanos[nth].clone()) / 1e3;
        let counted = said[nth].map_or(String::new(), |n| format!(", {n:.0} instructions"));
        let of_it = format!("{micros:.1} µs of CPU{counted} a request");
        aside(&format!("axum over HTTP, {name}"), of_it);
    }
    for (other, goal) in [(BARE, Some(0.97)), (NOTHING, None), (BY_HAND, Some(1.0))] {
        let at = |wanted| SERVERS.iter().position(|name| *name == wanted);
        let (Some(other_at), Some(layer)) = (at(other), at(LAYER)) else {
            continue;
        };
        let ratio = median_ratio(&nanos[other_at], &nanos[layer]);
        let counted = said[other_at].zip(said[layer]).map(|(a, b)| a / b);
        let by_count = counted.map_or(String::new(), |n| format!("; {n:.3} × by instructions"));
        let measured = format!("{ratio:.3} × by CPU time{by_count}");
        let what = format!("axum over HTTP, the layer against {other}");
        match goal {
            Some(goal) => row(&what, &format!("≥ {goal} ×"), measured, ratio >= goal),
            None => aside(&what, measured),
        }
    }
}

/// Nanoseconds of the servers' CPU time per request, for each server and round.
async fn times(redis: &str) -> [Vec<f64>; SERVERS.len()] {
    let servers = SERVERS.map(|name| Server::start(this_program(), name, redis));
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(Client::connect(server.address, CONNECTIONS).await);
    }
    let mut nanos = [const { Vec::new() }; SERVERS.len()];
    for _ in 0..ROUNDS {
        for ((server, client), nanos) in servers.iter().zip(&mut clients).zip(&mut nanos) {
            let process = server.process.id().to_string();
            let before = cpu_time(&process);
            let requests = client.ask_for(SLICE).await;
            nanos.push((cpu_time(&process) - before) / requests as f64);
        }
    }
    servers.into_iter().map(Server::stop).for_each(drop);
    nanos
}

/// Instructions per request outside of the kernel, if there is valgrind.
fn counted(runtime: &tokio::runtime::Runtime, name: &str, redis: &str) -> Option<f64> {
    const FEW: usize = 1_000;
    const MANY: usize = 5_000;
    let run = |requests| -> Option<f64> {
        let program = std::env::current_exe().expect("this program");
        let server = Server::start(table::valgrind(&program)?, name, redis);
        runtime.block_on(async {
            let mut client = Client::connect(server.address, 1).await;
            client.ask(requests).await;
        });
        table::collected(&server.stop())
    };
    Some((run(MANY)? - run(FEW)?) / (MANY - FEW) as f64)
}
