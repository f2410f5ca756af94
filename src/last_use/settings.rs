//! The recorder's configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::sink::{DynLastUseSink, LastUseSink};
use crate::error::{ConfigError, MOST_ENTRIES};
use crate::store::LAST_USE;

/// The longest interval: beyond it the store's copy would end before the next one comes.
const LONGEST: Duration = LAST_USE;

/// Notes when tokens are used, and takes the times to the database.
///
/// Given to the [builder](crate::ApiTokenCacheBuilder::last_use). From then on each successful
/// authentication counts as a use: a look-up by the layer or by
/// [`authenticate`](crate::ApiTokenCache::authenticate) that found a good token;
/// [`peek`](crate::ApiTokenCache::peek) and [`prime`](crate::ApiTokenCache::prime) are none. At a use
/// of a token that was noted within the interval that costs one comparison. No request waits for the
/// store or the sink, and none sends a command.
///
/// | what | bound |
/// |---|---|
/// | the database's time is behind the last use | by less than interval + flush interval |
/// | another instance's [`effective_last_used_at`](crate::ApiTokenCache::effective_last_used_at) | the same, as long as the store answers |
/// | what a killed process loses | the uses since its last flush |
/// | uses that wait | [`capacity`](Self::capacity); beyond it the newest is dropped, and counted |
///
/// ```
/// use tower_api_token::last_use::{LastUse, LastUseRecorder};
/// use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
///
/// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
/// let sink = |batch: Vec<LastUse>| async move {
///     // UPDATE tokens SET last_used_at = … WHERE last_used_at IS NULL OR last_used_at < …
///     # drop(batch);
///     Ok::<_, std::io::Error>(())
/// };
/// let cache = ApiTokenCache::builder(loader)
///     .last_use(LastUseRecorder::new(sink))
///     .build()?;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
///
/// At the end of the process call [`shutdown`](crate::ApiTokenCache::shutdown), which writes what is
/// pending. Where the last clone of the cache is merely dropped, one last flush is tried in the
/// background, which a runtime that ends as well does not finish.
#[derive(Clone)]
pub struct LastUseRecorder {
    pub(super) sink: Option<Arc<dyn DynLastUseSink>>,
    pub(super) interval: Duration,
    pub(super) flush_interval: Duration,
    pub(super) batch_size: usize,
    pub(super) capacity: usize,
    pub(super) write_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
}

impl LastUseRecorder {
    /// A recorder that writes to `sink`.
    pub fn new<S: LastUseSink>(sink: S) -> Self {
        Self::with(Some(Arc::new(sink)))
    }

    /// A recorder that writes into the store alone, where a job of another's takes the times from: the
    /// Python service's own flusher, with the [seed layout](crate::store::KeyLayout::seed). A time lies there
    /// for an hour. What the store does not take waits and is tried again.
    ///
    /// Not with [`KeyLayout::seed_with_prefix`](crate::store::KeyLayout::seed_with_prefix): that flusher looks for
    /// names without the prefix and finds none, so that every last use is lost.
    pub fn store_only() -> Self {
        Self::with(None)
    }

    fn with(sink: Option<Arc<dyn DynLastUseSink>>) -> Self {
        Self {
            sink,
            interval: Duration::from_secs(60),
            flush_interval: Duration::from_secs(10),
            batch_size: 500,
            capacity: 100_000,
            write_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(5),
        }
    }

    /// For how long after a recorded use of a token others are not recorded; the first use always is.
    /// At most an hour, for which the store keeps a time. Default: 60 s: such times are read by people,
    /// to the minute, and a hot token then costs the database one row a minute and instance.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How often what is pending is written to the store and the sink. While the sink fails the pause
    /// doubles, up to a minute. Default: 10 s, which is what a killed process loses at most.
    #[must_use]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// How many uses are written at once. Default: 500: one statement that takes some milliseconds, and
    /// far below the number of parameters that databases allow.
    #[must_use]
    pub fn batch_size(mut self, uses: usize) -> Self {
        self.batch_size = uses;
        self
    }

    /// How many tokens may have a pending use. Beyond it a use is dropped and counted
    /// ([`Stats::last_uses_dropped`](crate::metrics::Stats::last_uses_dropped)); those that wait stay, since they have
    /// waited for longer. Default: 100,000, as many as the local level holds.
    #[must_use]
    pub fn capacity(mut self, tokens: usize) -> Self {
        self.capacity = tokens;
        self
    }

    /// How long one write of the sink may take; then it is dropped and counts as failed. Default: 10 s.
    #[must_use]
    pub fn write_timeout(mut self, deadline: Duration) -> Self {
        self.write_timeout = deadline;
        self
    }

    /// How long [`shutdown`](crate::ApiTokenCache::shutdown) tries. Default: 5 s: orchestrators commonly
    /// kill after 30 s, and connections are drained before.
    #[must_use]
    pub fn shutdown_timeout(mut self, deadline: Duration) -> Self {
        self.shutdown_timeout = deadline;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let least = Duration::from_millis(1);
        for (name, value) in [
            ("last_use interval", self.interval),
            ("last_use flush_interval", self.flush_interval),
            ("last_use write_timeout", self.write_timeout),
            ("last_use shutdown_timeout", self.shutdown_timeout),
        ] {
            ConfigError::unless_within(name, value, least..=LONGEST)?;
        }
        for (name, value) in [
            ("last_use batch_size", self.batch_size),
            ("last_use capacity", self.capacity),
        ] {
            ConfigError::unless_within(name, value, 1..=MOST_ENTRIES)?;
        }
        Ok(())
    }
}

impl fmt::Debug for LastUseRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastUseRecorder")
            .field("store_only", &self.sink.is_none())
            .field("interval", &self.interval)
            .field("flush_interval", &self.flush_interval)
            .field("batch_size", &self.batch_size)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
