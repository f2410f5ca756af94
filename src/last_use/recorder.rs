//! The recorder at work.

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
use crate::cache::cached_token::Principal;
use crate::clock::{Clock, Tick};
use crate::error::BoxError;
use crate::metrics::{Counter, Stats};
use crate::store::keys::{EntryKey, Keys};
use crate::store::{Store, StoreError};
use crate::task::spawn_stealable;
use crate::token::TokenDigest;
use crate::trace::{chain, limited};

/// The longest pause while the sink fails, unless the flush interval is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// By how much a task may be later than it said before another takes its place.
const SLACK: Duration = Duration::from_secs(1);

/// How often who wants to flush looks whether another still does.
const LOOK: Duration = Duration::from_millis(10);

/// The pauses between two attempts while the process waits for its end.
const LAST_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The engine's end of it. Dropping it tries one last flush.
pub(crate) struct Recorder<M> {
    core: Arc<Core<M>>,
}

struct Core<M> {
    settings: LastUseRecorder,
    store: Arc<dyn Store<M>>,
    keys: Arc<Keys>,
    clock: Clock,
    pending: Pending,
    /// Of the task that flushes in the background.
    running: Turn,
    closed: AtomicBool,
    closing: Notify,
    /// One flush at a time: two would write the same uses twice.
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
        store: Arc<dyn Store<M>>,
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

    /// On the request's way: a use of what a lookup at `now` found that asked for the type `asked`.
    pub(crate) fn note(&self, principal: &Principal<M>, asked: Option<&str>, now: Tick) {
        if is_due(&principal.noted, now, self.core.settings.interval) {
            self.core.record(principal, asked, now);
        }
    }

    /// The latest use that this process remembers.
    pub(crate) fn last(&self, digest: &TokenDigest) -> Option<DateTime<Utc>> {
        self.core.pending.last(digest)
    }

    /// Writes what is pending, and says how many uses could not be written within the deadline.
    pub(crate) async fn shutdown(&self) -> usize {
        self.core.close();
        // That the deadline passed shows in what is left.
        let _ = timeout(self.core.settings.shutdown_timeout, self.core.drain()).await;
        let left = self.core.pending.abandon();
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

/// Whether the entry's last recorded use is an interval ago; of several requests that ask at once, one
/// is told so. In the steady state that is one load of a line that nobody writes to.
fn is_due(noted: &AtomicU64, now: Tick, interval: Duration) -> bool {
    let last = noted.load(Ordering::Relaxed);
    if last != 0 && now.since(Tick(last)) < interval {
        return false;
    }
    noted
        .compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

/// From 1970 to the end of the year 9999: what every database and both forms in Redis can write. A clock
/// that shows anything else was never set.
fn is_of_this_age(at: DateTime<Utc>) -> bool {
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
    fn record(self: &Arc<Self>, principal: &Principal<M>, asked: Option<&str>, now: Tick) {
        let digest = principal.proof.digest;
        let record = &principal.kept.what;
        let noted = self.pending.note(digest, now, || {
            // A database that has no such time would refuse its whole batch, again and again.
            let at = Some(self.clock.wall()).filter(|at| is_of_this_age(*at))?;
            Some(Use {
                last_use: LastUse {
                    token_id: record.id.clone(),
                    digest,
                    token_type: record.token_type.clone(),
                    tenant_id: record.tenant_id.clone(),
                    last_used_at: at,
                },
                token_type: self.keys.type_in_key(asked).map(Arc::from),
                token: self.keys.is_seed().then(|| principal.token.clone()),
            })
        });
        match noted {
            Noted::Recorded => {
                self.counters.recorded.add();
                self.run();
            }
            // The entry was reloaded meanwhile: it learns of the record that its token has.
            Noted::Lately(tick) => principal.noted.store(tick.0, Ordering::Relaxed),
            Noted::Dropped => self.counters.dropped.add(),
        }
    }

    /// Sees to it that somebody flushes. Outside of a runtime nobody can; a later use will find one, or
    /// the shutdown.
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

    /// How long one batch may take, in the store and in the sink.
    fn step(&self) -> Duration {
        self.store.deadline() + self.settings.write_timeout + SLACK
    }

    /// Whether all that was pending at its beginning is written.
    async fn flush(&self) -> bool {
        let one = loop {
            match self.flushing.take(self.step()) {
                Some(turn) => break Flushing { core: self, turn },
                None => sleep(LOOK).await,
            }
        };
        let uses = self.pending.read();
        let stored = self.store(&uses, &one).await;
        let Some(sink) = &self.settings.sink else {
            return stored;
        };
        let mut all = true;
        for batch in uses.chunks(self.settings.batch_size) {
            if !one.goes_on() {
                return false;
            }
            match self.write(sink, batch).await {
                Ok(()) => self.settled(batch),
                // The others would most likely hang as well, each until its deadline.
                Err(UsageFailure::TimedOut) => return false,
                // It may be a row of this batch's: the others are not to wait for its repair.
                Err(_) => all = false,
            }
        }
        all
    }

    /// Puts the times into the store. Beside a sink they are a copy, which a later flush brings again
    /// for what is still pending then; without one the store is where they go.
    async fn store(&self, uses: &[Arc<Use>], one: &Flushing<'_, M>) -> bool {
        let only = self.settings.sink.is_none();
        let mut all = true;
        for batch in uses.chunks(self.settings.batch_size) {
            if !one.goes_on() {
                return false;
            }
            let keyed: Vec<_> = batch.iter().map(|used| self.keyed(used)).collect();
            let put = match self.store.put_last_uses(&keyed).await {
                Ok(put) => put,
                Err(error) => {
                    self.not_stored(&error);
                    // The next would most likely fail as well, each after a deadline.
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
                self.settled(stored);
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
    ) -> Result<(), UsageFailure> {
        let batch = batch.iter().map(|used| used.last_use.clone()).collect();
        // A task of its own, for its panics; in a set, so that it ends with whoever waits for it.
        let mut task = JoinSet::new();
        task.spawn(DynLastUseSink::write(Arc::clone(sink), batch));
        let failure = match timeout(self.settings.write_timeout, task.join_next()).await {
            Ok(Some(Ok(Ok(())))) => return Ok(()),
            Ok(Some(Ok(Err(error)))) => UsageFailure::Failed(error),
            Ok(Some(Err(_)) | None) => UsageFailure::Panicked,
            Err(_) => UsageFailure::TimedOut,
        };
        self.counters.failures.add();
        limited!(
            warn,
            "last uses could not be written; they are tried again",
            failure = failure.name()
        );
        if let UsageFailure::Failed(error) = &failure {
            limited!(
                debug,
                "the sink of last uses's error",
                error = chain(&**error)
            );
        }
        Err(failure)
    }

    fn settled<'a, I>(&self, written: I)
    where
        I: IntoIterator<Item = &'a Arc<Use>, IntoIter: ExactSizeIterator>,
    {
        let written = written.into_iter();
        self.counters.written.add_many(written.len());
        self.pending.settle(written);
    }

    /// Flushes until nothing is left.
    async fn drain(&self) {
        let (mut pause, longest) = LAST_PAUSES;
        while !self.flush().await || self.pending.len() > 0 {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// A flush, which another takes over when it stands still.
struct Flushing<'a, M> {
    core: &'a Core<M>,
    turn: u64,
}

impl<M: Send + Sync + 'static> Flushing<'_, M> {
    /// To be asked before each batch.
    fn goes_on(&self) -> bool {
        self.core.flushing.keep(self.turn, self.core.step())
    }
}

impl<M> Drop for Flushing<'_, M> {
    fn drop(&mut self) {
        self.core.flushing.give_back(self.turn);
    }
}

/// The task in the background. Where a runtime ends, which drops it, or stands still, the next use begins
/// another in its own.
struct Running<M> {
    core: Arc<Core<M>>,
    turn: u64,
}

impl<M> Drop for Running<M> {
    fn drop(&mut self) {
        self.core.running.give_back(self.turn);
    }
}

impl<M: Send + Sync + 'static> Running<M> {
    async fn work(self) {
        let core = &self.core;
        let usual = core.settings.flush_interval;
        let mut pause = usual;
        let mut open = true;
        while open && core.running.keep(self.turn, pause + core.step()) {
            let until = core.clock.now().after(pause);
            tokio::select! {
                () = core.clock.sleep_until(until) => {}
                () = core.closing.notified() => {}
            }
            // Asked before the flush: what closes meanwhile is answered by one more.
            open = !core.closed.load(Ordering::Acquire);
            pause = if core.flush().await {
                usual
            } else {
                (pause * 2).min(LONGEST_PAUSE.max(usual))
            };
        }
    }
}

/// Why a sink did not write.
enum UsageFailure {
    Failed(BoxError),
    Panicked,
    TimedOut,
}

impl UsageFailure {
    fn name(&self) -> &'static str {
        match self {
            Self::Failed(_) => "the sink of last uses failed",
            Self::Panicked => "the sink of last uses panicked",
            Self::TimedOut => "the sink of last uses did not answer in time",
        }
    }
}
