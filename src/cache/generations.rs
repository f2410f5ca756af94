//! The tenants' generations that this process knows (protocol.md sections 5 and 6).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::local::freshness::{Proof, Usable};
use crate::clock::{LogicalTime, Tick};
use crate::store::entry::{Generation, ReadGeneration};
use crate::store::watch::Watch;
use crate::util::lock;

/// The last known state of one tenant. All local entries of the tenant share it, so that a hit costs an atomic load
/// and no lookup in a map.
pub(crate) struct TenantCell {
    name: Box<str>,
    observed: ArcSwapOption<Observation>,
    /// When this process last invalidated the tenant, or 0 if never. Replies to earlier commands are ignored.
    invalidated: AtomicU64,
    pub(crate) refreshing: AtomicBool,
    /// Held while `observed` is replaced.
    writer: Mutex<()>,
}

/// What one reply said of the tenant. It is never changed: its parts prove one generation together, and could prove
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

impl Observation {
    pub(crate) fn proof(&self) -> Proof<'_> {
        Proof {
            sent: self.sent,
            watch: self.watch.as_ref(),
            is_watchable: true,
        }
    }

    fn is_watched(&self) -> bool {
        let goes_on = |watch: &Watch| watch.is_current() && watch.goes_on();
        self.watch.as_ref().is_some_and(goes_on)
    }
}

impl TenantCell {
    fn new(name: &str, invalidated: Option<Tick>) -> Self {
        Self {
            name: name.into(),
            observed: ArcSwapOption::empty(),
            invalidated: AtomicU64::new(invalidated.map_or(0, |tick| tick.0)),
            refreshing: AtomicBool::new(false),
            writer: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what `check` says of the proof of `generation`, or `None` if that is not the generation that is
    /// known. A generation that is to be renewed is to be read again.
    pub(crate) fn check(
        &self,
        generation: Generation,
        check: impl FnOnce(Proof<'_>) -> Option<Usable>,
        now: Tick,
    ) -> Option<Usable> {
        let observed = self.observed.load();
        let observed = observed.as_ref().filter(|it| it.generation == generation)?;
        let usable = check(observed.proof())?;
        // guard: TR11b
        let renews = observed.watch.is_some() && now >= observed.renew_at;
        Some(Usable {
            refresh: usable.refresh || renews,
            ..usable
        })
    }

    /// Returns whether this process invalidated the tenant at or after `sent`.
    pub(crate) fn invalidated_since(&self, sent: Tick) -> bool {
        sent.0 <= self.invalidated.load(Ordering::Acquire)
    }

    /// Returns the observation, if its generation was this tenant's at some time before `moment`.
    pub(crate) fn known_before(&self, moment: LogicalTime) -> Option<Arc<Observation>> {
        let observed = self.observed.load_full();
        observed.filter(|observed| observed.arrived < moment)
    }

    /// Takes a reply with T's generation. `sent` is the clock before the command was sent.
    pub(crate) fn observe(&self, read: ReadGeneration, sent: Tick, arrived: LogicalTime) {
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
        self.observed.store(Some(Arc::new(observation)));
        self.refresh_ended();
    }

    /// Lets another hit start a refresh.
    pub(crate) fn refresh_ended(&self) {
        self.refreshing.store(false, Ordering::Relaxed);
    }

    /// Forgets the generation, because the tenant was invalidated before `now`.
    pub(crate) fn invalidate(&self, now: Tick) {
        let _writer = self.lock();
        self.invalidated.fetch_max(now.0, Ordering::Release);
        self.observed.store(None);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        lock(&self.writer)
    }
}

impl fmt::Debug for TenantCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCell")
            .field("name", &self.name)
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
    by_name: HashMap<Box<str>, Weak<TenantCell>>,
    swept_at: usize,
    /// When this process last invalidated any tenant. A new cell starts with this time: its tenant may have been
    /// the one, and a reply from before may still be under way.
    invalidated: Option<Tick>,
}

impl Generations {
    /// Returns the tenant's cell, if there is one.
    pub(crate) fn existing(&self, name: &str) -> Option<Arc<TenantCell>> {
        self.lock().by_name.get(name).and_then(Weak::upgrade)
    }

    /// Returns the tenant's cell, and creates it if there is none.
    pub(crate) fn cell(&self, name: &str) -> Arc<TenantCell> {
        let mut cells = self.lock();
        if let Some(cell) = cells.by_name.get(name).and_then(Weak::upgrade) {
            return cell;
        }
        if cells.by_name.len() >= cells.swept_at {
            cells.by_name.retain(|_, cell| cell.strong_count() > 0);
            cells.swept_at = (2 * cells.by_name.len()).max(64);
        }
        let cell = Arc::new(TenantCell::new(name, cells.invalidated));
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Cells> {
        lock(&self.cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::LogicalClock;

    fn generation(n: u64) -> Generation {
        Generation::parse(&format!("{n:032x}")).unwrap()
    }

    fn read(n: u64) -> ReadGeneration {
        ReadGeneration::unwatched(generation(n), Duration::MAX)
    }

    impl TenantCell {
        fn as_of(&self, generation: Generation) -> Option<Tick> {
            let mut as_of = None;
            let check = |proof: Proof<'_>| {
                as_of = Some(proof.sent);
                None
            };
            self.check(generation, check, Tick::ZERO);
            as_of
        }
    }

    #[test]
    fn as_of_is_the_latest_send_that_returned_the_generation() {
        let (cell, order) = (TenantCell::new("t", None), LogicalClock::default());
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
        let (cell, order) = (TenantCell::new("t", None), LogicalClock::default());
        cell.observe(read(1), Tick(5), order.next());
        cell.invalidate(Tick(7));
        assert_eq!(cell.as_of(generation(1)), None);
        cell.observe(read(1), Tick(7), order.next());
        assert_eq!(cell.as_of(generation(1)), None);
        cell.observe(read(2), Tick(8), order.next());
        assert_eq!(cell.as_of(generation(2)), Some(Tick(8)));
    }

    #[test]
    fn a_generation_first_seen_during_a_load_is_not_known_before_it() {
        let (cell, order) = (TenantCell::new("t", None), LogicalClock::default());
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
