//! The course of a run.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use test_support::{PostgresServer, RedisServer, free_port};

use super::figures::Figures;
use super::keys::Keys;
use super::load::{CLIENTS, Pace, Tally, client, send_unknown};
use super::operator::{Done, Operator};
use super::report::{HEADER, Report, Row, count};
use crate::server::Demo;

/// The number of periods; of an hour, each is five minutes.
const PERIODS: u32 = 12;

/// The offered load, as a part of the highest rate.
const SHARE: f64 = 0.6;

/// How long tasks and connections may take to end after the load.
const SETTLING: Duration = Duration::from_secs(60);

/// The records in an instance's memory: little more than there are keys in an hour, so that it is full after a minute.
/// Before that, memory grows with each key, because one that has ended is in memory until its place is needed.
const LOCAL_CAPACITY: &str = "2500";

/// How long a run is, and how much there is in it.
pub(super) struct Extent {
    pub(super) lasts: Duration,
    /// The highest rate that is offered, in requests per second.
    pub(super) most: f64,
    /// The number of keys that are valid at a time.
    pub(super) keys: usize,
    /// The number of unknown tokens that each instance is asked for before.
    pub(super) unknown: usize,
    /// How long the highest rate is measured: three times this, after once this.
    pub(super) sprint: Duration,
}

/// Redis, PostgreSQL and two instances of the demo.
struct Parts {
    // Before the servers, so that they end first.
    demos: [Demo; 2],
    redis: RedisServer,
    postgres: PostgresServer,
    listen: [String; 2],
}

impl Parts {
    fn start() -> Self {
        let (redis, postgres) = (RedisServer::start(), PostgresServer::start());
        let listen = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let demos = listen
            .each_ref()
            .map(|listen| start(listen, &redis, &postgres));
        Self {
            demos,
            redis,
            postgres,
            listen,
        }
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        let parsed = |listen: &String| listen.parse().expect("an address");
        self.listen.each_ref().map(parsed)
    }

    /// Ends the second instance as an orchestrator does, and starts it again at the same address.
    fn restart_the_second(&mut self) {
        let second = &mut self.demos[1];
        second.signal("TERM");
        assert!(second.wait().success(), "it does not end in order");
        *second = start(&self.listen[1], &self.redis, &self.postgres);
    }
}

fn start(listen: &str, redis: &RedisServer, postgres: &PostgresServer) -> Demo {
    Demo::start(&[
        ("LISTEN", listen),
        ("REDIS_URL", &redis.url()),
        ("DATABASE_URL", &postgres.url()),
        ("CANARY_SECONDS", "5"),
        ("LOCAL_CAPACITY", LOCAL_CAPACITY),
        ("RUST_LOG", "warn"),
    ])
}

/// Runs the demo under load, prints the table, and returns what is wrong.
pub(super) fn run(extent: &Extent) -> Vec<String> {
    let lasts = extent.lasts;
    let mut parts = Parts::start();
    let (keys, done) = (Keys::default(), Done::default());
    let addresses = parts.addresses();
    Operator::new(addresses, &keys, &done).issue_many(extent.keys);
    fill(addresses, extent.unknown);
    let highest = highest_rate(addresses, &keys, extent.sprint);
    let rate = extent.most.min(highest * SHARE);
    println!("highest rate: {highest:.0} requests/s; offered: {rate:.0}\n\n{HEADER}");
    thread::sleep(extent.sprint);
    let before = figures(&parts);

    let period = lasts / PERIODS;
    let tallies: Vec<_> = (0..PERIODS).map(|_| Tally::default()).collect();
    let begin = Instant::now();
    let pace = Pace {
        begin,
        until: begin + lasts,
        rate: Some(rate),
    };
    let over = AtomicBool::new(false);
    let mut operator = Operator::new(addresses, &keys, &done);
    let rows = thread::scope(|scope| {
        // Also if a part does not start again.
        let _stop = Stop(&over);
        let (keys, tallies, over) = (&keys, &*tallies, &over);
        for nth in 0..CLIENTS {
            let address = addresses[nth as usize % 2];
            scope.spawn(move || client(nth, address, pace, over, keys, tallies, period));
        }
        scope.spawn(move || operator.work(over));
        let rows = tallies.iter().zip(1..).map(|(tally, nth)| {
            thread::sleep(
                (begin + period * nth - period / 2).saturating_duration_since(Instant::now()),
            );
            let event = disturb(&mut parts, nth, lasts);
            thread::sleep((begin + period * nth).saturating_duration_since(Instant::now()));
            let row = Row {
                end: period * nth,
                period,
                figures: figures(&parts),
                tally,
                event,
            };
            println!("{row}");
            row
        });
        rows.collect()
    });
    let idle = [before, settled(&parts, &before)];
    let report = Report {
        rows,
        done: &done,
        idle,
    };
    print!("{report}");
    report.faults()
}

/// Restarts a part in the middle of some periods. The periods before the fifth, 20th, 40th and 60th minute are calm.
fn disturb(parts: &mut Parts, period: u32, lasts: Duration) -> &'static str {
    let away = (lasts / 720).max(Duration::from_secs(1));
    match period {
        3 => {
            parts.redis.kill();
            thread::sleep(away);
            parts.redis.restart();
            "Redis restarted, empty"
        }
        6 => {
            parts.postgres.stop();
            thread::sleep(away);
            parts.postgres.start_again();
            "PostgreSQL restarted"
        }
        10 => {
            parts.restart_the_second();
            "the second instance restarted"
        }
        _ => "",
    }
}

/// Fills the memory for unknown tokens.
fn fill(addresses: [SocketAddr; 2], unknown: usize) {
    thread::scope(|scope| {
        for nth in 0..CLIENTS as usize {
            let address = addresses[nth % 2];
            scope.spawn(move || send_unknown(address, unknown * 2 / CLIENTS as usize));
        }
    });
}

/// Lets each client send one request after the other, and returns the highest rate of three measurements.
fn highest_rate(addresses: [SocketAddr; 2], keys: &Keys, sprint: Duration) -> f64 {
    let tallies: Vec<_> = (0..4).map(|_| Tally::default()).collect();
    let begin = Instant::now();
    let pace = Pace {
        begin,
        until: begin + sprint * 4,
        rate: None,
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for nth in 0..CLIENTS {
            let (address, tallies, over) = (addresses[nth as usize % 2], &tallies, &over);
            scope.spawn(move || client(nth, address, pace, over, keys, tallies, sprint));
        }
    });
    let counts = tallies[1..].iter().map(|tally| count(&tally.latencies));
    counts.max().unwrap_or(0) as f64 / sprint.as_secs_f64()
}

fn figures(parts: &Parts) -> [Figures; 2] {
    let database = parts.postgres.port();
    parts
        .demos
        .each_ref()
        .map(|demo| Figures::of(demo, database))
}

/// Waits until nothing is left over, and returns the figures.
fn settled(parts: &Parts, before: &[Figures; 2]) -> [Figures; 2] {
    let deadline = Instant::now() + SETTLING;
    loop {
        let after = figures(parts);
        if Report::is_clean(before, &after) || Instant::now() >= deadline {
            return after;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Sets the flag when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
