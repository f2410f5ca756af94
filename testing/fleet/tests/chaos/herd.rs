//! Concurrent requests for one token in several processes need one load.
//!
//! There are no faults, and Redis may be slow, because the tests count loads.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use fleet::chaos::books::Shared;
use fleet::chaos::database::{Database, Pace};
use fleet::chaos::ledger::Row;
use fleet::chaos::process::Process;
use fleet::chaos::settings::{BOUND, Rate, TOKENS};
use fleet::chaos::wire::{Order, Report};
use fleet::chaos::worker::Options;
use test_support::RedisServer;
use tokio::runtime::Runtime;

/// The requests of each worker, a thousand in total.
const SHARES: [usize; 3] = [334, 333, 333];
const KNOWN: usize = 0;
const UNKNOWN: usize = TOKENS - 1;

/// Three workers, one Redis, and a database that answers only after all requests have arrived.
struct World {
    workers: Vec<(Process, Receiver<Report>)>,
    database: Database,
    books: Shared,
    _runtime: Runtime,
    _server: RedisServer,
}

impl World {
    fn start() -> Self {
        let server = RedisServer::start();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let books = Shared::default();
        let pace = Pace::Steady(Duration::from_millis(500));
        let database = runtime
            .block_on(Database::start(Arc::clone(&books), pace))
            .unwrap();
        let employ = |index| {
            let options = Options {
                redis: server.url(),
                database: database.addr(),
                seed: index,
                bound: BOUND,
                replicas: 0,
                patient: true,
                tracking: true,
                dify: false,
                rate: Rate::EXACT,
            };
            let (sender, reports) = mpsc::channel();
            let program = Path::new(env!("CARGO_BIN_EXE_chaos"));
            let process = Process::start(program, &options, move |report| {
                if !matches!(report, Report::Counted(_)) {
                    let _ = sender.send(report);
                }
            });
            assert_eq!(reports.recv(), Ok(Report::Ready));
            (process.unwrap(), reports)
        };
        Self {
            workers: (0..3).map(employ).collect(),
            database,
            books,
            _runtime: runtime,
            _server: server,
        }
    }

    /// Sends a thousand concurrent requests for this token, and returns the numbers of valid, invalid and other answers.
    fn herd(&self, token: usize) -> (usize, usize, usize) {
        for ((process, _), requests) in self.workers.iter().zip(SHARES) {
            process.order(Order::Herd { requests, token }).unwrap();
        }
        let mut sum = (0, 0, 0);
        for (_, reports) in &self.workers {
            match reports.recv().unwrap() {
                Report::Herd {
                    found,
                    absent,
                    other,
                } => sum = (sum.0 + found, sum.1 + absent, sum.2 + other),
                other => panic!("{other:?}"),
            }
        }
        sum
    }
}

#[test]
fn thousand_requests_for_a_cold_token_are_one_load() {
    let world = World::start();
    let row = Row::Good(None);
    world.books.lock().unwrap().ledger.commit_token(KNOWN, row);
    assert_eq!(world.herd(KNOWN), (1_000, 0, 0));
    assert_eq!(world.database.loads(), 1);
    assert_eq!(world.herd(KNOWN), (1_000, 0, 0));
    assert_eq!(world.database.loads(), 1, "and then it is cached");
}

#[test]
fn thousand_requests_for_a_tenants_cold_token_are_one_load() {
    let world = World::start();
    let row = Row::Good(Some(0));
    world.books.lock().unwrap().ledger.commit_token(KNOWN, row);
    assert_eq!(world.herd(KNOWN), (1_000, 0, 0));
    assert_eq!(world.database.loads(), 1);
}

#[test]
fn thousand_requests_for_an_unknown_token_are_one_load() {
    let world = World::start();
    assert_eq!(world.herd(UNKNOWN), (0, 1_000, 0));
    assert_eq!(world.database.loads(), 1);
    assert_eq!(world.herd(UNKNOWN), (0, 1_000, 0));
    assert_eq!(world.database.loads(), 1, "and then it is cached");
}
