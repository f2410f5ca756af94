//! The recorder of a cache: what the request path notes is flushed in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::pending::{Noted, Pending, Use};
use super::settings::LastUseRecorder;
use super::sink::{DynLastUseSink, LastUse};
use super::turn::Turn;
use crate::clock::{Clock, Tick};
use crate::error::BoxError;
use crate::metrics::{Counter, Stats};
use crate::store::backend::Backend;
use crate::store::error::StoreError;
use crate::store::keys::{EntryKey, Keys};
use crate::token::{BearerToken, TokenDigest, TokenRecord};
use crate::trace::{chain, limited};
use crate::util::task::spawn_stealable;

/// The longest pause between flushes while they fail, unless the flush interval is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How much later than announced a task's heartbeat may be before another task takes its turn.
const SLACK: Duration = Duration::from_secs(1);

/// How often a flush that waits for another one checks whether that is over.
const POLL: Duration = Duration::from_millis(10);

/// The first and the longest pause between flushes during a shutdown, for which the process waits.
const LAST_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A token that a request used.
pub(crate) struct Used<'a, M> {
    pub(crate) record: &'a TokenRecord<M>,
    pub(crate) token: &'a BearerToken,
    pub(crate) digest: &'a TokenDigest,
    /// The tick at which a use of this entry was last recorded, or 0 for never.
    pub(crate) recorded: &'a AtomicU64,
}

/// Records last uses. When it is dropped, one last flush is tried.
pub(crate) struct Recorder<M> {
    core: Arc<Core<M>>,
}

struct Core<M> {
    settings: LastUseRecorder,
    store: Arc<dyn Backend<M>>,
    keys: Arc<Keys>,
    clock: Clock,
    pending: Pending,
    /// Held by the task that flushes in the background.
    running: Turn,
    closed: AtomicBool,
    closing: Notify,
    /// Held by a flush. Two at a time would write the same uses twice.
    flushing: Turn,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    recorded: Counter,
    written: Counter,
    dropped: Counter,
    failures: Counter,
}

impl<M: Send + Sync + 'static> Recorder<M> {
    pub(crate) fn new(
        settings: LastUseRecorder,
        store: Arc<dyn Backend<M>>,
        keys: Arc<Keys>,
        clock: Clock,
    ) -> Self {
        let pending = Pending::new(settings.capacity, settings.interval);
        Self {
            core: Arc::new(Core {
                settings,
                store,
                keys,
                clock,
                pending,
                running: Turn::default(),
                closed: AtomicBool::new(false),
                closing: Notify::new(),
                flushing: Turn::default(),
                counters: Counters::default(),
            }),
        }
    }

    /// Notes a use at `now`, by a lookup that asked for the type `asked`. Called on the request path.
    pub(crate) fn note(&self, used: Used<'_, M>, asked: Option<&str>, now: Tick) {
        if is_due(used.recorded, now, self.core.settings.interval) {
            self.core.record(&used, asked, now);
        }
    }

    /// Returns the latest use that this process remembers.
    pub(crate) fn last(&self, digest: &TokenDigest) -> Option<DateTime<Utc>> {
        self.core.pending.last(digest)
    }

    /// Writes what is pending, and returns how many uses could not be written before the timeout.
    pub(crate) async fn shutdown(&self) -> usize {
        self.core.close();
        // A timeout shows in what is left.
        let _ = timeout(self.core.settings.shutdown_timeout, self.core.drain()).await;
        let left = self.core.pending.discard();
        self.core.counters.dropped.add_many(left);
        left
    }

    pub(crate) fn count(&self, stats: &mut Stats) {
        let counters = &self.core.counters;
        stats.last_uses_recorded = counters.recorded.get();
        stats.last_uses_written = counters.written.get();
        stats.last_uses_dropped = counters.dropped.get();
        stats.last_uses_failures = counters.failures.get();
    }
}

impl<M> Drop for Recorder<M> {
    fn drop(&mut self) {
        self.core.close();
    }
}

/// Returns whether the entry's last recorded use is an interval ago. Of several concurrent requests, one gets
/// `true`. In the steady state this is one load of a cache line that is not written to.
fn is_due(recorded: &AtomicU64, now: Tick, interval: Duration) -> bool {
    let last = recorded.load(Ordering::Relaxed);
    if last != 0 && now.since(Tick(last)) < interval {
        return false;
    }
    recorded
        .compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

/// Returns whether `at` is in the years 1970 to 9999, which every database and both forms in Redis can hold. A
/// clock that shows another year was never set.
fn is_plausible(at: DateTime<Utc>) -> bool {
    (1970..=9999).contains(&at.year())
}

impl<M> Core<M> {
    fn close(&self) {
        self.pending.close();
        self.closed.store(true, Ordering::Release);
        self.closing.notify_one();
    }
}

impl<M: Send + Sync + 'static> Core<M> {
    #[cold]
    fn record(self: &Arc<Self>, used: &Used<'_, M>, asked: Option<&str>, now: Tick) {
        let digest = *used.digest;
        let noted = self.pending.note(digest, now, || {
            // A database that has no such time would reject the whole batch, again and again.
            // guard: U4
            let at = Some(self.clock.wall()).filter(|at| is_plausible(*at))?;
            Some(Use {
                last_use: LastUse {
                    token_id: used.record.id.clone(),
                    digest,
                    token_type: used.record.token_type.clone(),
                    tenant_id: used.record.tenant_id.clone(),
                    last_used_at: at,
                },
                token_type: self.keys.type_in_key(asked).map(Arc::from),
                token: self.keys.is_dify().then(|| used.token.clone()),
            })
        });
        match noted {
            Noted::Recorded => {
                self.counters.recorded.add();
                self.run();
            }
            // The local entry is newer than the recorded use of its token.
            Noted::Recently(tick) => used.recorded.store(tick.0, Ordering::Relaxed),
            Noted::Dropped => self.counters.dropped.add(),
        }
    }

    /// Starts the background task, unless one runs. Outside of a runtime it cannot; a later use or the shutdown
    /// will flush.
    fn run(self: &Arc<Self>) {
        if tokio::runtime::Handle::try_current().is_ok()
            && let Some(turn) = self
                .running
                .take(self.settings.flush_interval + self.step())
        {
            let core = Arc::clone(self);
            spawn_stealable(Running { core, turn }.work());
        }
    }

    /// Returns how long one batch may take, in the store and in the sink.
    fn step(&self) -> Duration {
        self.store.operation_timeout() + self.settings.write_timeout + SLACK
    }

    /// Writes what is pending, and returns whether all of it was written.
    async fn flush(&self) -> bool {
        let one = loop {
            match self.flushing.take(self.step()) {
                Some(turn) => break Flushing { core: self, turn },
                None => sleep(POLL).await,
            }
        };
        let uses = self.pending.read();
        let stored = self.store(&uses, &one).await;
        let Some(sink) = &self.settings.sink else {
            return stored;
        };
        let mut all = true;
        for batch in uses.chunks(self.settings.batch_size) {
            if !one.renew() {
                return false;
            }
            match self.write(sink, batch).await {
                Ok(()) => self.written(batch),
                // The other batches would most likely time out as well.
                Err(WriteError::TimedOut) => return false,
                // One row of this batch may be the cause. The other batches do not wait for its repair.
                // guard: U6
                Err(_) => all = false,
            }
        }
        all
    }

    /// Writes the times to the store. With a sink they are a copy, which later flushes repeat for what is still
    /// pending; without one the store is their destination.
    async fn store(&self, uses: &[Arc<Use>], one: &Flushing<'_, M>) -> bool {
        let only = self.settings.sink.is_none();
        let mut all = true;
        for batch in uses.chunks(self.settings.batch_size) {
            if !one.renew() {
                return false;
            }
            let keyed: Vec<_> = batch.iter().map(|used| self.keyed(used)).collect();
            let put = match self.store.put_last_uses(&keyed).await {
                Ok(put) => put,
                Err(error) => {
                    self.not_stored(&error);
                    // The next batches would most likely fail as well, each after a timeout.
                    return false;
                }
            };
            if let Some(error) = put.iter().find_map(|put| put.as_ref().err()) {
                self.not_stored(error);
                all = false;
            }
            if only {
                let stored = batch.iter().zip(&put).filter(|(_, put)| put.is_ok());
                let stored: Vec<_> = stored.map(|(used, _)| used).collect();
                self.written(stored);
            }
        }
        all
    }

    fn not_stored(&self, error: &StoreError) {
        self.counters.failures.add();
        limited!(
            warn,
            "last uses could not be written to the token store; they are tried again",
            error = chain(error)
        );
    }

    fn keyed(&self, used: &Use) -> (EntryKey, DateTime<Utc>) {
        let (token, digest) = (used.token.as_ref(), &used.last_use.digest);
        let key = self.keys.key_of(token, digest, used.token_type.as_ref());
        (key, used.last_use.last_used_at)
    }

    async fn write(
        &self,
        sink: &Arc<dyn DynLastUseSink>,
        batch: &[Arc<Use>],
    ) -> Result<(), WriteError> {
        let batch = batch.iter().map(|used| used.last_use.clone()).collect();
        // In a task, to survive a panic, and in a set, so that the task ends with this future.
        let mut task = JoinSet::new();
        task.spawn(DynLastUseSink::write(Arc::clone(sink), batch));
        // guard: U5
        let error = match timeout(self.settings.write_timeout, task.join_next()).await {
            Ok(Some(Ok(Ok(())))) => return Ok(()),
            Ok(Some(Ok(Err(error)))) => WriteError::Failed(error),
            Ok(Some(Err(_)) | None) => WriteError::Panicked,
            Err(_) => WriteError::TimedOut,
        };
        self.counters.failures.add();
        limited!(
            warn,
            "last uses could not be written; they are tried again",
            failure = error.name()
        );
        if let WriteError::Failed(error) = &error {
            limited!(
                debug,
                "the error of the sink of last uses",
                error = chain(&**error)
            );
        }
        Err(error)
    }

    fn written<'a, I>(&self, written: I)
    where
        I: IntoIterator<Item = &'a Arc<Use>, IntoIter: ExactSizeIterator>,
    {
        let written = written.into_iter();
        self.counters.written.add_many(written.len());
        self.pending.remove(written);
    }

    /// Flushes until nothing is pending, after nothing more can be noted.
    async fn drain(&self) {
        let (mut pause, longest) = LAST_PAUSES;
        while !self.flush().await {
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// A flush that holds the turn. Another flush takes the turn over if this one stalls.
struct Flushing<'a, M> {
    core: &'a Core<M>,
    turn: u64,
}

impl<M: Send + Sync + 'static> Flushing<'_, M> {
    /// Announces that this flush goes on with another batch. Returns `false` if it lost its turn.
    fn renew(&self) -> bool {
        self.core.flushing.renew(self.turn, self.core.step())
    }
}

impl<M> Drop for Flushing<'_, M> {
    fn drop(&mut self) {
        self.core.flushing.release(self.turn);
    }
}

/// The background task. If its runtime is dropped or stalls, the next use starts another one in its own
/// runtime.
struct Running<M> {
    core: Arc<Core<M>>,
    turn: u64,
}

impl<M> Drop for Running<M> {
    fn drop(&mut self) {
        self.core.running.release(self.turn);
    }
}

impl<M: Send + Sync + 'static> Running<M> {
    async fn work(self) {
        let core = &self.core;
        let usual = core.settings.flush_interval;
        let mut pause = usual;
        let mut open = true;
        while open && core.running.renew(self.turn, pause + core.step()) {
            let until = core.clock.now().after(pause);
            tokio::select! {
                () = core.clock.sleep_until(until) => {}
                () = core.closing.notified() => {}
            }
            // Read before the flush, so that a recorder that closes meanwhile gets one more.
            open = !core.closed.load(Ordering::Acquire);
            pause = if core.flush().await {
                usual
            } else {
                (pause * 2).min(LONGEST_PAUSE.max(usual))
            };
        }
    }
}

/// Why a sink did not write a batch.
enum WriteError {
    Failed(BoxError),
    Panicked,
    TimedOut,
}

impl WriteError {
    fn name(&self) -> &'static str {
        match self {
            Self::Failed(_) => "the sink of last uses failed",
            Self::Panicked => "the sink of last uses panicked",
            Self::TimedOut => "the sink of last uses did not answer in time",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_due_once_an_interval() {
        let (recorded, interval) = (AtomicU64::new(0), Duration::from_secs(60));
        let due_at = |seconds| {
            let now = Tick::ZERO.after(Duration::from_secs(seconds));
            is_due(&recorded, now, interval)
        };
        let due = [1, 1, 60, 61, 61, 122].map(due_at);
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
