//! The faults, which of them a mode has, and how long they last.

use std::fmt;
use std::time::Duration;

use test_support::{Dice, Direction};

use crate::chaos::settings::Mode;

/// A fault. A proxy has the index of its worker; the operator's is the last one. With replicas, Redis is the
/// master, and on a cluster an index chooses one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Cut(usize),
    Stalled(usize, Direction),
    Delayed(usize, Direction, Duration),
    BlackHole(usize),
    RedisKilled(usize),
    RedisStopped(usize),
    KeysDeleted,
    Flushed,
    ClientsKilled,
    WritesPaused(usize),
    /// These rights are taken away from everybody: names of commands and categories.
    RightsLost(&'static [&'static str]),
    WorkerStopped(usize),
    WorkerKilled(usize),
    SentinelStopped(usize),
    SentinelKilled(usize),
    ReplicaStopped(usize),
    FailedOver(usize),
    SlotMoved(usize),
}

/// What a server may refuse for a while. Each is needed by other steps of the protocol.
const RIGHTS: [&[&str]; 7] = [
    &["get", "mget"],
    &["set"],
    &["del"],
    &["@scripting"],
    &["client|tracking", "client|caching"],
    &["smembers", "sadd", "scan"],
    &["pttl", "pexpire", "wait"],
];

/// The part that a fault breaks. Two simultaneous faults break different parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Wire(usize),
    Server,
    Worker(usize),
    /// One at a time, so that the others are a majority.
    Sentinel,
    Replica,
}

impl Fault {
    /// Returns the first faults of a run: those that are specific to the mode, so that a short run has them too.
    pub(super) fn opening(mode: Mode) -> Vec<Self> {
        match mode {
            Mode::Bounds => vec![Self::WritesPaused(0), Self::WorkerKilled(0)],
            Mode::Sentinel => vec![
                Self::SentinelStopped(0),
                Self::WritesPaused(0),
                Self::RedisKilled(0),
            ],
            Mode::Cluster => vec![Self::WritesPaused(0), Self::SlotMoved(0)],
            _ => vec![Self::WritesPaused(0), Self::RightsLost(RIGHTS[3])],
        }
    }

    pub(super) fn any(mode: Mode, dice: &mut Dice, workers: usize) -> Self {
        match mode {
            Mode::Sentinel => Self::any_with_sentinels(dice, workers),
            Mode::Cluster => Self::any_with_a_cluster(dice, workers),
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
            42..47 => Self::ClientsKilled,
            47..56 => Self::KeysDeleted,
            56..59 => Self::Flushed,
            59..68 => Self::WritesPaused(0),
            68..74 => Self::RightsLost(dice.of(&RIGHTS)),
            74..83 => Self::WorkerStopped(worker),
            83..89 => Self::WorkerKilled(worker),
            89..96 => Self::RedisKilled(0),
            _ => Self::FailedOver(0),
        }
    }

    fn any_with_a_cluster(dice: &mut Dice, workers: usize) -> Self {
        let (which, worker) = (dice.below(1_000), dice.below(workers));
        match dice.below(100) {
            0..12 => Self::RedisKilled(which),
            12..24 => Self::RedisStopped(which),
            24..34 => Self::SlotMoved(which),
            34..42 => Self::FailedOver(which),
            42..52 => Self::ReplicaStopped(which % 3),
            52..57 => Self::ClientsKilled,
            57..66 => Self::KeysDeleted,
            66..68 => Self::Flushed,
            68..76 => Self::WritesPaused(which),
            76..84 => Self::RightsLost(dice.of(&RIGHTS)),
            84..93 => Self::WorkerStopped(worker),
            _ => Self::WorkerKilled(worker),
        }
    }

    fn any_with_wires(dice: &mut Dice, workers: usize) -> Self {
        let directions = [Direction::ToServer, Direction::ToClient, Direction::Both];
        let (wire, worker) = (dice.below(workers + 1), dice.below(workers));
        match dice.below(100) {
            0..10 => Self::Cut(wire),
            10..24 => Self::Stalled(wire, dice.of(&directions)),
            24..40 => Self::Delayed(wire, dice.of(&directions), dice.millis(5, 240)),
            40..44 => Self::BlackHole(wire),
            44..52 => Self::RedisKilled(0),
            52..58 => Self::RedisStopped(0),
            58..67 => Self::KeysDeleted,
            67..70 => Self::Flushed,
            70..74 => Self::ClientsKilled,
            74..80 => Self::WritesPaused(0),
            80..87 => Self::RightsLost(dice.of(&RIGHTS)),
            87..95 => Self::WorkerStopped(worker),
            _ => Self::WorkerKilled(worker),
        }
    }

    pub(super) fn place(self, mode: Mode) -> Place {
        match self {
            Self::Cut(wire)
            | Self::Stalled(wire, _)
            | Self::Delayed(wire, ..)
            | Self::BlackHole(wire) => Place::Wire(wire),
            Self::RedisKilled(_)
            | Self::RedisStopped(_)
            | Self::KeysDeleted
            | Self::Flushed
            | Self::ClientsKilled
            | Self::WritesPaused(_)
            | Self::RightsLost(_)
            | Self::FailedOver(_)
            | Self::SlotMoved(_) => Place::Server,
            Self::WorkerStopped(worker) | Self::WorkerKilled(worker) => Place::Worker(worker),
            Self::SentinelStopped(_) | Self::SentinelKilled(_) => Place::Sentinel,
            // The only one that could take over.
            Self::ReplicaStopped(_) if mode == Mode::Cluster => Place::Server,
            Self::ReplicaStopped(_) => Place::Replica,
        }
    }

    /// Returns how long it lasts. `None` for an instantaneous fault.
    pub(super) fn length(self, mode: Mode, dice: &mut Dice) -> Duration {
        match self {
            Self::KeysDeleted
            | Self::Flushed
            | Self::ClientsKilled
            | Self::WorkerKilled(_)
            | Self::FailedOver(_)
            | Self::SlotMoved(_) => Duration::ZERO,
            Self::RedisKilled(_) => dice.magnitude(50, 1_000),
            // Shorter than the time after which it is replaced.
            Self::RedisStopped(_) if mode == Mode::Cluster => dice.magnitude(50, 1_500),
            // Sometimes longer than a lease.
            Self::WorkerStopped(_) => dice.magnitude(50, 4_000),
            _ => dice.magnitude(50, 3_000),
        }
    }

    /// Returns the name under which it is counted.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Cut(_) => "cut",
            Self::Stalled(..) => "stall",
            Self::Delayed(..) => "delay",
            Self::BlackHole(_) => "black hole",
            Self::RedisKilled(_) => "redis killed",
            Self::RedisStopped(_) => "redis stopped",
            Self::KeysDeleted => "keys deleted",
            Self::Flushed => "flushed",
            Self::ClientsKilled => "clients killed",
            Self::WritesPaused(_) => "writes paused",
            Self::RightsLost(_) => "rights lost",
            Self::WorkerStopped(_) => "worker stopped",
            Self::WorkerKilled(_) => "worker killed",
            Self::SentinelStopped(_) => "sentinel stopped",
            Self::SentinelKilled(_) => "sentinel killed",
            Self::ReplicaStopped(_) => "replica stopped",
            Self::FailedOver(_) => "failed over",
            Self::SlotMoved(_) => "slot moved",
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
            Self::RightsLost(rights) => write!(f, ", {}", rights.join(" ")),
            Self::SentinelStopped(sentinel) | Self::SentinelKilled(sentinel) => {
                write!(f, ", the one at place {sentinel}")
            }
            _ => Ok(()),
        }
    }
}
