//! Random faults of the network, Redis, its contents and the workers.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use test_support::{Dice, Direction, FaultProxy, RedisSentinel, RedisServer};

use super::fleet::Fleet;
use super::redis::{Redis, Wire};
use crate::chaos::books::{Shared, lock};
use crate::chaos::clock::now;
use crate::chaos::settings::{BOUND, Mode, REGISTRY, registry_member};
use crate::chaos::timeline::Injected;

/// A fault. A proxy has the index of its worker; the operator's is the last one. With replicas, Redis is the
/// master.
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
    WritesPaused,
    WorkerStopped(usize),
    WorkerKilled(usize),
    SentinelStopped(usize),
    SentinelKilled(usize),
    ReplicaStopped(usize),
    FailedOver,
}

/// The part that a fault breaks. Two simultaneous faults break different parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Wire(usize),
    Server,
    Worker(usize),
    /// One at a time, so that the others are a majority.
    Sentinel,
    Replica,
}

impl Fault {
    /// Returns the first faults of a run: those that are specific to the mode, so that a short run has them too.
    fn opening(mode: Mode) -> Vec<Self> {
        match mode {
            Mode::Faults | Mode::Calm => vec![Self::WritesPaused],
            Mode::Bounds => vec![Self::WritesPaused, Self::WorkerKilled(0)],
            Mode::Sentinel => vec![
                Self::SentinelStopped(0),
                Self::WritesPaused,
                Self::RedisKilled,
            ],
        }
    }

    fn any(mode: Mode, dice: &mut Dice, workers: usize) -> Self {
        match mode {
            Mode::Sentinel => Self::any_with_sentinels(dice, workers),
            // A worker registers its longer bound once (such workers have even places).
            Mode::Bounds if dice.percent(50) => Self::WorkerKilled(2 * dice.below(workers / 2)),
            _ => Self::any_with_wires(dice, workers),
        }
    }

    fn any_with_sentinels(dice: &mut Dice, workers: usize) -> Self {
        let (sentinel, replica) = (dice.below(3), dice.below(2));
        let worker = dice.below(workers);
        match dice.below(100) {
            0..20 => Self::SentinelStopped(sentinel),
            20..30 => Self::SentinelKilled(sentinel),
            30..42 => Self::ReplicaStopped(replica),
            42..50 => Self::ClientsKilled,
            50..60 => Self::KeysDeleted,
            60..63 => Self::Flushed,
            63..74 => Self::WritesPaused,
            74..83 => Self::WorkerStopped(worker),
            83..89 => Self::WorkerKilled(worker),
            89..96 => Self::RedisKilled,
            _ => Self::FailedOver,
        }
    }

    fn any_with_wires(dice: &mut Dice, workers: usize) -> Self {
        let directions = [Direction::ToServer, Direction::ToClient, Direction::Both];
        let (wire, worker) = (dice.below(workers + 1), dice.below(workers));
        match dice.below(100) {
            0..10 => Self::Cut(wire),
            10..26 => Self::Stalled(wire, dice.of(&directions)),
            26..44 => Self::Delayed(wire, dice.of(&directions), dice.millis(5, 240)),
            44..48 => Self::BlackHole(wire),
            48..56 => Self::RedisKilled,
            56..63 => Self::RedisStopped,
            63..73 => Self::KeysDeleted,
            73..76 => Self::Flushed,
            76..80 => Self::ClientsKilled,
            80..87 => Self::WritesPaused,
            87..95 => Self::WorkerStopped(worker),
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
            | Self::ClientsKilled
            | Self::WritesPaused
            | Self::FailedOver => Place::Server,
            Self::WorkerStopped(worker) | Self::WorkerKilled(worker) => Place::Worker(worker),
            Self::SentinelStopped(_) | Self::SentinelKilled(_) => Place::Sentinel,
            Self::ReplicaStopped(_) => Place::Replica,
        }
    }

    /// Returns how long it lasts. `None` for an instantaneous fault.
    fn length(self, dice: &mut Dice) -> Duration {
        match self {
            Self::KeysDeleted
            | Self::Flushed
            | Self::ClientsKilled
            | Self::WorkerKilled(_)
            | Self::FailedOver => Duration::ZERO,
            Self::RedisKilled => dice.magnitude(50, 1_000),
            // Sometimes longer than a lease.
            Self::WorkerStopped(_) => dice.magnitude(50, 4_000),
            _ => dice.magnitude(50, 3_000),
        }
    }

    /// Returns the name under which it is counted.
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
            Self::WritesPaused => "writes paused",
            Self::WorkerStopped(_) => "worker stopped",
            Self::WorkerKilled(_) => "worker killed",
            Self::SentinelStopped(_) => "sentinel stopped",
            Self::SentinelKilled(_) => "sentinel killed",
            Self::ReplicaStopped(_) => "replica stopped",
            Self::FailedOver => "failed over",
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
            Self::SentinelStopped(sentinel) | Self::SentinelKilled(sentinel) => {
                write!(f, ", the one at place {sentinel}")
            }
            _ => Ok(()),
        }
    }
}

/// The parts that can be broken.
pub(super) struct Breaker<'a> {
    pub(super) mode: Mode,
    pub(super) redis: &'a Redis,
    pub(super) fleet: &'a Fleet,
    pub(super) operators_wire: &'a Wire,
    pub(super) books: &'a Shared,
    pub(super) dice: Dice,
}

impl Breaker<'_> {
    /// Injects and ends faults until `end`. It runs on the thread that starts workers.
    pub(super) fn break_until(&mut self, end: Instant) {
        for wire in 0..=self.fleet.len() {
            self.rest(wire);
        }
        let mut opening = Fault::opening(self.mode).into_iter();
        loop {
            let quiet = self.dice.magnitude(200, 3_000);
            thread::sleep(quiet.min(end.saturating_duration_since(Instant::now())));
            let first = match opening.next() {
                Some(first) => first,
                None if Instant::now() >= end => return,
                None => self.any(),
            };
            let second = self.any();
            let both = self.dice.percent(40) && first.place() != second.place();
            let begun = self.begin(first, None);
            let length = first.length(&mut self.dice);
            if both {
                let part = length.mul_f64(0.5);
                thread::sleep(part);
                let second_begun = self.begin(second, Some(first.place()));
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

    fn any(&mut self) -> Fault {
        Fault::any(self.mode, &mut self.dice, self.fleet.len())
    }

    /// Begins a fault, while the parts in `broken` are broken already.
    fn begin(&mut self, fault: Fault, broken: Option<Place>) -> usize {
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
            Fault::Cut(wire) => self.proxy(wire).cut(),
            Fault::Stalled(wire, way) => self.proxy(wire).stall(way),
            Fault::Delayed(wire, way, by) => self.proxy(wire).delay(way, by),
            Fault::BlackHole(wire) => {
                // Existing connections would not notice.
                self.proxy(wire).cut();
                self.proxy(wire).heal();
                self.proxy(wire).black_hole_new();
            }
            Fault::RedisKilled => self.redis.kill_master(),
            Fault::RedisStopped => self.redis.master().pause(),
            Fault::KeysDeleted => self.delete_keys(),
            Fault::Flushed => self.redis.flush(),
            Fault::ClientsKilled => self.redis.command(&["CLIENT", "KILL", "TYPE", "normal"]),
            Fault::WritesPaused => self.redis.pause_writes(),
            Fault::WorkerStopped(worker) => self.fleet.stop(worker),
            Fault::WorkerKilled(worker) => {
                self.fleet.kill(worker);
                if broken != Some(Place::Server) {
                    self.forget_bound(worker);
                }
                let employed = self.fleet.employ(worker);
                employed.expect("a worker that could be started before");
            }
            Fault::SentinelStopped(sentinel) => self.sentinels()[sentinel].pause(),
            Fault::SentinelKilled(sentinel) => self.sentinels()[sentinel].kill(),
            Fault::ReplicaStopped(replica) => self.stop_replica(replica),
            Fault::FailedOver => {
                self.watched().wait_until_ok();
                self.watched().failover();
            }
        }
        place
    }

    fn mend(&mut self, fault: Fault, place: usize) {
        match fault {
            // A connection in the black hole stays there until its client closes it.
            Fault::Cut(wire)
            | Fault::Stalled(wire, _)
            | Fault::Delayed(wire, ..)
            | Fault::BlackHole(wire) => self.rest(wire),
            Fault::RedisKilled => self.redis.restart(),
            Fault::RedisStopped | Fault::ReplicaStopped(_) => {
                self.redis.servers().iter().for_each(RedisServer::resume);
            }
            Fault::WritesPaused => self.redis.resume_writes(),
            Fault::WorkerStopped(worker) => self.fleet.go_on(worker),
            Fault::SentinelStopped(sentinel) => self.sentinels()[sentinel].resume(),
            Fault::SentinelKilled(sentinel) => self.watched().restart_sentinel(sentinel),
            Fault::KeysDeleted
            | Fault::Flushed
            | Fault::ClientsKilled
            | Fault::WorkerKilled(_)
            | Fault::FailedOver => {}
        }
        let mut books = lock(self.books);
        books.faults[place].mended = Some(now());
    }

    /// Ends the faults of a wire. It may get a delay, so that more can happen between two commands of a lookup.
    fn rest(&mut self, wire: usize) {
        let latency = match self.mode {
            // An invalidation should meet what a worker reads before its bound is in the registry.
            Mode::Bounds => self.dice.of(&[1, 10, 20, 40]),
            _ => self.dice.of(&[0, 0, 1, 5, 20]),
        };
        if let Some(proxy) = self.wire(wire) {
            proxy.heal();
            proxy.delay(Direction::Both, Duration::from_millis(latency));
        }
    }

    /// Deletes keys as an eviction does, including leases, generations and the epoch.
    fn delete_keys(&mut self) {
        let keys = self.redis.keys();
        // Few keys do not belong to a token, but they are as important.
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
            self.redis.command(&command);
        }
    }

    /// Removes a dead worker's bound from the registry (`SREM`, wire.md), unless another worker has the same.
    /// The next worker in its place has to register it again before it stores anything.
    fn forget_bound(&self, worker: usize) {
        let bound = self.fleet.bound(worker);
        if bound > BOUND {
            let member = registry_member(bound);
            // Waits for the reply: a later execution would remove the next worker's bound.
            let remove = ["SREM", REGISTRY, &member];
            self.redis.master().command(&remove).int();
        }
    }

    /// Freezes a server that is a replica now, so that it cannot be an old master.
    fn stop_replica(&self, replica: usize) {
        let is_replica = |server: &&RedisServer| {
            let role = || server.info::<String>("replication", "role");
            server.is_up() && role().is_some_and(|role| role == "slave")
        };
        let servers = self.redis.servers().iter();
        let replicas: Vec<_> = servers.filter(is_replica).collect();
        if let Some(replica) = replicas.get(replica).or(replicas.first()) {
            replica.pause();
        }
    }

    fn sentinels(&self) -> &[RedisServer] {
        self.watched().sentinels()
    }

    fn watched(&self) -> &RedisSentinel {
        match self.redis {
            Redis::Watched(redis) => redis,
            _ => panic!("there are no sentinels in this mode"),
        }
    }

    fn proxy(&self, wire: usize) -> &FaultProxy {
        self.wire(wire).expect("there are proxies in this mode")
    }

    fn wire(&self, index: usize) -> Option<&FaultProxy> {
        if index < self.fleet.len() {
            self.fleet.proxy(index)
        } else {
            self.operators_wire.proxy.as_ref()
        }
    }
}
