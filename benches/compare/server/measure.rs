//! Measures servers, in slices that take turns, and with valgrind.

use std::process::Command;
use std::time::{Duration, Instant};

use test_support::RedisServer;
use tokio::runtime::Runtime;

use crate::client::{Client, Requests, requests};
use crate::common::hot;
use crate::common::program::again;
use crate::common::table::{collected, cpu_time, valgrind};
use crate::process::Server;

const SLICE: Duration = Duration::from_millis(400);
const ROUNDS: usize = 21;

pub(crate) struct Scene<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) redis: &'a RedisServer,
    pub(crate) tokens: usize,
    pub(crate) connections: usize,
}

/// The figures of one server, one for each round.
#[derive(Default)]
pub(crate) struct Figures {
    /// The server's CPU time per request, including the kernel's.
    pub(crate) nanos: Vec<f64>,
    /// Redis' CPU time per request.
    pub(crate) redis_nanos: Vec<f64>,
    /// Redis' commands per request.
    pub(crate) commands: Vec<f64>,
    /// Requests per second.
    pub(crate) throughput: Vec<f64>,
}

impl Scene<'_> {
    /// Measures each of these servers.
    pub(crate) fn measure<const N: usize>(&self, names: [&str; N]) -> [Figures; N] {
        self.runtime.block_on(self.rounds(names))
    }

    async fn rounds<const N: usize>(&self, names: [&str; N]) -> [Figures; N] {
        let servers = names.map(|name| Server::start(self.serving(again(), name)));
        let requests = self.requests();
        let mut clients = Vec::new();
        for server in &servers {
            clients.push(Client::connect(server.address, self.connections, &requests).await);
        }
        let mut figures: [Figures; N] = std::array::from_fn(|_| Figures::default());
        for _ in 0..ROUNDS {
            for ((server, client), figures) in servers.iter().zip(&mut clients).zip(&mut figures) {
                self.slice(server, client, figures).await;
            }
        }
        servers.into_iter().map(Server::stop).for_each(drop);
        figures
    }

    async fn slice(&self, server: &Server, client: &mut Client, figures: &mut Figures) {
        let server = server.id().to_string();
        let redis = self.redis.pid().expect("Redis").to_string();
        let commands = self.commands();
        let before = (cpu_time(&server), cpu_time(&redis), Instant::now());
        let requests = client.ask_for(SLICE).await as f64;
        let after = (cpu_time(&server), cpu_time(&redis), before.2.elapsed());
        figures.nanos.push((after.0 - before.0) / requests);
        figures.redis_nanos.push((after.1 - before.1) / requests);
        figures.throughput.push(requests / after.2.as_secs_f64());
        figures
            .commands
            .push((self.commands() - commands) / requests);
    }

    /// Returns the number of commands that Redis has processed since it started.
    fn commands(&self) -> f64 {
        let count = self.redis.info("stats", "total_commands_processed");
        count.expect("a count")
    }

    /// Returns the instructions per request outside of the kernel, on one connection, if valgrind is installed.
    pub(crate) fn counted(&self, name: &str) -> Option<f64> {
        const FEW: usize = 1_000;
        const MANY: usize = 5_000;
        let run = |requests| -> Option<f64> {
            let server = Server::start(self.serving(valgrind()?, name));
            self.runtime.block_on(async {
                let mut client = Client::connect(server.address, 1, &self.requests()).await;
                client.ask(requests).await;
            });
            collected(&server.stop())
        };
        Some((run(MANY)? - run(FEW)?) / (MANY - FEW) as f64)
    }

    fn serving(&self, mut program: Command, name: &str) -> Command {
        program.args(["serve", name, &self.redis.url()]);
        program
    }

    fn requests(&self) -> Requests {
        requests((0..self.tokens).map(hot::token))
    }
}
