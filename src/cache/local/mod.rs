//! The local level: answers in this process's memory (protocol.md section 6).
//!
//! An entry is found by a keyed hash of the presented token, so that a hit computes no SHA-256; the
//! key is random for each process, so that nobody outside can make two tokens collide.
//!
//! The maps are `quick_cache`'s: bounded by weight, and measured against moka (`benches/compare/local_maps.rs`)
//! a third of the time for a hit by one thread, and several times the hits by two.

mod evictions;
mod freshness;
mod invalidated;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use siphasher::sip128::{Hasher128, SipHasher13};

use evictions::{Evictions, Inserting};
pub(crate) use freshness::Freshness;
use invalidated::Invalidated;

use crate::cache::cached_token::{EntryMeta, Principal};
use crate::cache::generations::TenantCell;
use crate::clock::Tick;
use crate::metrics::Counter;
use crate::store::entry::{Generation, Kept};
use crate::token::TokenDigest;

/// The keyed hash of a token, and where keys hold one of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u128);

/// A null in the local level.
pub(crate) struct Negative {
    pub(crate) kept: Arc<Kept<()>>,
    pub(crate) meta: EntryMeta,
}

/// Whether the time to live is over, or the store behind deleted the entry.
fn ended<T>(kept: &Kept<T>, now: Tick) -> bool {
    kept.revoked.load(Ordering::Acquire) || kept.until <= now
}

/// An entry: a record, which may be a denied one, or a null.
pub(crate) enum Entry<M> {
    Found(Arc<Principal<M>>),
    Absent(Arc<Negative>),
}

impl<M> Clone for Entry<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(principal) => Self::Found(Arc::clone(principal)),
            Self::Absent(null) => Self::Absent(Arc::clone(null)),
        }
    }
}

impl<M> Entry<M> {
    /// Whether it answers for `token` at `now`, as far as the entry itself says.
    fn is_usable(&self, token: &str, now: Tick) -> bool {
        match self {
            Self::Found(principal) => principal.token.is(token) && !ended(&principal.kept, now),
            Self::Absent(null) => !ended(&null.kept, now),
        }
    }

    fn generation(&self) -> Option<Generation> {
        match self {
            Self::Found(principal) => principal.kept.generation,
            Self::Absent(null) => null.kept.generation,
        }
    }
}

/// What proves an entry of either map.
trait HasMeta {
    fn meta(&self) -> &EntryMeta;
}

impl<M> HasMeta for Arc<Principal<M>> {
    fn meta(&self) -> &EntryMeta {
        &self.meta
    }
}

impl<M> HasMeta for Entry<M> {
    fn meta(&self) -> &EntryMeta {
        match self {
            Self::Found(principal) => &principal.meta,
            Self::Absent(null) => &null.meta,
        }
    }
}

/// What a hit should set off in the background, once.
#[derive(Default)]
pub(crate) struct Refresh {
    pub(crate) entry: bool,
    pub(crate) tenant: Option<Arc<TenantCell>>,
}

type Map<V> = Cache<Fingerprint, V, Weigh, Spread, Evictions>;

pub(crate) struct Local<M> {
    freshness: Freshness,
    records: Map<Arc<Principal<M>>>,
    /// Nulls, and denied records.
    negatives: Map<Entry<M>>,
    evicted: (Arc<Counter>, Arc<Counter>),
    invalidated: Invalidated,
    keys: (u64, u64),
}

impl<M> Local<M> {
    pub(crate) fn new(freshness: Freshness, records: usize, negatives: usize) -> Self {
        let evicted = <(Arc<Counter>, Arc<Counter>)>::default();
        Self {
            invalidated: Invalidated::new(freshness.bound()),
            freshness,
            records: map(records, &evicted.0),
            negatives: map(negatives, &evicted.1),
            evicted,
            keys: (random(), random()),
        }
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// `token_type` is the one in the entry's key.
    pub(crate) fn fingerprint(&self, token: &str, token_type: Option<&str>) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(token.as_bytes());
        // No text has these two bytes in it, so that no two pairs read the same.
        match token_type {
            None => hasher.write(&[0xfe]),
            Some(token_type) => {
                hasher.write(&[0xff]);
                hasher.write(token_type.as_bytes());
            }
        }
        Fingerprint(hasher.finish128().as_u128())
    }

    /// The entry, if it may be used at `now`, a reading of the clock from after the request's start.
    pub(crate) fn get(
        &self,
        fingerprint: Fingerprint,
        token: &str,
        now: Tick,
    ) -> Option<(Entry<M>, Refresh)> {
        if self.freshness.is_off() {
            return None;
        }
        let hit = match self.records.get(&fingerprint) {
            Some(principal) => Entry::Found(principal),
            None => self.negatives.get(&fingerprint)?,
        };
        if !hit.is_usable(token, now) {
            return None;
        }
        let refresh = self.fresh(hit.meta(), hit.generation(), now)?;
        Some((hit, refresh))
    }

    fn fresh(
        &self,
        meta: &EntryMeta,
        generation: Option<Generation>,
        now: Tick,
    ) -> Option<Refresh> {
        let entry = self.freshness.age(meta.as_of, now)?;
        if self.invalidated.since(&meta.digest, meta.as_of, now) {
            return None;
        }
        let tenant = match &meta.tenant {
            None => None,
            Some(cell) if cell.invalidated_since(meta.as_of) => return None,
            Some(cell) => match generation {
                // The Python service writes none.
                None => None,
                Some(generation) => {
                    let sent = cell.as_of(generation)?;
                    let age = self.freshness.age(sent, now)?;
                    (self.freshness.wants_refresh(age) && first(&cell.refreshing))
                        .then(|| Arc::clone(cell))
                }
            },
        };
        let entry = self.freshness.wants_refresh(entry) && first(&meta.refreshing);
        Some(Refresh { entry, tenant })
    }

    /// Takes a proven answer. Only the flight of its key calls this, and there is one at a time.
    pub(crate) fn insert(&self, fingerprint: Fingerprint, hit: Entry<M>) {
        if self.freshness.is_off() || self.outdated(hit.meta()) {
            return;
        }
        match hit {
            Entry::Found(principal) if !principal.kept.what.is_denied() => {
                self.put(fingerprint, principal, &self.records, &self.negatives);
            }
            negative => self.put(fingerprint, negative, &self.negatives, &self.records),
        }
    }

    fn put<V: HasMeta + Clone, O: HasMeta + Clone>(
        &self,
        fingerprint: Fingerprint,
        entry: V,
        map: &Map<V>,
        other: &Map<O>,
    ) {
        let newer = |present: &V| present.meta().as_of >= entry.meta().as_of;
        if self.freshness.is_bounded() && map.peek(&fingerprint).as_ref().is_some_and(newer) {
            return;
        }
        other.remove(&fingerprint);
        let mut inserting = Inserting::of(fingerprint);
        map.insert_with_lifecycle(fingerprint, entry, &mut inserting);
    }

    fn outdated(&self, meta: &EntryMeta) -> bool {
        self.invalidated.since(&meta.digest, meta.as_of, meta.as_of)
    }

    /// I4: what was proved before `now` counts no longer for this token.
    pub(crate) fn invalidate(&self, digest: TokenDigest, now: Tick) {
        self.invalidated.note(digest, now);
    }

    /// Entries held: records, and nulls with denied records.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.records.len(), self.negatives.len())
    }

    /// Entries pushed out so far, likewise.
    pub(crate) fn evicted(&self) -> (u64, u64) {
        (self.evicted.0.get(), self.evicted.1.get())
    }
}

fn map<V: HasMeta + Clone>(capacity: usize, evicted: &Arc<Counter>) -> Map<V> {
    Cache::with(
        capacity.max(1),
        capacity as u64,
        Weigh,
        Spread,
        Evictions::counted_by(evicted),
    )
}

/// Whether the caller is the first to raise the flag. It is looked at before it is written, so that
/// a hot entry's cache line is not passed around.
fn first(flag: &AtomicBool) -> bool {
    !flag.load(Ordering::Relaxed) && !flag.swap(true, Ordering::Relaxed)
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system's random generator")
}

/// An entry counts once for each KiB that it begins.
#[derive(Clone)]
struct Weigh;

impl<V: HasMeta> Weighter<Fingerprint, V> for Weigh {
    fn weight(&self, _: &Fingerprint, entry: &V) -> u64 {
        u64::from(entry.meta().size).div_ceil(1024).max(1)
    }
}

/// The fingerprint is a keyed hash already.
#[derive(Clone)]
struct Spread;

impl BuildHasher for Spread {
    type Hasher = Half;

    fn build_hasher(&self) -> Half {
        Half(0)
    }
}

struct Half(u64);

impl Hasher for Half {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_ne_bytes(word);
        }
    }

    fn write_u128(&mut self, whole: u128) {
        self.0 = whole as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;
    use crate::cache::generations::Generations;
    use crate::clock::LogicalClock;
    use crate::store::entry::Generation;
    use crate::token::{BearerToken, TokenRecord};

    #[test]
    fn no_two_pairs_of_token_and_type_have_one_fingerprint() {
        let local = Local::<()>::new(Freshness::Off, 1, 1);
        let pairs = [
            ("abc", None),
            ("abc", Some("")),
            ("ab", Some("c")),
            ("a", Some("bc")),
            ("c", Some("ab")),
            ("", Some("abc")),
        ];
        for (nth, (token, token_type)) in pairs.into_iter().enumerate() {
            let one = local.fingerprint(token, token_type);
            assert!(one == local.fingerprint(token, token_type));
            for (token, token_type) in &pairs[nth + 1..] {
                assert!(
                    one != local.fingerprint(token, *token_type),
                    "{token:?} {token_type:?}"
                );
            }
        }
    }

    #[test]
    fn another_process_hashes_a_token_to_something_else() {
        let one = Local::<()>::new(Freshness::Off, 1, 1);
        let other = Local::<()>::new(Freshness::Off, 1, 1);
        assert!(one.fingerprint("abc", None) != other.fingerprint("abc", None));
        assert!(one.keys.0 != one.keys.1);
    }

    const BOUND: u64 = 100;

    fn level(freshness: Freshness) -> Local<()> {
        Local::new(freshness, 64, 64)
    }

    fn bounded() -> Local<()> {
        level(Freshness::Within(Duration::from_nanos(BOUND)))
    }

    fn proof(token: &str, sent: u64, size: u32) -> EntryMeta {
        EntryMeta {
            digest: TokenDigest::of(token),
            as_of: Tick(sent),
            tenant: None,
            size,
            stale: false,
            refreshing: AtomicBool::new(false),
        }
    }

    fn put(local: &Local<()>, token: &str, proof: EntryMeta) {
        put_of(local, token, None, proof);
    }

    fn put_of(local: &Local<()>, token: &str, generation: Option<Generation>, proof: EntryMeta) {
        put_record(
            local,
            token,
            TokenRecord::new("1").token_type("app"),
            generation,
            proof,
        );
    }

    fn put_record(
        local: &Local<()>,
        token: &str,
        record: TokenRecord,
        generation: Option<Generation>,
        proof: EntryMeta,
    ) {
        let principal = Principal {
            kept: Arc::new(Kept::new(record, generation)),
            token: BearerToken::new(token),
            noted: AtomicU64::new(0),
            meta: proof,
        };
        let hit = Entry::Found(Arc::new(principal));
        local.insert(local.fingerprint(token, None), hit);
    }

    fn put_null(local: &Local<()>, token: &str, proof: EntryMeta) {
        let kept = Arc::new(Kept::new((), None));
        let null = Entry::Absent(Arc::new(Negative { kept, meta: proof }));
        local.insert(local.fingerprint(token, None), null);
    }

    fn hit(local: &Local<()>, token: &str, now: u64) -> Option<(Entry<()>, Refresh)> {
        local.get(local.fingerprint(token, None), token, Tick(now))
    }

    /// When the entry in the level was proved, and whether it is a record.
    fn proved(local: &Local<()>, token: &str, now: u64) -> Option<(u64, bool)> {
        hit(local, token, now).map(|(hit, _)| match hit {
            Entry::Found(principal) => (principal.meta.as_of.0, true),
            Entry::Absent(null) => (null.meta.as_of.0, false),
        })
    }

    #[test]
    fn what_was_proved_before_an_invalidation_is_not_taken_in_after_it() {
        let local = bounded();
        local.invalidate(TokenDigest::of("a"), Tick(7));
        put(&local, "a", proof("a", 7, 0));
        put_null(&local, "a", proof("a", 7, 0));
        assert_eq!(local.len(), (0, 0));
        put(&local, "a", proof("a", 8, 0));
        assert_eq!(proved(&local, "a", 9), Some((8, true)));
    }

    #[test]
    fn an_older_proof_does_not_take_a_newer_ones_place() {
        let local = bounded();
        for (sent, expected) in [(8, 8), (5, 8), (8, 8), (9, 9)] {
            put(&local, "a", proof("a", sent, 0));
            assert_eq!(proved(&local, "a", 20), Some((expected, true)));
            put_null(&local, "n", proof("n", sent, 0));
            assert_eq!(proved(&local, "n", 20), Some((expected, false)));
        }
        put_null(&local, "a", proof("a", 10, 0));
        assert_eq!(proved(&local, "a", 20), Some((10, false)));
        put(&local, "a", proof("a", 11, 0));
        assert_eq!(proved(&local, "a", 20), Some((11, true)));
        assert_eq!(local.len(), (1, 1));
    }

    #[test]
    fn a_denied_record_is_in_the_budget_of_the_nulls_and_takes_the_good_ones_place() {
        let local = bounded();
        put(&local, "a", proof("a", 8, 0));
        assert_eq!(local.len(), (1, 0));
        let denied = TokenRecord::new("1").token_type("app").denied("no");
        put_record(&local, "a", denied, None, proof("a", 9, 0));
        assert_eq!(local.len(), (0, 1));
        assert_eq!(proved(&local, "a", 20), Some((9, true)));
        put(&local, "a", proof("a", 10, 0));
        assert_eq!(local.len(), (1, 0));
    }

    #[test]
    fn in_front_of_this_process_own_memory_the_last_answer_counts() {
        let local = level(Freshness::Own);
        for sent in [8, 5] {
            put(&local, "a", proof("a", sent, 0));
            assert_eq!(proved(&local, "a", 20), Some((sent, true)));
            put_null(&local, "n", proof("n", sent, 0));
            assert_eq!(proved(&local, "n", 20), Some((sent, false)));
        }
    }

    #[test]
    fn a_level_that_is_off_takes_nothing_in() {
        let local = level(Freshness::Off);
        put(&local, "a", proof("a", 1, 0));
        put_null(&local, "n", proof("n", 1, 0));
        assert_eq!(local.len(), (0, 0));
    }

    #[test]
    fn one_hit_of_all_asks_for_a_refresh_and_none_before_half_of_the_bound() {
        let local = bounded();
        let (tenants, order) = (Generations::default(), LogicalClock::default());
        let (cell, generation) = (tenants.cell("t"), Generation::from_halves(1, 2));
        cell.observe(generation, Tick(1_000), order.next());
        let proof = EntryMeta {
            tenant: Some(cell),
            ..proof("a", 1_000, 0)
        };
        put_of(&local, "a", Some(generation), proof);
        let wanted = |now| {
            let (_, refresh) = hit(&local, "a", now).unwrap();
            (refresh.entry, refresh.tenant.is_some())
        };
        assert_eq!(wanted(1_000 + BOUND / 2 - 1), (false, false));
        assert_eq!(wanted(1_000 + BOUND / 2), (true, true));
        assert_eq!(wanted(1_000 + BOUND / 2), (false, false));
    }

    #[test]
    fn what_is_pushed_out_is_counted_and_what_is_replaced_is_not() {
        let local = level(Freshness::Own);
        for n in 1..=5 {
            put(&local, "a", proof("a", n, 0));
            put_null(&local, "n", proof("n", n, 0));
        }
        assert_eq!((local.len(), local.evicted()), ((1, 1), (0, 0)));
        for n in 0..200 {
            put(&local, &format!("a{n}"), proof("", 1, 0));
            put_null(&local, &format!("n{n}"), proof("", 1, 0));
        }
        let (kept, out) = (local.len(), local.evicted());
        assert_eq!((kept.0 as u64 + out.0, kept.1 as u64 + out.1), (201, 201));
    }

    #[test]
    fn a_large_denial_weighs_what_it_is() {
        let local = bounded();
        for n in 0..20 {
            put_null(&local, &n.to_string(), proof("", 1, 16 * 1024));
        }
        assert!(local.len().1 <= 4, "{:?}", local.len());
    }

    #[test]
    fn the_maps_tell_entries_apart_by_the_fingerprint_itself() {
        let hashes = [1, 2, 3].map(|n| Spread.hash_one(Fingerprint(n)));
        assert_eq!(hashes, [1, 2, 3]);
    }
}
