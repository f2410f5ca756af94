//! The metrics' names, and what is said of each.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use super::stats::Stats;

pub(super) const LOOKUPS: &str = "api_token_lookups_total";
pub(super) const REJECTIONS: &str = "api_token_rejections_total";
pub(super) const EVICTIONS: &str = "api_token_local_evictions_total";
pub(super) const LOADS_IN_FLIGHT: &str = "api_token_loads_in_flight";
pub(super) const LOADS_WAITING: &str = "api_token_loads_waiting";
pub(super) const LOADS_MAX: &str = "api_token_loads_max";
pub(super) const LOCAL_ENTRIES: &str = "api_token_local_entries";
pub(super) const BREAKERS: &str = "api_token_breakers";
pub(super) const STORE_READ: &str = "api_token_store_read_seconds";
pub(super) const LOAD: &str = "api_token_load_seconds";
pub(super) const INVALIDATION: &str = "api_token_invalidation_seconds";
pub(super) const MISS: &str = "api_token_miss_seconds";

/// Name, help, and where the number is.
pub(super) type Counted = (&'static str, &'static str, fn(&Stats) -> u64);

/// The counters that have no label of their own.
pub(super) const COUNTERS: [Counted; 17] = [
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
        "Lookups that found a record of another type than the one asked for.",
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
        "api_token_last_uses_recorded_total",
        "Last uses that were recorded.",
        |stats| stats.last_uses_recorded,
    ),
    (
        "api_token_last_uses_written_total",
        "Last uses that were written.",
        |stats| stats.last_uses_written,
    ),
    (
        "api_token_last_uses_dropped_total",
        "Last uses that were given up.",
        |stats| stats.last_uses_dropped,
    ),
    (
        "api_token_last_uses_failures_total",
        "Writes of last uses that failed.",
        |stats| stats.last_uses_failures,
    ),
];

/// Each time, so that it does not matter when the recorder was installed.
pub(super) fn describe() {
    for (name, help, _) in COUNTERS {
        describe_counter!(name, help);
    }
    let counters = [
        (
            LOOKUPS,
            "Look-ups of tokens, by outcome and by where the answer came from.",
        ),
        (REJECTIONS, "Requests that a layer rejected, by the reason."),
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
        (STORE_READ, "Look-ups of an entry in the shared store."),
        (LOAD, "Calls of the loader."),
        (
            MISS,
            "Look-ups that no local answer was found for, as the request saw them.",
        ),
        (
            INVALIDATION,
            "Invalidations, without what wait_for_all_instances sleeps.",
        ),
    ];
    for (name, help) in histograms {
        describe_histogram!(name, Unit::Seconds, help);
    }
}
