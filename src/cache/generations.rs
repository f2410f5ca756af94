//! The generations that this process knows (protocol.md sections 5 and 6).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::local::freshness::{Proof, Usable};
use crate::clock::{LogicalTime, Tick};
use crate::store::entry::{Generation, Group, ReadGeneration, ShortGeneration};
use crate::store::watch::Watch;
use crate::util::sync::atomic::{AtomicU64, Ordering};
use crate::util::sync::{ArcSwapOption, Mutex, MutexGuard};
use crate::util::unpoisoned;

/// The last known generation of one group. All local entries of the group share it, so that a hit costs an atomic load
/// and no lookup in a map.
pub(crate) struct GenerationCell {
    group: Group,
    observed: ArcSwapOption<Observation>,
    /// When this process last invalidated the group, or 0 if never. Replies to earlier commands are ignored.
    invalidated: AtomicU64,
    pub(crate) refreshing: AtomicBool,
    last: LastCheck,
    /// Held while `observed` is replaced. The latest end of a check that was noted.
    writer: Mutex<Tick>,
}

/// The last check of a cell that had nothing to find fault with, for the hits that follow within a millisecond: to load
/// the observation costs a hit more than all else that it does with the cell.
///
/// Its parts are written and read one by one. `until` is written last, is zero meanwhile, and is read first and again at the
/// end, and is never the same twice, apart from a store's that counts no pushes. So what is read in between is of its own
/// check. Otherwise a hit that stood still after the first reading could find the next check's generation, and use it beyond
/// that one's proof: an observation may replace one with a later proof.
#[derive(Default)]
struct LastCheck {
    until: AtomicU64,
    generation: AtomicU64,
    /// The number of pushes before it.
    pushes: AtomicU64,
}

impl LastCheck {
    fn holds(&self, generation: ShortGeneration, pushes: u64, now: Tick) -> bool {
        let until = self.until.load(Ordering::Acquire);
        now.0 < until
            && self.generation.load(Ordering::Acquire) == generation.0
            // guard: TR10b
            && self.pushes.load(Ordering::Acquire) == pushes
            // guard: IL4
            && self.until.load(Ordering::Relaxed) == until
    }

    /// Must be called with the cell's lock.
    fn forget(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Must be called with the cell's lock.
    fn note(&self, generation: ShortGeneration, pushes: u64, until: Tick) {
        self.forget();
        self.pushes.store(pushes, Ordering::Release);
        self.generation.store(generation.0, Ordering::Release);
        self.until.store(until.0, Ordering::Release);
    }
}

/// What one reply said of the group. It is never changed: its parts prove one generation together, and could prove
/// a former one if they came from two replies.
pub(crate) struct Observation {
    pub(crate) generation: Generation,
    /// When this process first had a reply with this generation. A generation is never used again, so a later
    /// reply with the same one does not change this time.
    arrived: LogicalTime,
    /// The clock before the command was sent.
    sent: Tick,
    watch: Option<Watch>,
    /// When a watched generation is read again, which renews its TTL.
    renew_at: Tick,
}

/// The time before the end of a generation's TTL from which on it is renewed.
const RENEWAL: Duration = Duration::from_secs(43_200);

/// The shortest time between two renewals.
const PAUSE: Duration = Duration::from_secs(60);

/// How long the result of a check is used at most, and otherwise for an eighth of what is left of the proof, so that no
/// refresh comes late.
const AS_GOOD_AS_NOW: Duration = Duration::from_millis(1);

impl Observation {
    pub(crate) fn proof(&self) -> Proof<'_> {
        Proof {
            sent: self.sent,
            watch: self.watch.as_ref(),
            is_watchable: true,
        }
    }

    fn check(
        &self,
        generation: ShortGeneration,
        check: impl FnOnce(Proof<'_>) -> Option<Usable>,
        now: Tick,
    ) -> Option<Usable> {
        if self.generation.short() != generation {
            return None;
        }
        let usable = check(self.proof())?;
        // guard: TR11b
        let renews = self.watch.is_some() && now >= self.renew_at;
        Some(Usable {
            refresh: usable.refresh || renews,
            ..usable
        })
    }

    fn is_watched(&self) -> bool {
        let goes_on = |watch: &Watch| watch.is_current() && watch.goes_on();
        self.watch.as_ref().is_some_and(goes_on)
    }
}

impl GenerationCell {
    pub(crate) fn new(group: Group, invalidated: Option<Tick>) -> Self {
        Self {
            group,
            observed: ArcSwapOption::empty(),
            invalidated: AtomicU64::new(invalidated.map_or(0, |tick| tick.0)),
            refreshing: AtomicBool::new(false),
            last: LastCheck::default(),
            writer: Mutex::new(Tick::ZERO),
        }
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Returns what `check` says of the proof of `generation`, or `None` if that is not the generation that is
    /// known. A generation that is to be renewed is to be read again.
    pub(crate) fn check(
        &self,
        generation: ShortGeneration,
        check: impl FnOnce(Proof<'_>) -> Option<Usable>,
        now: Tick,
    ) -> Option<Usable> {
        let observed = self.observed.load();
        let observed = observed.as_ref()?;
        observed.check(generation, check, now)
    }

    /// Returns whether a hit may use `generation`, and whether it refreshes the cell: by the last check if that holds, else
    /// by `check`. `pushes` is how many had arrived when the hit began.
    #[inline]
    pub(crate) fn check_for_hit(
        &self,
        generation: ShortGeneration,
        pushes: u64,
        check: impl FnOnce(Proof<'_>) -> Option<Usable>,
        now: Tick,
    ) -> Option<Usable> {
        if self.last.holds(generation, pushes, now) {
            return Some(Usable::ALWAYS);
        }
        self.check_and_note(generation, pushes, check, now)
    }

    #[inline(never)]
    fn check_and_note(
        &self,
        generation: ShortGeneration,
        pushes: u64,
        check: impl FnOnce(Proof<'_>) -> Option<Usable>,
        now: Tick,
    ) -> Option<Usable> {
        let observed = self.observed.load();
        let observed = observed.as_ref()?;
        let usable = observed.check(generation, check, now)?;
        let is_present = || {
            let present = self.observed.load();
            let is_same = |present: &Arc<Observation>| Arc::ptr_eq(present, observed);
            present.as_ref().is_some_and(is_same)
        };
        // If another thread writes, a later hit notes its own check. guard: IL1 IL2
        if !usable.refresh
            && let Ok(mut latest) = self.writer.try_lock()
            && is_present()
        {
            let until = if usable.until == Tick::NEVER {
                usable.until
            } else {
                now.after(AS_GOOD_AS_NOW.min(usable.until.since(now) / 8))
            };
            // guard: IL3
            if until > *latest || until == Tick::NEVER {
                self.last.note(generation, pushes, until);
                *latest = until;
            }
        }
        Some(usable)
    }

    /// Returns whether a generation is known that `check` finds usable.
    pub(crate) fn is_known(&self, check: impl FnOnce(Proof<'_>) -> Option<Usable>) -> bool {
        let observed = self.observed.load();
        let observed = observed.as_ref();
        observed.is_some_and(|observed| check(observed.proof()).is_some())
    }

    /// Returns whether this process invalidated the group at or after `sent`.
    pub(crate) fn invalidated_since(&self, sent: Tick) -> bool {
        sent.0 <= self.invalidated.load(Ordering::Acquire)
    }

    /// Returns the observation, if its generation was this group's at some time before `moment`.
    pub(crate) fn known_before(&self, moment: LogicalTime) -> Option<Arc<Observation>> {
        let observed = self.observed.load_full();
        observed.filter(|observed| observed.arrived < moment)
    }

    /// Takes a reply with the generation. `sent` is the clock before the command was sent.
    pub(crate) fn observe(&self, read: ReadGeneration, sent: Tick, arrived: LogicalTime) {
        // guard: IL5
        let _writer = self.lock();
        let present = self.observed.load_full();
        let is_newer = |present: &Arc<Observation>| present.sent >= sent;
        if present.as_ref().is_some_and(is_newer) || self.invalidated_since(sent) {
            return;
        }
        let same = present.filter(|present| present.generation == read.generation);
        // A watch is worth more than a later reply without one.
        if read.watch.is_none() && same.as_ref().is_some_and(|present| present.is_watched()) {
            return;
        }
        let renewal = read.left.saturating_sub(RENEWAL).max(PAUSE);
        let observation = Observation {
            generation: read.generation,
            arrived: same.map_or(arrived, |present| present.arrived),
            sent,
            watch: read.watch,
            renew_at: sent.after(renewal),
        };
        // guard: TR10c
        self.last.forget();
        self.observed.store(Some(Arc::new(observation)));
        self.refresh_ended();
    }

    /// Lets another hit start a refresh.
    pub(crate) fn refresh_ended(&self) {
        self.refreshing.store(false, Ordering::Relaxed);
    }

    /// Forgets the generation, because the group was invalidated before `now`.
    pub(crate) fn invalidate(&self, now: Tick) {
        let _writer = self.lock();
        self.invalidated.fetch_max(now.0, Ordering::Release);
        self.last.forget();
        self.observed.store(None);
    }

    fn lock(&self) -> MutexGuard<'_, Tick> {
        unpoisoned(self.writer.lock())
    }
}

impl fmt::Debug for GenerationCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerationCell")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// The cells of the tenants that local entries belong to. A cell lives as long as an entry refers to it, so
/// there are at most as many cells as entries.
#[derive(Default)]
pub(crate) struct Generations {
    cells: Mutex<Cells>,
}

#[derive(Default)]
struct Cells {
    by_name: HashMap<Box<str>, Weak<GenerationCell>>,
    swept_at: usize,
    /// When this process last invalidated any tenant. A new cell starts with this time: its tenant may have been
    /// the one, and a reply from before may still be under way.
    invalidated: Option<Tick>,
}

impl Generations {
    /// Returns the tenant's cell, if there is one.
    pub(crate) fn existing(&self, name: &str) -> Option<Arc<GenerationCell>> {
        self.lock().by_name.get(name).and_then(Weak::upgrade)
    }

    /// Returns the tenant's cell, and creates it if there is none.
    pub(crate) fn cell(&self, name: &str) -> Arc<GenerationCell> {
        let mut cells = self.lock();
        if let Some(cell) = cells.by_name.get(name).and_then(Weak::upgrade) {
            return cell;
        }
        if cells.by_name.len() >= cells.swept_at {
            cells.by_name.retain(|_, cell| cell.strong_count() > 0);
            cells.swept_at = (2 * cells.by_name.len()).max(64);
        }
        // guard: IL6
        let cell = Arc::new(GenerationCell::new(Group::tenant(name), cells.invalidated));
        cells.by_name.insert(name.into(), Arc::downgrade(&cell));
        cell
    }

    pub(crate) fn invalidate(&self, name: &str, now: Tick) {
        let mut cells = self.lock();
        cells.invalidated = cells.invalidated.max(Some(now));
        if let Some(cell) = cells.by_name.get(name).and_then(Weak::upgrade) {
            cell.invalidate(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cells> {
        unpoisoned(self.cells.lock())
    }
}

#[cfg(all(test, interleavings))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::LogicalClock;
    use crate::store::watch::Tracker;

    fn generation(n: u64) -> Generation {
        Generation::parse(&format!("{n:016x}{n:016x}")).unwrap()
    }

    fn generation_of(n: u64) -> ShortGeneration {
        generation(n).short()
    }

    fn read(n: u64) -> ReadGeneration {
        ReadGeneration::unwatched(generation(n), Duration::MAX)
    }

    impl GenerationCell {
        fn as_of(&self, generation: Generation) -> Option<Tick> {
            let mut as_of = None;
            let check = |proof: Proof<'_>| {
                as_of = Some(proof.sent);
                None
            };
            self.check(generation.short(), check, Tick::ZERO);
            as_of
        }
    }

    #[test]
    fn as_of_is_the_latest_send_that_returned_the_generation() {
        let (cell, order) = (
            GenerationCell::new(Group::tenant("t"), None),
            LogicalClock::default(),
        );
        assert_eq!(cell.as_of(generation(1)), None);
        cell.observe(read(1), Tick(5), order.next());
        assert_eq!(cell.as_of(generation(1)), Some(Tick(5)));
        assert_eq!(cell.as_of(generation(2)), None);
        cell.observe(read(2), Tick(4), order.next());
        assert_eq!(
            cell.as_of(generation(1)),
            Some(Tick(5)),
            "an older send changes nothing"
        );
        cell.observe(read(2), Tick(6), order.next());
        assert_eq!(
            (cell.as_of(generation(1)), cell.as_of(generation(2))),
            (None, Some(Tick(6)))
        );
    }

    #[test]
    fn a_reply_to_a_send_before_an_invalidation_is_ignored() {
        let (cell, order) = (
            GenerationCell::new(Group::tenant("t"), None),
            LogicalClock::default(),
        );
        cell.observe(read(1), Tick(5), order.next());
        cell.invalidate(Tick(7));
        assert_eq!(cell.as_of(generation(1)), None);
        cell.observe(read(1), Tick(7), order.next());
        assert_eq!(cell.as_of(generation(1)), None);
        cell.observe(read(2), Tick(8), order.next());
        assert_eq!(cell.as_of(generation(2)), Some(Tick(8)));
    }

    #[test]
    fn a_hit_uses_no_check_from_before_another_generation() {
        let (cell, order) = (
            GenerationCell::new(Group::tenant("t"), None),
            LogicalClock::default(),
        );
        let usable = Usable {
            until: Tick(1_000),
            refresh: false,
        };
        let hits = |n: u64, pushes, now| {
            let check = |_: Proof<'_>| Some(usable);
            cell.check_for_hit(generation_of(n), pushes, check, Tick(now))
        };
        let by_the_check_before = Some(Usable::ALWAYS);
        cell.observe(read(1), Tick(5), order.next());
        assert_eq!(hits(1, 0, 10), Some(usable));
        assert_eq!(hits(1, 0, 11), by_the_check_before);
        assert_eq!((hits(2, 0, 11), hits(1, 1, 20)), (None, Some(usable)));
        assert_eq!(hits(1, 1, 21), by_the_check_before);
        cell.observe(read(2), Tick(6), order.next());
        assert_eq!((hits(1, 1, 21), hits(2, 1, 30)), (None, Some(usable)));
        assert_eq!(hits(2, 1, 31), by_the_check_before);
        cell.invalidate(Tick(7));
        assert_eq!(hits(2, 1, 31), None);
    }

    #[test]
    fn a_check_is_used_for_a_millisecond_at_most_and_within_its_proof() {
        let (cell, order) = (
            GenerationCell::new(Group::tenant("t"), None),
            LogicalClock::default(),
        );
        cell.observe(read(1), Tick(5), order.next());
        let hit = |until, now| {
            let check = |_: Proof<'_>| {
                let refresh = false;
                Some(Usable { until, refresh })
            };
            cell.check_for_hit(generation_of(1), 0, check, now)
        };
        let noted = Some(Usable::ALWAYS);
        let (near, far) = (Tick(50), Tick(9_000_000));
        assert_ne!(hit(near, Tick(10)), noted);
        assert_eq!(hit(near, Tick(14)), noted);
        assert_ne!(hit(far, Tick(15)), noted);
        assert_eq!(hit(far, Tick(1_000_014)), noted);
        assert_ne!(hit(far, Tick(1_000_015)), noted);
    }

    #[test]
    fn a_watched_generation_is_kept_when_a_later_reply_has_no_watch() {
        let tracker = Tracker::new("all".to_owned(), "tenant:".to_owned());
        let session = tracker.begin(Tick(1));
        session.enter();
        let (cell, order) = (
            GenerationCell::new(Group::tenant("t"), None),
            LogicalClock::default(),
        );
        let watched = ReadGeneration {
            watch: Some(Watch::new(session, tracker.mark("tenant:t"))),
            ..read(1)
        };
        cell.observe(watched, Tick(5), order.next());
        cell.observe(read(1), Tick(6), order.next());
        assert_eq!(cell.as_of(generation(1)), Some(Tick(5)));
        tracker.all_changed();
        cell.observe(read(1), Tick(7), order.next());
        assert_eq!(cell.as_of(generation(1)), Some(Tick(7)));
    }

    #[test]
    fn a_generation_first_seen_during_a_load_is_not_known_before_it() {
        let (cell, order) = (
            GenerationCell::new(Group::tenant("t"), None),
            LogicalClock::default(),
        );
        let load = order.next();
        cell.observe(read(1), Tick(5), order.next());
        assert!(cell.known_before(load).is_none());
        let later = order.next();
        cell.observe(read(1), Tick(9), order.next());
        let known = cell
            .known_before(later)
            .expect("a refresh keeps the arrival");
        assert_eq!((known.generation, known.sent), (generation(1), Tick(9)));
    }

    #[test]
    fn a_reply_from_before_an_invalidation_does_not_enter_a_cell_made_after_it() {
        let (generations, order) = (Generations::default(), LogicalClock::default());
        generations.invalidate("t", Tick(7));
        let cell = generations.cell("t");
        cell.observe(read(1), Tick(6), order.next());
        assert_eq!(cell.as_of(generation(1)), None);
    }

    #[test]
    fn cells_die_with_their_last_entry_and_are_swept() {
        let generations = Generations::default();
        for n in 0..1_000 {
            drop(generations.cell(&n.to_string()));
        }
        let used = generations.cell("used");
        assert!(Arc::ptr_eq(&used, &generations.cell("used")));
        assert!(generations.lock().by_name.len() <= 64);
    }

    #[test]
    fn a_sweep_keeps_cells_in_use_and_is_not_repeated_soon() {
        let generations = Generations::default();
        let used: Vec<_> = (0..1_000)
            .map(|n| generations.cell(&n.to_string()))
            .collect();
        for (n, cell) in used.iter().enumerate() {
            assert!(Arc::ptr_eq(cell, &generations.cell(&n.to_string())), "{n}");
        }
        assert_eq!(generations.lock().swept_at, 2 * 512);
    }
}
