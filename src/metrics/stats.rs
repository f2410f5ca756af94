//! What was counted.

use super::label::{Origin, Outcome, Reason};

/// Counters since the cache was built. Take two and subtract for a rate.
///
/// ```
/// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
/// use tower_api_token::{Origin, Outcome};
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
/// assert_eq!(stats.lookups_of(Outcome::Absent, Some(Origin::Loaded)), 1);
/// assert_eq!(stats.lookups_of(Outcome::Absent, Some(Origin::Local)), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of the loader.
    pub loads: u64,
    /// Loads that failed, timed out or panicked, or whose answer could not be right.
    pub load_failures: u64,
    /// Look-ups that joined a flight of another.
    pub joined: u64,
    /// Fills that the fence refused: the lease had run out, or an invalidation had removed it.
    pub fills_refused: u64,
    /// Records that were too large to be cached, or that could not be written.
    pub unwritable: u64,
    /// Entries in the store that were unreadable, another token's or of the wrong type, and replaced.
    pub corrupt: u64,
    /// Lookups that found a record of another type than the one asked for.
    pub wrong_type: u64,
    /// Look-ups and loads that were refused because too many were waiting.
    pub overloaded: u64,
    /// Calls of the store that failed or timed out.
    pub store_errors: u64,
    /// Refreshes of local entries in the background.
    pub refreshes: u64,
    /// Nulls that were answered and not written, because too many are being written (a flood of
    /// invented tokens).
    pub nulls_capped: u64,
    /// Invalidations that were confirmed.
    pub invalidations: u64,
    /// Invalidations that were not confirmed.
    pub invalidation_failures: u64,
    /// Last uses that were recorded: at most one for a token and interval.
    pub last_uses_recorded: u64,
    /// Last uses that the sink wrote, or without one the store.
    pub last_uses_written: u64,
    /// Last uses that were given up: too many were pending, the wall clock was never set (it showed a
    /// year before 1970 or after 9999), or the shutdown's deadline passed.
    pub last_uses_dropped: u64,
    /// Writes of last uses that failed, to the sink or to the store; what the sink did not take, or
    /// without one the store, stays pending.
    pub last_uses_failures: u64,
    /// Records that the local level pushed out for its capacity.
    pub evicted_records: u64,
    /// Nulls and denied records likewise.
    pub evicted_nulls: u64,
    pub(super) lookups: ByEnd<u64>,
    pub(super) rejections: [u64; Reason::ALL.len()],
}

impl Stats {
    /// Look-ups by outcome and, where something answered, by origin. Sums that are zero are left out.
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

    /// Look-ups with this outcome and origin.
    pub fn lookups_of(&self, outcome: Outcome, origin: Option<Origin>) -> u64 {
        self.lookups[outcome as usize][column(origin)]
    }

    /// Requests that layers rejected, by the reason: `missing_token`, `malformed`, `multiple_tokens`,
    /// `unknown`, `expired`, `wrong_token_type`, `denied`, `insufficient_scope`, `unavailable`. The client
    /// is told less of it. All are given, zeros too.
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
