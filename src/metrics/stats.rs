//! The counters of a cache, as they were read.

use super::label::{Origin, Outcome, Reason};

/// Counters since the cache was built, and the present number of local entries.
///
/// The difference of two is what happened in between.
///
/// ```
/// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
/// use tower_api_token::Origin;
/// use tower_api_token::metrics::Outcome;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
/// # let cache = ApiTokenCache::builder(loader).build()?;
/// for _ in 0..2 {
///     cache.authenticate_typed("app-nobody-knows-it", "app").await?;
/// }
/// let stats = cache.stats();
/// assert_eq!(stats.loads, 1);
/// assert_eq!(stats.lookups_of(Outcome::Invalid, Some(Origin::Loaded)), 1);
/// assert_eq!(stats.lookups_of(Outcome::Invalid, Some(Origin::Local)), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of the loader.
    pub loads: u64,
    /// Loads that failed, timed out or panicked, or that answered for another token or without an id.
    pub load_failures: u64,
    /// Lookups that joined another one of the same token.
    pub joined: u64,
    /// Cache writes that were refused because the lease had expired or an invalidation had removed it.
    pub fills_refused: u64,
    /// Records that were too large to be cached, or that could not be serialized.
    pub unwritable: u64,
    /// Entries in the store that were unreadable, another token's or of the wrong Redis type. They were
    /// replaced.
    pub corrupt: u64,
    /// Lookups that found a record of another token type than the one asked for.
    pub wrong_token_type: u64,
    /// Lookups and loads that were rejected because too many were waiting.
    pub overloaded: u64,
    /// Calls of the store that failed or timed out.
    pub store_errors: u64,
    /// Refreshes of local entries in the background.
    pub refreshes: u64,
    /// Negative answers that were not written to the store, because too many were being written (a flood
    /// of invented tokens).
    pub negative_writes_skipped: u64,
    /// Requests that passed, and that a
    /// [report-only policy](crate::ApiTokenLayerBuilder::policy_report_only) would have rejected.
    pub report_only_rejections: u64,
    /// Invalidations that were confirmed.
    pub invalidations: u64,
    /// Attempts of invalidations that were not confirmed.
    pub invalidation_failures: u64,
    /// Last uses that were recorded, at most one per token and interval.
    pub last_uses_recorded: u64,
    /// Last uses that the sink wrote, or the store if there is no sink.
    pub last_uses_written: u64,
    /// Last uses that were discarded: too many were pending, the wall clock showed a year before 1970 or
    /// after 9999, or the shutdown timed out.
    pub last_uses_dropped: u64,
    /// Writes of last uses that failed, to the sink or to the store. What the sink did not
    /// take, or the store if there is no sink, stays pending.
    pub last_uses_failures: u64,
    /// Records in the local level now.
    pub local_records: u64,
    /// Negatives in the local level now: unknown tokens and denied records.
    pub local_negatives: u64,
    /// Records that the local level evicted because it was full.
    pub evicted_records: u64,
    /// Negatives that the local level evicted because it was full.
    pub evicted_negatives: u64,
    /// Whether Redis reports changes of what is cached locally (client tracking).
    pub client_tracking: bool,
    /// Records, and generations of tenants and of all entries, of which Redis reports the next change: those in the
    /// local level, and those that handlers and streams still hold.
    pub watched: u64,
    /// Reads and fills whose keys Redis was asked to report the next change of.
    pub tracked_reads: u64,
    /// Changes that Redis reported. If they are more than half of the tracked reads, the server's
    /// `tracking-table-max-keys` may be too small.
    pub tracking_pushes: u64,
    pub(super) lookups: ByEnd<u64>,
    pub(super) rejections: [u64; Reason::ALL.len()],
}

impl Stats {
    /// Returns the number of lookups by outcome and origin. The origin is `None` if nothing answered. Zeros
    /// are left out.
    pub fn lookups(&self) -> impl Iterator<Item = (Outcome, Option<Origin>, u64)> + '_ {
        Outcome::ALL.into_iter().flat_map(move |outcome| {
            let origins = Origin::ALL.into_iter().map(Some).chain([None]);
            origins
                .map(move |origin| {
                    (
                        outcome,
                        origin,
                        self.lookups[outcome as usize][column(origin)],
                    )
                })
                .filter(|(.., count)| *count > 0)
        })
    }

    /// Returns the number of lookups with this outcome and origin.
    pub fn lookups_of(&self, outcome: Outcome, origin: Option<Origin>) -> u64 {
        self.lookups[outcome as usize][column(origin)]
    }

    /// Returns the number of requests that layers rejected, by the reason: `missing_token`, `malformed`,
    /// `multiple_tokens`, `missing_protocol`, `unknown`, `expired`, `wrong_token_type`, `denied`,
    /// `insufficient_scope`, `too_many_requests`, `unavailable`. Zeros are included. The client is told less.
    pub fn rejections(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let count = |reason: Reason| (reason.as_str(), self.rejections[reason as usize]);
        Reason::ALL.into_iter().map(count)
    }
}

/// A row for each outcome. A row has a column for each origin, and the last one for none.
pub(super) type ByEnd<T> = [[T; Origin::ALL.len() + 1]; Outcome::ALL.len()];

pub(super) fn column(origin: Option<Origin>) -> usize {
    origin.map_or(Origin::ALL.len(), |origin| origin as usize)
}
