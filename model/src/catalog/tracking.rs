//! The models of client tracking.

use super::named::{Named, named};
use crate::rules::{Rule, Rules};
use crate::search::Limits;
use crate::spec::Spec;
use crate::tracking::{Cluster, TenantCell, Tracking};

const FILLS: Tracking = Tracking {
    fills: true,
    links: false,
    ..Tracking::LINKS
};
const LOSSES: Tracking = Tracking {
    losses: 1,
    links: false,
    ..Tracking::LINKS
};
const SLOW: Tracking = Tracking {
    heartbeats: 2,
    slow_heartbeats: true,
    ..LOSSES
};
const KEPT: Tracking = Tracking {
    kept: true,
    ..Tracking::LINKS
};
/// One instance reads, the other one fills and invalidates, and nobody else writes K.
const TWO: Tracking = Tracking {
    instances: 2,
    others: false,
    fills: true,
    closes: false,
    links: false,
    ..Tracking::LINKS
};
const EVERYTHING: Tracking = Tracking {
    heartbeats: 2,
    losses: 1,
    evict: true,
    table: true,
    plain: true,
    fills: true,
    kept: true,
    grace: true,
    ..Tracking::LINKS
};
const CELL_PARTS: TenantCell = TenantCell {
    whole: false,
    ..TenantCell::READS
};
const SILENT: Cluster = Cluster {
    rules: Rules::WRITTEN.without(Rule::LostSlotPushes),
    beat_shows_slots: true,
    ..Cluster::MOVE
};

/// With S = 1, and requests that do not pause.
const fn short(config: Tracking) -> Tracking {
    Tracking {
        staleness: 1,
        nap: 0,
        ..config
    }
}

const fn tracking(name: &'static str, about: &'static str, config: Tracking) -> Named {
    named(name, about, Spec::Tracking(config))
}

const fn cell(name: &'static str, about: &'static str, config: TenantCell) -> Named {
    named(name, about, Spec::TenantCell(config))
}

const fn cluster(name: &'static str, about: &'static str, config: Cluster) -> Named {
    named(name, about, Spec::Cluster(config))
}

/// Explored completely by the tests.
pub const SMALL_TRACKING: &[Named] = &[
    tracking(
        "tracking-fills",
        "tracked reads and fills; one link, S = 2",
        FILLS,
    ),
    tracking(
        "tracking-losses",
        "tracked reads; one link whose tracking is lost or refused, and the next session on it, S = 2",
        LOSSES,
    ),
    tracking(
        "tracking-links-short",
        "tracked reads; links that are replaced, S = 1",
        short(Tracking::LINKS),
    ),
    cell(
        "cell",
        "a tenant's cell, an observation replaced as a whole; two reads of T, a heartbeat, two links, S = 2",
        TenantCell::READS,
    ),
    cluster(
        "cluster-move",
        "a slot moves with its keys to another master, and the old one pushes those that it deletes; S = 2",
        Cluster::MOVE,
    ),
    cluster(
        "cluster-silent",
        "cluster-move without these pushes, but heartbeats show that slots moved",
        SILENT,
    ),
];

/// Explored by `scripts/model`, as far as memory allows.
pub const LARGE_TRACKING: &[Named] = &[
    tracking(
        "tracking-links",
        "tracked reads; links that are replaced, S = 2",
        Tracking::LINKS,
    ),
    tracking(
        "tracking-kept",
        "tracking-links with a second supervisor that keeps the replaced link",
        KEPT,
    ),
    tracking(
        "tracking-links-fills",
        "tracking-links with fills",
        Tracking {
            fills: true,
            ..Tracking::LINKS
        },
    ),
    tracking(
        "tracking-changes",
        "tracking-fills with two changes",
        Tracking {
            changes: 2,
            ..FILLS
        },
    ),
    tracking(
        "tracking-slow-heartbeats",
        "tracking-losses with two heartbeats under way, whose tasks may pause before they send them, S = 1",
        short(SLOW),
    ),
    tracking(
        "tracking-kept-losses",
        "tracked reads; a kept link, and tracking that is lost or refused, S = 1",
        short(Tracking { losses: 1, ..KEPT }),
    ),
    tracking(
        "tracking-fills-losses",
        "tracked reads and fills; links that are replaced, and tracking that is lost or refused, S = 1",
        short(Tracking {
            losses: 1,
            fills: true,
            ..Tracking::LINKS
        }),
    ),
    tracking(
        "tracking-reads",
        "every read, fills, K vanishes, a full table; links that are replaced, S = 1",
        short(Tracking {
            plain: true,
            fills: true,
            evict: true,
            table: true,
            ..Tracking::LINKS
        }),
    ),
    tracking(
        "tracking-one-link",
        "two heartbeats under way, a loss, every read, fills, K vanishes, a full table; one link, S = 1",
        short(Tracking {
            kept: false,
            links: false,
            grace: false,
            ..EVERYTHING
        }),
    ),
    tracking(
        "tracking-heartbeats",
        "two heartbeats under way, links that are replaced, fills, S = 1",
        short(Tracking {
            heartbeats: 2,
            fills: true,
            ..Tracking::LINKS
        }),
    ),
    tracking(
        "tracking-two",
        "an instance that reads with tracking, and one that fills and invalidates; one link each, S = 1",
        short(TWO),
    ),
    Named {
        limits: Limits {
            states: 30_000_000,
            depth: usize::MAX,
        },
        ..tracking(
            "tracking-all",
            "two heartbeats under way, a loss, a kept link, every read, fills, K vanishes, a full table, S = 2",
            EVERYTHING,
        )
    },
    cell(
        "cell-two",
        "cell with two heartbeats",
        TenantCell {
            heartbeats: 2,
            ..TenantCell::READS
        },
    ),
    cell(
        "cell-parts",
        "cell with parts that are stored and loaded one by one",
        CELL_PARTS,
    ),
    cluster(
        "cluster-migrates",
        "cluster-move with a slot that migrates key by key, or does not in the end",
        Cluster {
            migrates: true,
            ..Cluster::MOVE
        },
    ),
    cluster(
        "cluster-sessions",
        "cluster-migrates, and sessions go on when the instance learns of the move",
        Cluster {
            migrates: true,
            sessions_end: false,
            ..Cluster::MOVE
        },
    ),
    cluster(
        "cluster-late",
        "cluster-move with an old master that learns of the move late; the promise counts from then",
        Cluster {
            late: true,
            from_learning: true,
            ..Cluster::MOVE
        },
    ),
];

/// Returns a small model that breaks without `rule`, if it is one of client tracking.
pub(super) fn needing_tracking(rule: Rule) -> Option<Spec> {
    let config = match rule {
        Rule::Stamp
        | Rule::Session
        | Rule::EntrySession
        | Rule::CreditFromSending
        | Rule::ProvedFirst
        | Rule::InlinePush
        | Rule::OneStream
        | Rule::BeatOnLink => Tracking::LINKS,
        Rule::SessionCredit => KEPT,
        Rule::OnlyTrackedReads | Rule::WaitWithTracking => Tracking {
            plain: true,
            ..Tracking::LINKS
        },
        Rule::FillIsRead | Rule::FillBytes => FILLS,
        Rule::OwnMark => TWO,
        Rule::EndedIsNotCredited => SLOW,
        Rule::CachingChecked | Rule::BeatAsksCaching | Rule::NeverRevived => LOSSES,
        Rule::ProvedFirstForT => {
            return Some(Spec::TenantCell(TenantCell {
                staleness: 1,
                ..TenantCell::READS
            }));
        }
        Rule::OneGeneration | Rule::OneWord => {
            return Some(Spec::TenantCell(TenantCell {
                staleness: 1,
                ..CELL_PARTS
            }));
        }
        Rule::LostSlotPushes | Rule::WatchNamesMaster => {
            return Some(Spec::Cluster(Cluster {
                staleness: 1,
                ..Cluster::MOVE
            }));
        }
        Rule::AskedHasNoWatch => {
            return Some(Spec::Cluster(Cluster {
                staleness: 1,
                migrates: true,
                ..Cluster::MOVE
            }));
        }
        _ => return None,
    };
    Some(Spec::Tracking(short(config)))
}
