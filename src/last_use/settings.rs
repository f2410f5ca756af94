//! The settings of a recorder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::sink::{DynLastUseSink, LastUseSink};
use crate::error::{ConfigError, MOST_ENTRIES};
use crate::store::backend::LAST_USE_TTL;

/// The longest interval: after it, the store's copy expires before the next use is recorded.
const LONGEST: Duration = LAST_USE_TTL;

/// Records when tokens were last used, and writes the times to the database.
///
/// Pass it to the [builder](crate::ApiTokenCacheBuilder::last_use). From then on each successful authentication,
/// by the layer or by [`authenticate`](crate::ApiTokenCache::authenticate), is a use.
/// [`peek`](crate::ApiTokenCache::peek) and [`warm`](crate::ApiTokenCache::warm) are not. A use of a token that was
/// recorded within the interval costs one comparison. No request waits for the store or the sink, or sends a
/// command.
///
/// | what | bound |
/// |---|---|
/// | the database's time is behind the last use | by less than interval + flush interval |
/// | [`last_used_at`](crate::ApiTokenCache::last_used_at) of another instance is behind | by the same, as long as the store answers |
/// | what a killed process loses | the uses since its last flush |
/// | pending uses | [`capacity`](Self::capacity); beyond it the newest is dropped, and counted |
///
/// Call [`shutdown`](crate::ApiTokenCache::shutdown) at the end of the process, which writes what is pending. If
/// the last clone of the cache is only dropped, one last flush is tried in the background, which a runtime that
/// ends as well does not finish.
///
/// # Examples
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
    /// Creates a recorder that writes to `sink`.
    pub fn new<S: LastUseSink>(sink: S) -> Self {
        Self::with(Some(Arc::new(sink)))
    }

    /// Creates a recorder that writes to the store alone, where another job reads the times: with the layout that
    /// is shared with Dify, the flusher of Dify's service. A time is stored for an hour. What the store does not
    /// take is tried again.
    ///
    /// Do not use it with a key prefix: that flusher looks for keys without the prefix and finds none, so that
    /// every last use is lost.
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

    /// Sets for how long after a recorded use of a token no other use of it is recorded. At most an hour, which is
    /// as long as the store keeps a time.
    ///
    /// Defaults to 60 seconds: people read these times to the minute, and a hot token then costs the database one
    /// row per minute and instance.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how often pending uses are written to the store and the sink. While writes fail, the pause doubles, up
    /// to a minute.
    ///
    /// Defaults to 10 seconds, which is what a killed process loses at most.
    #[must_use]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// Sets how many uses are written at once.
    ///
    /// Defaults to 500: one statement that takes some milliseconds, with far fewer parameters than databases allow.
    #[must_use]
    pub fn batch_size(mut self, uses: usize) -> Self {
        self.batch_size = uses;
        self
    }

    /// Sets how many tokens may have a pending use. Beyond it a new use is dropped and counted
    /// ([`Stats::last_uses_dropped`](crate::metrics::Stats::last_uses_dropped)); older ones stay.
    /// The last uses of as many tokens are remembered after they are written, in some 125 bytes each.
    ///
    /// Defaults to 100,000, as many as the local level holds.
    #[must_use]
    pub fn capacity(mut self, tokens: usize) -> Self {
        self.capacity = tokens;
        self
    }

    /// Sets how long one write of the sink may take. A write that exceeds this timeout is dropped, and has failed.
    ///
    /// Defaults to 10 seconds.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Sets how long [`shutdown`](crate::ApiTokenCache::shutdown) tries to write what is pending.
    ///
    /// Defaults to 5 seconds: orchestrators commonly kill a process after 30 seconds, in which it also drains its
    /// connections.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Checks the settings, for the `build` of the cache.
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
