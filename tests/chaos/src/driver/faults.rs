//! What is broken, at random: the wires, Redis, its contents, the workers.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use test_support::{Dice, Direction, FaultProxy, RedisServer};

use super::fleet::Fleet;
use crate::books::{Injected, Shared, lock};
use crate::clock::now;

/// A fault. Proxies are counted with the workers, the operator's comes last.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Cut(usize),
    Stalled(usize, Direction),
    Delayed(usize, Direction, Duration),
    BlackHole(usize),
    RedisKilled,
    RedisStopped,
    KeysDeleted,
    Flushed,
    ClientsKilled,
    WorkerStopped(usize),
    WorkerKilled(usize),
}

/// What a fault breaks: two at once break two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Wire(usize),
    Server,
    Worker(usize),
}

impl Fault {
    fn any(dice: &mut Dice, workers: usize) -> Self {
        let directions = [Direction::ToServer, Direction::ToClient, Direction::Both];
        let (wire, worker) = (dice.below(workers + 1), dice.below(workers));
        match dice.below(100) {
            0..10 => Self::Cut(wire),
            10..28 => Self::Stalled(wire, dice.of(&directions)),
            28..48 => Self::Delayed(wire, dice.of(&directions), dice.millis(5, 240)),
            48..52 => Self::BlackHole(wire),
            52..60 => Self::RedisKilled,
            60..68 => Self::RedisStopped,
            68..78 => Self::KeysDeleted,
            78..81 => Self::Flushed,
            81..85 => Self::ClientsKilled,
            85..94 => Self::WorkerStopped(worker),
            _ => Self::WorkerKilled(worker),
        }
    }

    fn place(self) -> Place {
        match self {
            Self::Cut(wire)
            | Self::Stalled(wire, _)
            | Self::Delayed(wire, ..)
            | Self::BlackHole(wire) => Place::Wire(wire),
            Self::RedisKilled
            | Self::RedisStopped
            | Self::KeysDeleted
            | Self::Flushed
            | Self::ClientsKilled => Place::Server,
            Self::WorkerStopped(worker) | Self::WorkerKilled(worker) => Place::Worker(worker),
        }
    }

    /// How long it lasts; nothing for what is done at once.
    fn length(self, dice: &mut Dice) -> Duration {
        match self {
            Self::KeysDeleted | Self::Flushed | Self::ClientsKilled | Self::WorkerKilled(_) => {
                Duration::ZERO
            }
            Self::RedisKilled => dice.magnitude(50, 1_000),
            // Sometimes beyond the end of a lease.
            Self::WorkerStopped(_) => dice.magnitude(50, 4_000),
            _ => dice.magnitude(50, 3_000),
        }
    }

    /// The word that it is counted by.
    fn kind(self) -> &'static str {
        match self {
            Self::Cut(_) => "cut",
            Self::Stalled(..) => "stall",
            Self::Delayed(..) => "delay",
            Self::BlackHole(_) => "black hole",
            Self::RedisKilled => "redis killed",
            Self::RedisStopped => "redis stopped",
            Self::KeysDeleted => "keys deleted",
            Self::Flushed => "flushed",
            Self::ClientsKilled => "clients killed",
            Self::WorkerStopped(_) => "worker stopped",
            Self::WorkerKilled(_) => "worker killed",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        match self {
            Self::Cut(wire) | Self::BlackHole(wire) => write!(f, ", wire {wire}"),
            Self::Stalled(wire, way) => write!(f, ", wire {wire}, {way:?}"),
            Self::Delayed(wire, way, by) => write!(f, ", wire {wire}, {way:?}, by {by:?}"),
            Self::WorkerStopped(worker) | Self::WorkerKilled(worker) => {
                write!(f, ", place {worker}")
            }
            _ => Ok(()),
        }
    }
}

/// What there is to break.
pub(super) struct Breaker<'a> {
    pub(super) server: &'a RedisServer,
    pub(super) fleet: &'a Fleet,
    pub(super) operators_wire: &'a FaultProxy,
    pub(super) books: &'a Shared,
    pub(super) dice: Dice,
}

impl Breaker<'_> {
    /// Breaks and mends until `end`. It runs on the thread that starts workers.
    pub(super) fn break_until(&mut self, end: Instant) {
        for wire in 0..=self.fleet.len() {
            self.rest(wire);
        }
        loop {
            let quiet = self.dice.magnitude(200, 3_000);
            thread::sleep(quiet.min(end.saturating_duration_since(Instant::now())));
            if Instant::now() >= end {
                return;
            }
            let first = Fault::any(&mut self.dice, self.fleet.len());
            let second = Fault::any(&mut self.dice, self.fleet.len());
            let both = self.dice.percent(40) && first.place() != second.place();
            let begun = self.begin(first);
            let length = first.length(&mut self.dice);
            if both {
                let part = length.mul_f64(0.5);
                thread::sleep(part);
                let second_begun = self.begin(second);
                thread::sleep(length - part);
                self.mend(first, begun);
                thread::sleep(second.length(&mut self.dice));
                self.mend(second, second_begun);
            } else {
                thread::sleep(length);
                self.mend(first, begun);
            }
        }
    }

    fn begin(&mut self, fault: Fault) -> usize {
        let place = {
            let mut books = lock(self.books);
            books.faults.push(Injected {
                began: now(),
                mended: None,
                kind: fault.kind(),
                what: fault.to_string(),
            });
            books.faults.len() - 1
        };
        match fault {
            Fault::Cut(wire) => self.wire(wire).cut(),
            Fault::Stalled(wire, way) => self.wire(wire).stall(way),
            Fault::Delayed(wire, way, by) => self.wire(wire).delay(way, by),
            Fault::BlackHole(wire) => {
                // Present connections would not notice.
                self.wire(wire).cut();
                self.wire(wire).heal();
                self.wire(wire).black_hole_new();
            }
            Fault::RedisKilled => self.server.kill(),
            Fault::RedisStopped => self.server.pause(),
            Fault::KeysDeleted => self.delete_keys(),
            Fault::Flushed => self.command(&["FLUSHALL"]),
            Fault::ClientsKilled => self.command(&["CLIENT", "KILL", "TYPE", "normal"]),
            Fault::WorkerStopped(worker) => self.fleet.stop(worker),
            Fault::WorkerKilled(worker) => {
                let replaced = self.fleet.replace(worker);
                replaced.expect("a worker that could be started before");
            }
        }
        place
    }

    fn mend(&mut self, fault: Fault, place: usize) {
        match fault {
            // A connection in the black hole stays there, until its client gives it up.
            Fault::Cut(wire)
            | Fault::Stalled(wire, _)
            | Fault::Delayed(wire, ..)
            | Fault::BlackHole(wire) => self.rest(wire),
            Fault::RedisKilled => self.server.restart(),
            Fault::RedisStopped => self.server.resume(),
            Fault::WorkerStopped(worker) => self.fleet.go_on(worker),
            Fault::KeysDeleted | Fault::Flushed | Fault::ClientsKilled | Fault::WorkerKilled(_) => {
            }
        }
        let mut books = lock(self.books);
        books.faults[place].mended = Some(now());
    }

    /// A healthy wire, which is a long one at times: what may happen between two commands of a flight
    /// has more time to happen.
    fn rest(&mut self, wire: usize) {
        let latency = self.dice.of(&[0, 0, 1, 5, 20]);
        let wire = self.wire(wire);
        wire.heal();
        wire.delay(Direction::Both, Duration::from_millis(latency));
    }

    /// As an eviction would: any key, leases, generations and the epoch among them.
    fn delete_keys(&mut self) {
        let Ok(keys) = self.server.try_command(&["KEYS", "*"]) else {
            return;
        };
        let keys: Vec<String> = keys
            .array()
            .into_iter()
            .map(|key| String::from_utf8_lossy(&key.bytes()).into_owned())
            .collect();
        // Few lie there that are not a token's; they matter as much.
        let (others, entries): (Vec<_>, Vec<_>) =
            keys.iter().partition(|key| key.contains(":tenant"));
        for keys in [entries, others] {
            if keys.is_empty() || self.dice.percent(30) {
                continue;
            }
            let mut command = vec!["DEL"];
            for _ in 0..=self.dice.below(keys.len()) {
                command.push(keys[self.dice.below(keys.len())]);
            }
            self.command(&command);
        }
    }

    fn command(&self, words: &[&str]) {
        // The fault is what matters, not what Redis says to it.
        let _ = self.server.try_command(words);
    }

    fn wire(&self, index: usize) -> &FaultProxy {
        if index < self.fleet.len() {
            self.fleet.proxy(index)
        } else {
            self.operators_wire
        }
    }
}
