//! Injects random faults into the network, Redis, its contents and the workers.

use std::thread;
use std::time::{Duration, Instant};

use test_support::{Dice, Direction, FaultProxy, RedisSentinel, RedisServer};

use super::faults::{Fault, Place};
use super::fleet::Fleet;
use super::redis::{Redis, Wire};
use crate::chaos::books::{Shared, lock};
use crate::chaos::clock::now;
use crate::chaos::settings::{BOUND, Mode, REGISTRY, registry_member};
use crate::chaos::timeline::Injected;

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
            let both = self.dice.percent(40) && first.place(self.mode) != second.place(self.mode);
            let begun = self.begin(first, None);
            let length = first.length(self.mode, &mut self.dice);
            if both {
                let part = length.mul_f64(0.5);
                thread::sleep(part);
                let second_begun = self.begin(second, Some(first.place(self.mode)));
                thread::sleep(length - part);
                self.mend(first, begun);
                thread::sleep(second.length(self.mode, &mut self.dice));
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
            Fault::RedisKilled(which) => {
                self.redis.wait_until_ok();
                self.redis.master(which).kill();
            }
            Fault::RedisStopped(which) => self.redis.master(which).pause(),
            Fault::KeysDeleted => self.delete_keys(),
            Fault::Flushed => self.redis.flush(),
            Fault::ClientsKilled => self.redis.command(&["CLIENT", "KILL", "TYPE", "normal"]),
            Fault::WritesPaused(which) => self.redis.pause_writes(which),
            Fault::RightsLost(rights) => self.redis.change_rights(&with_sign('-', rights)),
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
            Fault::FailedOver(which) => self.redis.fail_over(which),
            Fault::SlotMoved(which) => self.redis.move_slot(which),
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
            Fault::RedisKilled(_) => self.redis.restart(),
            Fault::RedisStopped(_) | Fault::ReplicaStopped(_) => {
                self.redis.servers().iter().for_each(RedisServer::resume);
            }
            Fault::WritesPaused(_) => self.redis.resume_writes(),
            Fault::RightsLost(rights) => self.redis.change_rights(&with_sign('+', rights)),
            Fault::WorkerStopped(worker) => self.fleet.go_on(worker),
            Fault::SentinelStopped(sentinel) => self.sentinels()[sentinel].resume(),
            Fault::SentinelKilled(sentinel) => self.watched().restart_sentinel(sentinel),
            Fault::KeysDeleted
            | Fault::Flushed
            | Fault::ClientsKilled
            | Fault::WorkerKilled(_)
            | Fault::FailedOver(_)
            | Fault::SlotMoved(_) => {}
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
        let is_shared = |key: &&str| key.contains("tenant") || key.ends_with(":tokens");
        let keys = keys.iter().map(String::as_str);
        let (others, entries): (Vec<_>, Vec<_>) = keys.partition(is_shared);
        for keys in [entries, others] {
            if keys.is_empty() || self.dice.percent(30) {
                continue;
            }
            let lost = 0..=self.dice.below(keys.len());
            let lost: Vec<_> = lost.map(|_| self.dice.of(&keys)).collect();
            self.redis.delete(&lost);
        }
    }

    /// Removes a dead worker's bound from the registry (`SREM`, wire.md), unless another worker has the same.
    /// The next worker in its place has to register it again before it stores anything.
    fn forget_bound(&self, worker: usize) {
        let bound = self.fleet.bound(worker);
        if self.mode == Mode::Bounds && bound > BOUND {
            let member = registry_member(bound);
            // Waits for the reply: a later execution would remove the next worker's bound.
            let remove = ["SREM", REGISTRY, &member];
            self.redis.master(0).command(&remove).int();
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

/// Returns the rights as `ACL SETUSER` gives or takes them.
fn with_sign(sign: char, rights: &[&str]) -> Vec<String> {
    rights
        .iter()
        .map(|right| format!("{sign}{right}"))
        .collect()
}
