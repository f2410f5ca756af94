//! The names of the metrics, and a help text for each.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use super::stats::Stats;

pub(super) const LOOKUPS: &str = "api_token_lookups_total";
pub(super) const REJECTIONS: &str = "api_token_rejections_total";
pub(super) const EVICTIONS: &str = "api_token_local_evictions_total";
pub(super) const LOADS_IN_FLIGHT: &str = "api_token_loads_in_flight";
pub(super) const LOADS_WAITING: &str = "api_token_loads_waiting";
pub(super) const LOADS_MAX: &str = "api_token_loads_max";
pub(super) const LOCAL_ENTRIES: &str = "api_token_local_entries";
pub(super) const TRACKING: &str = "api_token_tracking";
pub(super) const WATCHED: &str = "api_token_watched_entries";
pub(super) const BREAKERS: &str = "api_token_breakers";
pub(super) const STORE_READ: &str = "api_token_store_read_seconds";
pub(super) const LOAD: &str = "api_token_load_seconds";
pub(super) const INVALIDATION: &str = "api_token_invalidation_seconds";
pub(super) const REVOCATION: &str = "api_token_revocation_seconds";
pub(super) const MISS: &str = "api_token_miss_seconds";

/// Name, help text, and the field that holds the number.
pub(super) type Counted = (&'static str, &'static str, fn(&Stats) -> u64);

/// The counters that have no label of their own.
pub(super) const COUNTERS: [Counted; 20] = [
    ("api_token_loads_total", "Calls of the loader.", |stats| {
        stats.loads
    }),
    (
        "api_token_load_failures_total",
        "Loads that failed, timed out or panicked, or that answered for another token or without an id.",
        |stats| stats.load_failures,
    ),
    (
        "api_token_lookups_joined_total",
        "Lookups that joined another one of the same token.",
        |stats| stats.joined,
    ),
    (
        "api_token_fills_refused_total",
        "Cache writes that were refused because the lease had expired or an invalidation had removed it.",
        |stats| stats.fills_refused,
    ),
    (
        "api_token_unwritable_total",
        "Records that were too large to be cached, or that could not be serialized.",
        |stats| stats.unwritable,
    ),
    (
        "api_token_corrupt_entries_total",
        "Entries in the store that were unreadable, another token's or of the wrong Redis type.",
        |stats| stats.corrupt,
    ),
    (
        "api_token_wrong_token_type_total",
        "Lookups that found a record of another token type than the one asked for.",
        |stats| stats.wrong_token_type,
    ),
    (
        "api_token_overloaded_total",
        "Lookups and loads that were rejected because too many were waiting.",
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
        "api_token_tracked_reads_total",
        "Reads and fills whose keys Redis was asked to report the next change of.",
        |stats| stats.tracked_reads,
    ),
    (
        "api_token_tracking_pushes_total",
        "Changes of watched keys that Redis reported.",
        |stats| stats.tracking_pushes,
    ),
    (
        "api_token_negative_writes_skipped_total",
        "Negative answers that were not written, because too many were being written.",
        |stats| stats.negative_writes_skipped,
    ),
    (
        "api_token_report_only_rejections_total",
        "Requests that passed, and that a report-only policy would have rejected.",
        |stats| stats.report_only_rejections,
    ),
    (
        "api_token_invalidations_total",
        "Invalidations that were confirmed.",
        |stats| stats.invalidations,
    ),
    (
        "api_token_invalidation_failures_total",
        "Attempts of invalidations that were not confirmed.",
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
        "Last uses that were discarded.",
        |stats| stats.last_uses_dropped,
    ),
    (
        "api_token_last_uses_failures_total",
        "Writes of last uses that failed.",
        |stats| stats.last_uses_failures,
    ),
];

/// Describes all metrics. It is called for each publication, so that it does not matter when the recorder
/// was installed.
pub(super) fn describe() {
    for (name, help, _) in COUNTERS {
        describe_counter!(name, help);
    }
    let counters = [
        (
            LOOKUPS,
            "Lookups of tokens, by outcome and by the origin of the answer.",
        ),
        (REJECTIONS, "Requests that a layer rejected, by the reason."),
        (
            EVICTIONS,
            "Entries that the local level evicted because it was full.",
        ),
    ];
    for (name, help) in counters {
        describe_counter!(name, help);
    }
    let gauges = [
        (
            LOADS_IN_FLIGHT,
            "Loads that hold one of the permits for concurrent loads.",
        ),
        (LOADS_WAITING, "Lookups that wait for such a permit."),
        (LOADS_MAX, "The number of such permits."),
        (LOCAL_ENTRIES, "Entries in the local level."),
        (
            TRACKING,
            "1 while Redis reports changes of local entries, otherwise 0.",
        ),
        (
            WATCHED,
            "Local records and generations whose next change Redis reports.",
        ),
        (
            BREAKERS,
            "Circuit breakers in front of Redis, one per node, by state.",
        ),
    ];
    for (name, help) in gauges {
        describe_gauge!(name, help);
    }
    let histograms = [
        (STORE_READ, "Lookups of an entry in the shared store."),
        (LOAD, "Calls of the loader."),
        (
            MISS,
            "Lookups without a local answer, as the caller saw them.",
        ),
        (
            INVALIDATION,
            "Invalidations, without the wait for all instances.",
        ),
        (
            REVOCATION,
            "A canary's revocations, until another instance had rejected the token.",
        ),
    ];
    for (name, help) in histograms {
        describe_histogram!(name, Unit::Seconds, help);
    }
}
