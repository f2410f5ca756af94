//! With the feature `metrics`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use metrics::{counter, gauge, histogram};

use super::label::{Origin, Outcome};
use super::names::*;
use super::stats::Stats;
use crate::store::Breakers;
use crate::util::lock;

/// When something began.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

/// What is as it is now, and not counted.
pub(crate) struct Levels {
    pub(crate) loads: usize,
    pub(crate) waiting: usize,
    pub(crate) max_concurrent_loads: usize,
    pub(crate) records: usize,
    pub(crate) nulls: usize,
    pub(crate) breakers: Breakers,
}

pub(crate) struct Metrics {
    /// The value of the label that all have: the namespace, which tells the caches of a process
    /// apart and is the configuration's.
    cache: Arc<str>,
    published: Mutex<Stats>,
}

impl Metrics {
    pub(crate) fn new(cache: &str) -> Self {
        Self {
            cache: cache.into(),
            published: Mutex::default(),
        }
    }

    /// A look-up in the shared store.
    pub(crate) fn read_store(&self, since: Stopwatch, ok: bool) {
        self.record(STORE_READ, since, result(ok));
    }

    pub(crate) fn loaded(&self, since: Stopwatch, ok: bool) {
        self.record(LOAD, since, result(ok));
    }

    /// An invalidation, without what `wait_for_all_instances` sleeps.
    pub(crate) fn invalidated(&self, since: Stopwatch, ok: bool) {
        self.record(INVALIDATION, since, result(ok));
    }

    /// A look-up that no local answer was found for, as its caller saw it.
    pub(crate) fn missed(&self, since: Stopwatch, origin: Option<Origin>) {
        self.record(MISS, since, ("origin", word(origin)));
    }

    fn record(
        &self,
        name: &'static str,
        since: Stopwatch,
        (label, value): (&'static str, &'static str),
    ) {
        // Looked up at each time, so that it does not matter when the recorder was installed.
        histogram!(name, label => value, "cache" => Arc::clone(&self.cache))
            .record(since.0.elapsed().as_secs_f64());
    }

    /// Hands over what was counted since the last time. `read` is called under the lock, so that two
    /// callers at once count nothing twice.
    pub(crate) fn publish(&self, read: impl FnOnce() -> Stats, levels: &Levels) {
        describe();
        let mut published = lock(&self.published);
        let now = read();
        self.publish_counters(&now, &published);
        self.publish_levels(levels);
        *published = now;
    }

    fn publish_counters(&self, now: &Stats, before: &Stats) {
        for (name, _, count) in COUNTERS {
            counter!(name, "cache" => Arc::clone(&self.cache))
                .increment(count(now).saturating_sub(count(before)));
        }
        for (outcome, origin) in ends() {
            let count = |stats: &Stats| stats.lookups_of(outcome, origin);
            counter!(
                LOOKUPS,
                "outcome" => outcome.as_str(),
                "origin" => word(origin),
                "cache" => Arc::clone(&self.cache)
            )
            .increment(count(now).saturating_sub(count(before)));
        }
        for ((reason, count), (_, before)) in now.rejections().zip(before.rejections()) {
            counter!(REJECTIONS, "reason" => reason, "cache" => Arc::clone(&self.cache))
                .increment(count.saturating_sub(before));
        }
        let evicted = [
            ("record", now.evicted_records, before.evicted_records),
            ("null", now.evicted_nulls, before.evicted_nulls),
        ];
        for (kind, count, before) in evicted {
            counter!(EVICTIONS, "kind" => kind, "cache" => Arc::clone(&self.cache))
                .increment(count.saturating_sub(before));
        }
    }

    fn publish_levels(&self, levels: &Levels) {
        let plain = [
            (LOADS_IN_FLIGHT, levels.loads),
            (LOADS_WAITING, levels.waiting),
            (LOADS_MAX, levels.max_concurrent_loads),
        ];
        for (name, value) in plain {
            gauge!(name, "cache" => Arc::clone(&self.cache)).set(value as f64);
        }
        for (kind, value) in [("record", levels.records), ("null", levels.nulls)] {
            gauge!(LOCAL_ENTRIES, "kind" => kind, "cache" => Arc::clone(&self.cache))
                .set(value as f64);
        }
        let breakers = &levels.breakers;
        let states = [
            ("closed", breakers.closed),
            ("open", breakers.open),
            ("half_open", breakers.half_open),
        ];
        for (state, value) in states {
            gauge!(BREAKERS, "state" => state, "cache" => Arc::clone(&self.cache))
                .set(value as f64);
        }
    }
}

/// How a look-up can end: something answered, or nothing did.
fn ends() -> impl Iterator<Item = (Outcome, Option<Origin>)> {
    Outcome::ALL.into_iter().flat_map(|outcome| {
        let answered = outcome != Outcome::Unavailable;
        let origins = Origin::ALL.into_iter().filter(move |_| answered).map(Some);
        origins
            .chain((!answered).then_some(None))
            .map(move |origin| (outcome, origin))
    })
}

fn result(ok: bool) -> (&'static str, &'static str) {
    ("result", if ok { "ok" } else { "failed" })
}

fn word(origin: Option<Origin>) -> &'static str {
    origin.map_or("none", Origin::as_str)
}
