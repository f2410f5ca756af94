//! The uses that are not written yet, and the time of each token's last recorded use. No I/O.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use quick_cache::unsync::Cache;

use super::sink::LastUse;
use crate::clock::Tick;
use crate::token::{BearerToken, TokenDigest};
use crate::util::lock;

const SHARDS: usize = 16;

/// A use, with what the store's key is derived from.
pub(super) struct Use {
    pub(super) last_use: LastUse,
    /// The token type, if the layout has it in keys.
    pub(super) token_type: Option<Arc<str>>,
    /// The token, if the layout has its text in keys.
    pub(super) token: Option<BearerToken>,
}

impl Use {
    fn at(&self) -> DateTime<Utc> {
        self.last_use.last_used_at
    }
}

/// The result of noting a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// The use is pending.
    Recorded,
    /// Another use was recorded within the interval, at this tick.
    Recently(Tick),
    /// The use is discarded: the recorder is full or closed, or the wall clock was never set.
    Dropped,
}

/// Pending uses by token. A lock is held for one operation on a map. A request takes one at most once per reload
/// of a local entry and per interval.
pub(super) struct Pending {
    shards: [Mutex<Shard>; SHARDS],
    len: AtomicUsize,
    capacity: usize,
    interval: Duration,
}

struct Shard {
    uses: HashMap<TokenDigest, Arc<Use>>,
    /// The last recorded use of each token, kept after it is written: the stamp of a local entry is lost
    /// whenever the entry is reloaded. An eviction only costs one more record.
    recent: Cache<TokenDigest, Recorded>,
    closed: bool,
}

#[derive(Clone, Copy)]
struct Recorded {
    tick: Tick,
    at: DateTime<Utc>,
}

impl Pending {
    pub(super) fn new(capacity: usize, interval: Duration) -> Self {
        let shard = || {
            Mutex::new(Shard {
                uses: HashMap::new(),
                recent: Cache::new(capacity.div_ceil(SHARDS).max(64)),
                closed: false,
            })
        };
        Self {
            shards: std::array::from_fn(|_| shard()),
            len: AtomicUsize::new(0),
            capacity,
            interval,
        }
    }

    fn shard(&self, digest: &TokenDigest) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(digest.as_bytes()[0]) % SHARDS])
    }

    /// Notes a use, unless one was recorded within the interval. `new` creates it, or returns `None` if it cannot
    /// be written.
    pub(super) fn note(
        &self,
        digest: TokenDigest,
        now: Tick,
        new: impl FnOnce() -> Option<Use>,
    ) -> Noted {
        let mut shard = self.shard(&digest);
        let recent = shard.recent.get(&digest).copied();
        // guard: U2
        if let Some(recent) = recent
            && now.since(recent.tick) < self.interval
        {
            return Noted::Recently(recent.tick);
        }
        if shard.closed {
            return Noted::Dropped;
        }
        let Some(new) = new() else {
            return Noted::Dropped;
        };
        let at = new.at().max(recent.map_or(new.at(), |recent| recent.at));
        match shard.uses.entry(digest) {
            Entry::Occupied(mut pending) => {
                // The wall clock may be set back. The time that is written never goes back.
                if new.at() > pending.get().at() {
                    pending.insert(Arc::new(new));
                }
            }
            Entry::Vacant(free) => {
                if self.len.fetch_add(1, Ordering::Relaxed) >= self.capacity {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    return Noted::Dropped;
                }
                free.insert(Arc::new(new));
            }
        }
        shard.recent.insert(digest, Recorded { tick: now, at });
        Noted::Recorded
    }

    /// Returns the latest use that this process remembers.
    pub(super) fn last(&self, digest: &TokenDigest) -> Option<DateTime<Utc>> {
        let shard = self.shard(digest);
        let pending = shard.uses.get(digest).map(|pending| pending.at());
        pending.max(shard.recent.peek(digest).map(|recent| recent.at))
    }

    /// Returns all pending uses, which stay pending.
    pub(super) fn read(&self) -> Vec<Arc<Use>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(lock(shard).uses.values().cloned());
        }
        all
    }

    /// Removes uses that were written. A newer use of the same token stays pending.
    pub(super) fn remove<'a>(&self, written: impl IntoIterator<Item = &'a Arc<Use>>) {
        for written in written {
            let digest = &written.last_use.digest;
            let mut shard = self.shard(digest);
            // guard: U1
            let unchanged = |present: &Arc<Use>| Arc::ptr_eq(present, written);
            if shard.uses.get(digest).is_some_and(unchanged) {
                shard.uses.remove(digest);
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Notes nothing from now on.
    pub(super) fn close(&self) {
        for shard in &self.shards {
            lock(shard).closed = true;
        }
    }

    /// Discards all pending uses and returns their number.
    pub(super) fn discard(&self) -> usize {
        let mut discarded = 0;
        for shard in &self.shards {
            discarded += std::mem::take(&mut lock(shard).uses).len();
        }
        self.len.fetch_sub(discarded, Ordering::Relaxed);
        discarded
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    fn pending(capacity: usize) -> Pending {
        Pending::new(capacity, INTERVAL)
    }

    fn wall(seconds: u64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Notes a use at these seconds of the monotonic and of the wall clock.
    fn note_at(pending: &Pending, token: &str, tick: u64, at: u64) -> Noted {
        let digest = TokenDigest::of(token);
        let tick = Tick::ZERO.after(Duration::from_secs(tick));
        pending.note(digest, tick, || {
            Some(Use {
                last_use: LastUse {
                    token_id: token.to_owned(),
                    digest,
                    token_type: None,
                    tenant_id: None,
                    last_used_at: wall(at),
                },
                token_type: None,
                token: None,
            })
        })
    }

    fn times(pending: &Pending) -> Vec<DateTime<Utc>> {
        pending.read().iter().map(|used| used.at()).collect()
    }

    #[test]
    fn one_use_per_interval_is_recorded() {
        let pending = pending(10);
        assert_eq!(note_at(&pending, "a", 1, 1), Noted::Recorded);
        let first = Noted::Recently(Tick::ZERO.after(Duration::from_secs(1)));
        assert_eq!(note_at(&pending, "a", 60, 60), first);
        assert_eq!(note_at(&pending, "a", 61, 61), Noted::Recorded);
        assert_eq!(times(&pending), [wall(61)]);
    }

    #[test]
    fn a_written_use_is_remembered_for_the_interval() {
        let pending = pending(10);
        note_at(&pending, "a", 1, 1);
        pending.remove(&pending.read());
        assert!(matches!(note_at(&pending, "a", 2, 2), Noted::Recently(_)));
        assert_eq!(pending.len(), 0);
        assert_eq!(pending.last(&TokenDigest::of("a")), Some(wall(1)));
    }

    #[test]
    fn a_use_between_read_and_remove_stays() {
        let pending = pending(10);
        note_at(&pending, "a", 1, 1);
        let read = pending.read();
        note_at(&pending, "a", 61, 61);
        pending.remove(&read);
        assert_eq!(times(&pending), [wall(61)]);
        pending.remove(&pending.read());
        assert_eq!((times(&pending).len(), pending.len()), (0, 0));
    }

    #[test]
    fn a_clock_that_is_set_back_moves_no_time_back() {
        let pending = pending(10);
        note_at(&pending, "a", 1, 1_000);
        assert_eq!(note_at(&pending, "a", 61, 500), Noted::Recorded);
        assert_eq!(times(&pending), [wall(1_000)]);
        assert_eq!(pending.last(&TokenDigest::of("a")), Some(wall(1_000)));
    }

    #[test]
    fn beyond_the_capacity_the_newest_use_is_dropped() {
        let pending = pending(2);
        let all = ["a", "b", "c"].map(|token| note_at(&pending, token, 1, 1));
        assert_eq!(all, [Noted::Recorded, Noted::Recorded, Noted::Dropped]);
        assert_eq!(note_at(&pending, "a", 61, 61), Noted::Recorded);
        assert_eq!(pending.len(), 2);
        pending.remove(&pending.read());
        assert_eq!(note_at(&pending, "c", 62, 62), Noted::Recorded);
    }

    #[test]
    fn a_closed_recorder_notes_nothing_and_counts_what_is_left() {
        let pending = pending(10);
        note_at(&pending, "a", 1, 1);
        pending.close();
        assert_eq!(note_at(&pending, "b", 1, 1), Noted::Dropped);
        assert_eq!((pending.discard(), pending.len()), (1, 0));
    }
}
