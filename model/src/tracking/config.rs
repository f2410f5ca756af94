//! The configurations of the tracking models.

use crate::rules::Rules;

/// The maximum number of instances with links of their own.
pub(super) const MAX_INSTANCES: usize = 2;
/// The maximum number of heartbeats under way.
pub(super) const MAX_HEARTBEATS: usize = 2;

/// One key K, its links, and local entries that heartbeats keep usable.
#[derive(Debug, Clone, Copy)]
pub struct Tracking {
    /// The rules that hold.
    pub rules: Rules,
    /// Instances: 1, or 2. Of two, the first reads K, and the second fills it and is the operator's.
    pub instances: usize,
    /// S, in ticks.
    pub staleness: u8,
    /// The longest pause of a request between reading the clock and its answer, in ticks.
    pub nap: u8,
    /// The number of changes, each with an invalidation.
    pub changes: u8,
    /// How many heartbeats of an instance may be under way.
    pub heartbeats: usize,
    /// A heartbeat's task may pause between reading clock and session and sending it.
    pub slow_heartbeats: bool,
    /// How often the server loses a link's tracking, or refuses `CLIENT CACHING`.
    pub losses: u8,
    /// Other instances, without links here, fill K at any time.
    pub others: bool,
    /// K vanishes at any time.
    pub evict: bool,
    /// The server stops tracking K at any time, with a push, because its table is full.
    pub table: bool,
    /// Instances read K without tracking.
    pub plain: bool,
    /// Instances read K with tracking.
    pub tracked: bool,
    /// Instances fill K.
    pub fills: bool,
    /// The server closes links at any time.
    pub closes: bool,
    /// Links are replaced at any time.
    pub links: bool,
    /// A second supervisor keeps the replaced link and its heartbeats.
    pub kept: bool,
    /// Entries without a watch answer for less than a tick while tracking is proved (TR9). Otherwise for S.
    pub grace: bool,
}

impl Tracking {
    /// One instance, links that are replaced, tracked reads, S = 2.
    pub const LINKS: Self = Self {
        rules: Rules::WRITTEN,
        instances: 1,
        staleness: 2,
        nap: 1,
        changes: 1,
        heartbeats: 1,
        slow_heartbeats: false,
        losses: 0,
        others: true,
        evict: false,
        table: false,
        plain: false,
        tracked: true,
        fills: false,
        closes: true,
        links: true,
        kept: false,
        grace: false,
    };
}

/// A tenant's cell, which requests read without a lock while a writer stores into it (TR10).
#[derive(Debug, Clone, Copy)]
pub struct TenantCell {
    /// The rules that hold.
    pub rules: Rules,
    /// S, in ticks.
    pub staleness: u8,
    /// The cell holds one observation, which is replaced and loaded as a whole. Otherwise its parts are stored and loaded one
    /// by one, and there is a cell for each generation.
    pub whole: bool,
    /// The number of reads of T.
    pub reads: u8,
    /// The number of heartbeats.
    pub heartbeats: u8,
}

impl TenantCell {
    /// Two reads of T and a heartbeat, S = 2.
    pub const READS: Self = Self {
        rules: Rules::WRITTEN,
        staleness: 2,
        whole: true,
        reads: 2,
        heartbeats: 1,
    };
}

/// A cluster of two masters, one instance with a link to each, and the slot of K, which moves from the first to the second.
#[derive(Debug, Clone, Copy)]
pub struct Cluster {
    /// The rules that hold.
    pub rules: Rules,
    /// S, in ticks.
    pub staleness: u8,
    /// Reads are tracked. Otherwise an entry has its own age alone.
    pub tracked: bool,
    /// The slot migrates key by key, with `ASK`, or its migration is cancelled. Otherwise it changes its master with all keys.
    pub migrates: bool,
    /// The old master may learn of the move later than the new one.
    pub late: bool,
    /// What is promised then begins when the old master has learned of the move too. Otherwise with the DEL's reply.
    pub from_learning: bool,
    /// All sessions end when the instance learns that a slot moved.
    pub sessions_end: bool,
    /// A heartbeat's reply tells whether the master has gained or lost slots since the session began. If so, it proves
    /// nothing, and all sessions end.
    pub beat_shows_slots: bool,
}

impl Cluster {
    /// A slot that moves with all its keys, S = 2.
    pub const MOVE: Self = Self {
        rules: Rules::WRITTEN,
        staleness: 2,
        tracked: true,
        migrates: false,
        late: false,
        from_learning: false,
        sessions_end: true,
        beat_shows_slots: false,
    };
}
