//! The course of a run.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::figures::Figures;
use super::keys::Keys;
use super::load::{CLIENTS, Pace, Tally, client, send_unknown};
use super::operator::{Done, Operator};
use super::parts::Parts;
use super::report::{HEADER, Report, Row};

/// The number of keys that are valid at a time.
const KEYS: usize = 2_000;

/// More unknown tokens than an instance keeps in its memory (`local_negative_capacity`), for the same reason as
/// `LOCAL_CAPACITY`.
const UNKNOWN: usize = 26_000;

/// The number of periods; of an hour, each is five minutes.
const PERIODS: u32 = 12;

/// The offered load, as a part of the highest rate.
const SHARE: f64 = 0.6;

/// How long the highest rate is measured: three times this, after once this.
const SPRINT: Duration = Duration::from_secs(5);

/// How long tasks and connections may take to end after the load.
const SETTLING: Duration = Duration::from_secs(60);

/// Runs the demo with at most `most` requests per second, prints the table, and returns whether all is good.
pub fn run(program: &Path, directory: &Path, lasts: Duration, most: f64) -> bool {
    let mut parts = Parts::start(program, directory);
    let (keys, done) = (Keys::default(), Done::default());
    let addresses = parts.demos.each_ref().map(|demo| demo.address);
    Operator::new(addresses, &keys, &done).issue_many(KEYS);
    fill(addresses);
    let highest = highest_rate(addresses, &keys);
    let rate = most.min(highest * SHARE);
    println!("highest rate: {highest:.0} requests/s; offered: {rate:.0}\n\n{HEADER}");
    thread::sleep(SPRINT);
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
    report.faults().is_empty()
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
            parts.demos[1].restart();
            "the second instance restarted"
        }
        _ => "",
    }
}

/// Fills the memory for unknown tokens.
fn fill(addresses: [SocketAddr; 2]) {
    thread::scope(|scope| {
        for nth in 0..CLIENTS as usize {
            let address = addresses[nth % 2];
            scope.spawn(move || send_unknown(address, UNKNOWN * 2 / CLIENTS as usize));
        }
    });
}

/// Lets each client send one request after the other, and returns the highest rate of three measurements.
fn highest_rate(addresses: [SocketAddr; 2], keys: &Keys) -> f64 {
    let tallies: Vec<_> = (0..4).map(|_| Tally::default()).collect();
    let begin = Instant::now();
    let pace = Pace {
        begin,
        until: begin + SPRINT * 4,
        rate: None,
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for nth in 0..CLIENTS {
            let (address, tallies, over) = (addresses[nth as usize % 2], &tallies, &over);
            scope.spawn(move || client(nth, address, pace, over, keys, tallies, SPRINT));
        }
    });
    let counts = tallies[1..].iter().map(|tally| tally.latencies.count());
    counts.max().unwrap_or(0) as f64 / SPRINT.as_secs_f64()
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
