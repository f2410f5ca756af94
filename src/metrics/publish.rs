//! What the facade `metrics` gets, with the feature `metrics`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use metrics::{Key, Label, Level, Metadata, counter, gauge};

use super::label::{Origin, Outcome};
use super::names::*;
use super::stats::Stats;
use crate::store::backend::Breakers;
use crate::util::lock;

/// The start of what is measured.
#[derive(Clone, Copy)]
pub(crate) struct Timer(Instant);

impl Timer {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

/// Present values, which are not counters.
pub(crate) struct Gauges {
    pub(crate) loads: usize,
    pub(crate) waiting: usize,
    pub(crate) max_concurrent_loads: usize,
    pub(crate) breakers: Breakers,
}

pub(crate) struct Metrics {
    /// The value of the label that all metrics have: the namespace, which tells the caches of a process
    /// apart.
    cache: Arc<str>,
    store_read: Results,
    load: Results,
    invalidation: Results,
    revocation: Results,
    /// By [`Origin`], and at last of lookups that were not answered.
    missed: Vec<Key>,
    published: Mutex<Stats>,
}

/// The keys of a time, by its result. They are made once, because a lookup records two times.
struct Results {
    ok: Key,
    failed: Key,
}

impl Metrics {
    pub(crate) fn new(cache: &str) -> Self {
        let cache: Arc<str> = cache.into();
        let key = |name: &'static str, label: &'static str, value: &'static str| {
            let labels = [
                Label::from_static_parts(label, value),
                Label::new("cache", Arc::clone(&cache)),
            ];
            Key::from_parts(name, labels.to_vec())
        };
        let results = |name| Results {
            ok: key(name, "result", "ok"),
            failed: key(name, "result", "failed"),
        };
        let origins = Origin::ALL.into_iter().map(Some).chain([None]);
        Self {
            store_read: results(STORE_READ),
            load: results(LOAD),
            invalidation: results(INVALIDATION),
            revocation: results(REVOCATION),
            missed: origins.map(|it| key(MISS, "origin", word(it))).collect(),
            cache,
            published: Mutex::default(),
        }
    }

    /// Records a lookup in the shared store.
    pub(crate) fn read_store(&self, since: Timer, ok: bool) {
        record(self.store_read.of(ok), since);
    }

    pub(crate) fn loaded(&self, since: Timer, ok: bool) {
        record(self.load.of(ok), since);
    }

    /// Records an invalidation, without the wait for all instances.
    pub(crate) fn invalidated(&self, since: Timer, ok: bool) {
        record(self.invalidation.of(ok), since);
    }

    /// Records a canary's revocation.
    pub(crate) fn revoked(&self, since: Timer, ok: bool) {
        record(self.revocation.of(ok), since);
    }

    /// Records a lookup without a local answer, as its caller saw it.
    pub(crate) fn missed(&self, since: Timer, origin: Option<Origin>) {
        let origin = origin.map_or(Origin::ALL.len(), |it| it as usize);
        record(&self.missed[origin], since);
    }

    /// Hands over what was counted since the last call. `read` is called under the lock, so that two
    /// concurrent callers count nothing twice.
    pub(crate) fn publish(&self, read: impl FnOnce() -> Stats, gauges: &Gauges) {
        describe();
        let mut published = lock(&self.published);
        let now = read();
        self.publish_counters(&now, &published);
        self.publish_gauges(&now, gauges);
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
            ("negative", now.evicted_negatives, before.evicted_negatives),
        ];
        for (kind, count, before) in evicted {
            counter!(EVICTIONS, "kind" => kind, "cache" => Arc::clone(&self.cache))
                .increment(count.saturating_sub(before));
        }
    }

    fn publish_gauges(&self, now: &Stats, gauges: &Gauges) {
        let plain = [
            (LOADS_IN_FLIGHT, gauges.loads),
            (LOADS_WAITING, gauges.waiting),
            (LOADS_MAX, gauges.max_concurrent_loads),
            (TRACKING, now.client_tracking.into()),
            (WATCHED, now.watched as usize),
        ];
        for (name, value) in plain {
            gauge!(name, "cache" => Arc::clone(&self.cache)).set(value as f64);
        }
        for (kind, value) in [
            ("record", now.local_records),
            ("negative", now.local_negatives),
        ] {
            gauge!(LOCAL_ENTRIES, "kind" => kind, "cache" => Arc::clone(&self.cache))
                .set(value as f64);
        }
        let breakers = &gauges.breakers;
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

/// Returns the combinations that occur: only an unavailable lookup has no origin.
fn ends() -> impl Iterator<Item = (Outcome, Option<Origin>)> {
    Outcome::ALL.into_iter().flat_map(|outcome| {
        let answered = outcome != Outcome::Unavailable;
        let origins = Origin::ALL.into_iter().filter(move |_| answered).map(Some);
        origins
            .chain((!answered).then_some(None))
            .map(move |origin| (outcome, origin))
    })
}

impl Results {
    fn of(&self, ok: bool) -> &Key {
        if ok { &self.ok } else { &self.failed }
    }
}

fn record(key: &Key, since: Timer) {
    static METADATA: Metadata<'_> =
        Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
    // Looked up each time, so that it does not matter when the recorder was installed.
    metrics::with_recorder(|recorder| recorder.register_histogram(key, &METADATA))
        .record(since.0.elapsed().as_secs_f64());
}

fn word(origin: Option<Origin>) -> &'static str {
    origin.map_or("none", Origin::as_str)
}
