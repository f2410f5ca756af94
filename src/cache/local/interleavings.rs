//! An invalidation beside a lookup whose answer is from before it.

use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use loom::thread::spawn;

use super::*;
use crate::cache::cached_token::{CacheRef, Revocations};
use crate::cache::generations::Generations;
use crate::clock::LogicalClock;
use crate::store::entry::ReadGeneration;
use crate::token::{BearerToken, TokenRecord};
use crate::util::BoxFuture;
use crate::util::sync::explore;

const READ: Tick = Tick(5);

struct NoCache;

impl Revocations<()> for NoCache {
    fn until_revoked(self: Arc<Self>, _: Arc<Principal<()>>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct World {
    local: Local<()>,
    tenants: Generations,
    /// Loom does not know that whoever drops a cell has seen all that others did with it.
    cell: Arc<GenerationCell>,
    order: LogicalClock,
}

impl World {
    fn new() -> Arc<Self> {
        let freshness = Freshness::Within(Duration::from_secs(1));
        let tenants = Generations::default();
        Arc::new(Self {
            local: Local::new(freshness, None, 8, 8),
            cell: tenants.cell("t"),
            tenants,
            order: LogicalClock::default(),
        })
    }

    /// Takes an answer, with a generation of all entries or of its tenant.
    fn answer(&self, of_all: bool) {
        let generation = Generation::parse(&"1".repeat(32)).unwrap();
        let cell = Arc::clone(if of_all { self.local.all() } else { &self.cell });
        let read = ReadGeneration::unwatched(generation, Duration::MAX);
        cell.observe(read, READ, self.order.next());
        let (of_tenant, of_all) = if of_all {
            (None, Some(generation.short()))
        } else {
            (Some(generation), None)
        };
        let entry = Entry::new(TokenRecord::new("1"), of_tenant).under(of_all);
        let principal = Principal {
            entry: Arc::new(entry),
            token: BearerToken::new("a"),
            noted: AtomicU64::new(0),
            meta: EntryMeta {
                digest: TokenDigest::of("a"),
                as_of: READ,
                watch: None,
                tenant: of_tenant.map(|_| cell),
                size: 0,
                stale: false,
                stored: true,
                refreshing: AtomicBool::new(false),
            },
            cache: Arc::new(CacheRef::new(Weak::<NoCache>::new())),
        };
        let hit = LocalEntry::Found(Arc::new(principal));
        self.local.insert(self.local.fingerprint("a", None), hit);
    }

    fn answers(&self) -> bool {
        let fingerprint = self.local.fingerprint("a", None);
        self.local.get(fingerprint, "a", Tick(9)).is_some()
    }
}

fn nothing_is_answered_from_before(of_all: bool, invalidate: fn(&World)) {
    explore(move || {
        let world = World::new();
        let (one, other) = (Arc::clone(&world), Arc::clone(&world));
        let looks = spawn(move || {
            one.answer(of_all);
            one.answers()
        });
        let invalidates = spawn(move || invalidate(&other));
        invalidates.join().unwrap();
        assert!(!world.answers(), "while the answer is inserted");
        looks.join().unwrap();
        assert!(!world.answers(), "when it is there");
    });
}

#[test]
fn nothing_is_answered_from_before_the_invalidation_of_a_token() {
    let invalidate = |world: &World| world.local.invalidate(TokenDigest::of("a"), Tick(7));
    nothing_is_answered_from_before(false, invalidate);
}

#[test]
fn nothing_is_answered_from_before_the_invalidation_of_a_tenant() {
    nothing_is_answered_from_before(false, |world| world.tenants.invalidate("t", Tick(7)));
}

#[test]
fn nothing_is_answered_from_before_the_invalidation_of_all() {
    nothing_is_answered_from_before(true, |world| world.local.all().invalidate(Tick(7)));
}
