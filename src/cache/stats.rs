//! What was counted.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::token::{InvalidReason, Origin};

/// How a look-up ended. `Display` prints the lower-case word that metrics use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A good token.
    Found,
    /// No such token, or not one for this scope, or expired.
    Absent,
    /// A good token that may not be used now.
    Denied,
    /// We cannot tell.
    Unavailable,
}

impl Outcome {
    pub(crate) const ALL: [Self; 4] = [Self::Found, Self::Absent, Self::Denied, Self::Unavailable];

    /// The word that metrics and the demo server use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request was refused. The client is told less: http.md, lines 18 to 22.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing was presented.
    NotPresented,
    /// Not a token by its form: looked up nowhere.
    Malformed,
    /// More than one was.
    Ambiguous,
    /// The database does not know it, or it is revoked or disabled there.
    Unknown,
    Expired,
    /// Of another type than the scope asks for.
    WrongTokenType,
    /// By the loader.
    Denied,
    /// By a policy.
    InsufficientScope,
    /// We cannot tell.
    Unavailable,
}

impl Reason {
    const ALL: [Self; 9] = [
        Self::NotPresented,
        Self::Malformed,
        Self::Ambiguous,
        Self::Unknown,
        Self::Expired,
        Self::WrongTokenType,
        Self::Denied,
        Self::InsufficientScope,
        Self::Unavailable,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotPresented => "not_presented",
            Self::Malformed => "malformed",
            Self::Ambiguous => "ambiguous",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::WrongTokenType => "wrong_token_type",
            Self::Denied => "denied",
            Self::InsufficientScope => "insufficient_scope",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<InvalidReason> for Reason {
    fn from(why: InvalidReason) -> Self {
        match why {
            InvalidReason::Unknown => Self::Unknown,
            InvalidReason::Expired => Self::Expired,
            InvalidReason::WrongTokenType => Self::WrongTokenType,
        }
    }
}

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
///     cache.authenticate("app-nobody-knows-it", "app").await?;
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
    /// Loads whose record was of another type than the scope asked for: cached as null.
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
    pub usage_recorded: u64,
    /// Last uses that the sink wrote, or without one the store.
    pub usage_written: u64,
    /// Last uses that were given up: too many were pending, the wall clock was never set (it showed a
    /// year before 1970 or after 9999), or the shutdown's deadline passed.
    pub usage_dropped: u64,
    /// Writes of last uses that failed, to the sink or to the store; what the sink did not take, or
    /// without one the store, stays pending.
    pub usage_failures: u64,
    /// Records that the local level pushed out for its capacity.
    pub evicted_records: u64,
    /// Nulls and denied records likewise.
    pub evicted_nulls: u64,
    lookups: [[u64; 5]; 4],
    refusals: [u64; Reason::ALL.len()],
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

    /// Requests that layers refused, by the reason: `not_presented`, `malformed`, `ambiguous`,
    /// `unknown`, `expired`, `wrong_token_type`, `denied`, `insufficient_scope`, `unavailable`. The client
    /// is told less of it. All are given, zeros too.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let count = |reason: Reason| (reason.as_str(), self.refusals[reason as usize]);
        Reason::ALL.into_iter().map(count)
    }
}

fn column(origin: Option<Origin>) -> usize {
    origin.map_or(4, |origin| origin as usize)
}

/// Off the hot path: one counter each.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) joined: Counter,
    pub(crate) fills_refused: Counter,
    pub(crate) unwritable: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) wrong_type: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) store_errors: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) nulls_capped: Counter,
    pub(crate) invalidations: Counter,
    pub(crate) invalidation_failures: Counter,
    hot: Hot,
}

impl Counters {
    pub(crate) fn looked_up(&self, outcome: Outcome, origin: Option<Origin>) {
        self.hot.0[stripe()].lookups[outcome as usize][column(origin)]
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, reason: Reason) {
        self.hot.0[stripe()].refusals[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All but what the local level and the recorder count.
    pub(crate) fn read(&self) -> Stats {
        let mut lookups = [[0; 5]; 4];
        let mut refusals = [0; Reason::ALL.len()];
        for stripe in &self.hot.0 {
            for (sum, cell) in refusals.iter_mut().zip(&stripe.refusals) {
                *sum += cell.load(Ordering::Relaxed);
            }
            for (sums, row) in lookups.iter_mut().zip(&stripe.lookups) {
                for (sum, cell) in sums.iter_mut().zip(row) {
                    *sum += cell.load(Ordering::Relaxed);
                }
            }
        }
        Stats {
            loads: self.loads.get(),
            load_failures: self.load_failures.get(),
            joined: self.joined.get(),
            fills_refused: self.fills_refused.get(),
            unwritable: self.unwritable.get(),
            corrupt: self.corrupt.get(),
            wrong_type: self.wrong_type.get(),
            overloaded: self.overloaded.get(),
            store_errors: self.store_errors.get(),
            refreshes: self.refreshes.get(),
            nulls_capped: self.nulls_capped.get(),
            invalidations: self.invalidations.get(),
            invalidation_failures: self.invalidation_failures.get(),
            lookups,
            refusals,
            ..Stats::default()
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_many(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const STRIPES: usize = 16;

/// Look-ups and refusals are counted on the hot path: each thread has a stripe, so that threads do not
/// pass one cache line back and forth.
#[derive(Debug, Default)]
struct Hot([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    lookups: [[AtomicU64; 5]; 4],
    refusals: [AtomicU64; Reason::ALL.len()],
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
    }
    STRIPE.with(Cell::get)
}
