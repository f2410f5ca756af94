//! What is measured, through the facade `metrics`. Without the feature all of this is nothing, and no
//! clock is read for it.
//!
//! The counters are [`Stats`](crate::Stats)' own: atomics in stripes, which a local hit adds to at the
//! price of one uncontended addition. The facade has no stripes, and a look-up by labels on the way to
//! each counter, so that a hit does not go through it: what was counted since the last time is handed
//! over when somebody asks for it. Times are recorded at once, on ways that take microseconds at least.

#[cfg(feature = "metrics")]
mod on {
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Instant;

    use metrics::{
        Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    };

    use crate::cache::{Outcome, Stats};
    use crate::store::Breakers;
    use crate::token::Origin;

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
        pub(crate) max_loads: usize,
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
            self.record("api_token_store_read_seconds", since, result(ok));
        }

        pub(crate) fn loaded(&self, since: Stopwatch, ok: bool) {
            self.record("api_token_load_seconds", since, result(ok));
        }

        /// An invalidation, without what `and_wait` sleeps.
        pub(crate) fn invalidated(&self, since: Stopwatch, ok: bool) {
            self.record("api_token_invalidation_seconds", since, result(ok));
        }

        /// A look-up that no local answer was found for, as its caller saw it.
        pub(crate) fn missed(&self, since: Stopwatch, origin: Option<Origin>) {
            self.record("api_token_miss_seconds", since, ("origin", word(origin)));
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
            let mut published = self
                .published
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
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
            for ((reason, count), (_, before)) in now.refusals().zip(before.refusals()) {
                counter!(REFUSALS, "reason" => reason, "cache" => Arc::clone(&self.cache))
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
                (LOADS_MAX, levels.max_loads),
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

    const LOOKUPS: &str = "api_token_lookups_total";
    const REFUSALS: &str = "api_token_refusals_total";
    const EVICTIONS: &str = "api_token_local_evictions_total";
    const LOADS_IN_FLIGHT: &str = "api_token_loads_in_flight";
    const LOADS_WAITING: &str = "api_token_loads_waiting";
    const LOADS_MAX: &str = "api_token_loads_max";
    const LOCAL_ENTRIES: &str = "api_token_local_entries";
    const BREAKERS: &str = "api_token_breakers";

    /// Name, help, and where the number is.
    type Counted = (&'static str, &'static str, fn(&Stats) -> u64);

    /// The counters that have no label of their own.
    const COUNTERS: [Counted; 17] = [
        ("api_token_loads_total", "Calls of the loader.", |stats| {
            stats.loads
        }),
        (
            "api_token_load_failures_total",
            "Loads that failed, timed out or panicked, or whose answer could not be right.",
            |stats| stats.load_failures,
        ),
        (
            "api_token_flights_joined_total",
            "Look-ups that joined the flight of another.",
            |stats| stats.joined,
        ),
        (
            "api_token_fills_refused_total",
            "Fills that the fence refused: the lease had run out, or an invalidation had removed it.",
            |stats| stats.fills_refused,
        ),
        (
            "api_token_unwritable_total",
            "Records that were too large to be cached, or could not be written.",
            |stats| stats.unwritable,
        ),
        (
            "api_token_corrupt_entries_total",
            "Entries in the store that did not count, and were replaced.",
            |stats| stats.corrupt,
        ),
        (
            "api_token_wrong_type_total",
            "Loads whose record was of another type than the scope asked for.",
            |stats| stats.wrong_type,
        ),
        (
            "api_token_overloaded_total",
            "Look-ups and loads that the bulkhead in front of the loader refused.",
            |stats| stats.overloaded,
        ),
        (
            "api_token_store_errors_total",
            "Calls of the store that failed or timed out.",
            |stats| stats.store_errors,
        ),
        (
            "api_token_refreshes_total",
            "Refreshes of local entries in the background.",
            |stats| stats.refreshes,
        ),
        (
            "api_token_nulls_capped_total",
            "Nulls that were answered and not written, because too many were being written.",
            |stats| stats.nulls_capped,
        ),
        (
            "api_token_invalidations_total",
            "Invalidations that were confirmed.",
            |stats| stats.invalidations,
        ),
        (
            "api_token_invalidation_failures_total",
            "Invalidations that were not confirmed.",
            |stats| stats.invalidation_failures,
        ),
        (
            "api_token_usage_recorded_total",
            "Last uses that were recorded.",
            |stats| stats.usage_recorded,
        ),
        (
            "api_token_usage_written_total",
            "Last uses that were written.",
            |stats| stats.usage_written,
        ),
        (
            "api_token_usage_dropped_total",
            "Last uses that were given up.",
            |stats| stats.usage_dropped,
        ),
        (
            "api_token_usage_failures_total",
            "Writes of last uses that failed.",
            |stats| stats.usage_failures,
        ),
    ];

    /// Each time, so that it does not matter when the recorder was installed.
    fn describe() {
        for (name, help, _) in COUNTERS {
            describe_counter!(name, help);
        }
        let counters = [
            (
                LOOKUPS,
                "Look-ups of tokens, by outcome and by where the answer came from.",
            ),
            (REFUSALS, "Requests that a layer refused, by the reason."),
            (
                EVICTIONS,
                "Entries that the local level pushed out for its capacity.",
            ),
        ];
        for (name, help) in counters {
            describe_counter!(name, help);
        }
        let gauges = [
            (
                LOADS_IN_FLIGHT,
                "Places in front of the loader that are taken.",
            ),
            (LOADS_WAITING, "Look-ups that wait for such a place."),
            (LOADS_MAX, "How many such places there are."),
            (LOCAL_ENTRIES, "Entries in the local level."),
            (
                BREAKERS,
                "Circuit breakers in front of Redis, one a node, by state.",
            ),
        ];
        for (name, help) in gauges {
            describe_gauge!(name, help);
        }
        let histograms = [
            (
                "api_token_store_read_seconds",
                "Look-ups of an entry in the shared store.",
            ),
            ("api_token_load_seconds", "Calls of the loader."),
            (
                "api_token_miss_seconds",
                "Look-ups that no local answer was found for, as the request saw them.",
            ),
            (
                "api_token_invalidation_seconds",
                "Invalidations, without what and_wait sleeps.",
            ),
        ];
        for (name, help) in histograms {
            describe_histogram!(name, Unit::Seconds, help);
        }
    }
}

#[cfg(feature = "metrics")]
pub(crate) use on::*;

#[cfg(not(feature = "metrics"))]
mod off {
    use crate::token::Origin;

    #[derive(Clone, Copy)]
    pub(crate) struct Stopwatch;

    impl Stopwatch {
        pub(crate) fn start() -> Self {
            Self
        }
    }

    pub(crate) struct Metrics;

    impl Metrics {
        pub(crate) fn new(_: &str) -> Self {
            Self
        }

        pub(crate) fn read_store(&self, _: Stopwatch, _: bool) {}
        pub(crate) fn loaded(&self, _: Stopwatch, _: bool) {}
        pub(crate) fn invalidated(&self, _: Stopwatch, _: bool) {}
        pub(crate) fn missed(&self, _: Stopwatch, _: Option<Origin>) {}
    }
}

#[cfg(not(feature = "metrics"))]
pub(crate) use off::*;
