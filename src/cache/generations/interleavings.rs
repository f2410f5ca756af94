//! Two threads with one cell, in all orders.

use loom::thread::spawn;

use super::*;
use crate::cache::local::freshness::Freshness;
use crate::clock::LogicalClock;
use crate::store::watch::{Tracker, TrackingSession};
use crate::util::sync::{explore, explore_up_to};

const NOW: Tick = Tick(1_000);

const LATER: Tick = Tick(1_100);

fn generation(n: u64) -> Generation {
    Generation::parse(&format!("{n:016x}{n:016x}")).unwrap()
}

struct World {
    cell: GenerationCell,
    order: LogicalClock,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            cell: GenerationCell::new(Group::tenant("t"), None),
            order: LogicalClock::default(),
        })
    }

    fn observe(&self, n: u64, watch: Option<Watch>, sent: u64) {
        let read = ReadGeneration {
            generation: generation(n),
            watch,
            left: Duration::MAX,
        };
        self.cell.observe(read, Tick(sent), self.order.next());
    }

    /// Returns whether a hit of an entry of the generation may be answered.
    fn hit(&self, n: u64, now: Tick) -> bool {
        let usable = Usable {
            until: Tick(2_000),
            refresh: false,
        };
        let check = |_: Proof<'_>| Some(usable);
        let hit = self
            .cell
            .check_for_hit(generation(n).short(), 0, check, now);
        hit.is_some()
    }
}

#[test]
fn a_hit_uses_no_check_from_before_an_invalidation() {
    explore(|| {
        let world = World::new();
        world.observe(1, None, 5);
        let (one, other) = (Arc::clone(&world), Arc::clone(&world));
        let hits = spawn(move || one.hit(1, NOW));
        let invalidates = spawn(move || other.cell.invalidate(Tick(7)));
        invalidates.join().unwrap();
        assert!(!world.hit(1, NOW), "while another hit notes its check");
        hits.join().unwrap();
        assert!(!world.hit(1, NOW), "when it has noted it");
    });
}

#[test]
fn a_hit_uses_no_check_from_before_another_generation() {
    for is_checked in [false, true] {
        explore(move || {
            let world = World::new();
            world.observe(1, None, 5);
            let (one, other) = (Arc::clone(&world), Arc::clone(&world));
            let hits = spawn(move || one.hit(1, NOW));
            let observes = spawn(move || {
                other.observe(2, None, 6);
                assert!(!is_checked || other.hit(2, LATER));
            });
            observes.join().unwrap();
            assert!(!world.hit(1, NOW), "while another hit notes its check");
            hits.join().unwrap();
            assert!(!world.hit(1, NOW), "when it has noted it");
        });
    }
}

#[test]
fn a_reply_from_before_an_invalidation_is_not_kept() {
    explore(|| {
        let world = World::new();
        let (one, other) = (Arc::clone(&world), Arc::clone(&world));
        let observes = spawn(move || one.observe(1, None, 5));
        let invalidates = spawn(move || {
            other.cell.invalidate(Tick(7));
            other.observe(2, None, 8);
        });
        observes.join().unwrap();
        invalidates.join().unwrap();
        assert!(!world.hit(1, NOW) && world.hit(2, NOW));
    });
}

/// A tenant's cell with its watches.
struct Watched {
    world: Arc<World>,
    tracker: Arc<Tracker>,
    session: Arc<TrackingSession>,
}

impl Watched {
    fn new() -> Arc<Self> {
        let tracker = Tracker::new("all".to_owned(), "t".to_owned());
        let session = tracker.begin(Tick(5));
        session.enter();
        let world = World::new();
        Arc::new(Self {
            world,
            tracker,
            session,
        })
    }

    fn observe(&self, n: u64, sent: u64) {
        let watch = Watch::new(Arc::clone(&self.session), self.tracker.mark("t"));
        self.world.observe(n, Some(watch), sent);
    }

    /// As the local level asks.
    fn hit(&self, n: u64, pushes: u64, now: Tick) -> bool {
        let level = Freshness::Within(Duration::from_secs(1));
        let check = |proof: Proof<'_>| level.check(&proof, Some(&self.tracker), now);
        let cell = &self.world.cell;
        let hit = cell.check_for_hit(generation(n).short(), pushes, check, now);
        hit.is_some()
    }
}

/// TR10. The checks before and after the push are of the same time, or not.
#[test]
fn a_hit_uses_no_check_from_before_a_push() {
    for later in [NOW, LATER] {
        explore_up_to(4, move || {
            let watched = Watched::new();
            watched.observe(1, 6);
            assert!(watched.hit(1, watched.tracker.pushes(), NOW));
            let other = Arc::clone(&watched);
            let changes = spawn(move || {
                other.tracker.changed(b"t");
                other.observe(2, 8);
                assert!(other.hit(2, other.tracker.pushes(), later));
            });
            let pushes = watched.tracker.pushes();
            let usable = watched.hit(1, pushes, NOW);
            assert!(!usable || pushes == 0, "after the push");
            changes.join().unwrap();
        });
    }
}

#[test]
fn a_new_cell_keeps_no_reply_from_before_an_invalidation() {
    explore(|| {
        let (generations, order) = (Arc::new(Generations::default()), LogicalClock::default());
        let other = Arc::clone(&generations);
        let invalidates = spawn(move || other.invalidate("t", Tick(7)));
        let cell = generations.cell("t");
        let read = ReadGeneration::unwatched(generation(1), Duration::MAX);
        cell.observe(read, Tick(5), order.next());
        invalidates.join().unwrap();
        assert!(!cell.is_known(|_| Some(Usable::ALWAYS)));
    });
}
