//! The tenants' generations that this process knows (protocol.md sections 5 and 6).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::clock::{LogicalTime, Tick};
use crate::store::entry::Generation;
use crate::util::lock;

/// The last known state of one tenant. All local entries of the tenant share it, so that a hit costs three
/// atomic loads and no lookup in a map.
pub(crate) struct TenantCell {
    name: Box<str>,
    /// The clock before the command was sent that last returned the generation, or 0 if none is known.
    sent: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    /// When this process last invalidated the tenant, or 0 if never. Replies to earlier commands are ignored.
    invalidated: AtomicU64,
    pub(crate) refreshing: AtomicBool,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Writer {
    generation: Option<Generation>,
    /// When this process first had a reply with this generation. A generation is never used again, so a later
    /// reply with the same one does not change this time.
    arrived: Option<LogicalTime>,
    sent: Option<Tick>,
}

impl TenantCell {
    fn new(name: &str, invalidated: Option<Tick>) -> Self {
        Self {
            name: name.into(),
            sent: AtomicU64::new(0),
            high: AtomicU64::new(0),
            low: AtomicU64::new(0),
            invalidated: AtomicU64::new(invalidated.map_or(0, |tick| tick.0)),
            refreshing: AtomicBool::new(false),
            writer: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns when `generation` was last read, or `None` if it is not the generation that is known.
    ///
    /// `sent` is read first: `observe` publishes a new generation before its `sent`, so that a new
    /// `sent` is never paired with an old generation. The other pairing only ends an entry early,
    /// and halves of two generations equal neither.
    pub(crate) fn as_of(&self, generation: Generation) -> Option<Tick> {
        let sent = self.sent.load(Ordering::Acquire);
        let high = self.high.load(Ordering::Acquire);
        let low = self.low.load(Ordering::Acquire);
        (sent != 0 && Generation::from_halves(high, low) == generation).then_some(Tick(sent))
    }

    /// Returns whether this process invalidated the tenant at or after `sent`.
    pub(crate) fn invalidated_since(&self, sent: Tick) -> bool {
        sent.0 <= self.invalidated.load(Ordering::Acquire)
    }

    /// Returns the generation that was this tenant's at some time before `moment`, if one is known, and when it
    /// was last read.
    pub(crate) fn known_before(&self, moment: LogicalTime) -> Option<(Generation, Tick)> {
        let writer = self.lock();
        let (arrived, sent) = (writer.arrived?, writer.sent?);
        let generation = writer.generation.filter(|_| arrived < moment)?;
        Some((generation, sent))
    }

    /// Takes a reply with T's generation. `sent` is the clock before the command was sent.
    pub(crate) fn observe(&self, generation: Generation, sent: Tick, arrived: LogicalTime) {
        let mut writer = self.lock();
        if writer.sent.is_some_and(|present| sent <= present) || self.invalidated_since(sent) {
            return;
        }
        if writer.generation != Some(generation) {
            writer.generation = Some(generation);
            writer.arrived = Some(arrived);
            let (high, low) = generation.halves();
            self.high.store(high, Ordering::Release);
            self.low.store(low, Ordering::Release);
        }
        writer.sent = Some(sent);
        self.sent.store(sent.0, Ordering::Release);
        self.refreshing.store(false, Ordering::Relaxed);
    }

    /// Forgets the generation, because the tenant was invalidated before `now`.
    pub(crate) fn invalidate(&self, now: Tick) {
        let mut writer = self.lock();
        self.sent.store(0, Ordering::Release);
        self.invalidated.fetch_max(now.0, Ordering::Release);
        *writer = Writer::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
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
        Generation::from_halves(n, n)
    }

    #[test]
    fn as_of_is_the_latest_send_that_returned_the_generation() {
        let (cell, order) = (TenantCell::new("t", None), LogicalClock::default());
        assert_eq!(cell.as_of(generation(1)), None);
        cell.observe(generation(1), Tick(5), order.next());
        assert_eq!(cell.as_of(generation(1)), Some(Tick(5)));
        assert_eq!(cell.as_of(generation(2)), None);
        cell.observe(generation(2), Tick(4), order.next());
        assert_eq!(
            cell.as_of(generation(1)),
            Some(Tick(5)),
            "an older send changes nothing"
        );
        cell.observe(generation(2), Tick(6), order.next());
        assert_eq!(
            (cell.as_of(generation(1)), cell.as_of(generation(2))),
            (None, Some(Tick(6)))
        );
    }

    #[test]
    fn a_reply_to_a_send_before_an_invalidation_is_ignored() {
        let (cell, order) = (TenantCell::new("t", None), LogicalClock::default());
        cell.observe(generation(1), Tick(5), order.next());
        cell.invalidate(Tick(7));
        assert_eq!(cell.as_of(generation(1)), None);
        cell.observe(generation(1), Tick(7), order.next());
        assert_eq!(cell.as_of(generation(1)), None);
        cell.observe(generation(2), Tick(8), order.next());
        assert_eq!(cell.as_of(generation(2)), Some(Tick(8)));
    }

    #[test]
    fn a_generation_first_seen_during_a_load_is_not_known_before_it() {
        let (cell, order) = (TenantCell::new("t", None), LogicalClock::default());
        let load = order.next();
        cell.observe(generation(1), Tick(5), order.next());
        assert_eq!(cell.known_before(load), None);
        let later = order.next();
        cell.observe(generation(1), Tick(9), order.next());
        assert_eq!(
            cell.known_before(later),
            Some((generation(1), Tick(9))),
            "a refresh keeps the arrival"
        );
    }

    #[test]
    fn a_reply_from_before_an_invalidation_does_not_enter_a_cell_made_after_it() {
        let (generations, order) = (Generations::default(), LogicalClock::default());
        generations.invalidate("t", Tick(7));
        let cell = generations.cell("t");
        cell.observe(generation(1), Tick(6), order.next());
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
