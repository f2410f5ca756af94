//! The local level: answers in this process's memory (protocol.md section 6).
//!
//! An entry is found by a keyed hash of the presented token, so that a hit computes no SHA-256. The key is random
//! for each process, so that no client can make two tokens collide.
//!
//! The maps are from `quick_cache` and bounded by weight. Compared with moka (`benches/compare/local_maps.rs`),
//! a hit by one thread takes a third of the time, and two threads get several times as many hits.

mod evictions;
pub(in crate::cache) mod freshness;
mod invalidated;

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use siphasher::sip128::{Hasher128, SipHasher13};

use evictions::{Evictions, Inserting};
use freshness::Usable;
pub(crate) use freshness::{Freshness, Proof};
use invalidated::Invalidated;

use crate::cache::cached_token::{EntryMeta, Principal};
use crate::cache::generations::GenerationCell;
use crate::clock::Tick;
use crate::metrics::Counter;
use crate::store::entry::{Entry, Generation, Group, ShortGeneration};
use crate::store::watch::Tracker;
use crate::token::TokenDigest;

/// The keyed hash of a token, and of its type if keys hold one. A `u128`, which is aligned to 16 bytes, would take
/// 16 bytes more for each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u64; 2]);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// An unknown token in the local level.
pub(crate) struct Negative {
    pub(crate) entry: Arc<Entry<()>>,
    pub(crate) meta: EntryMeta,
}

/// Returns whether the TTL is over, or whether the in-memory store deleted the entry.
fn ended<T>(entry: &Entry<T>, now: Tick) -> bool {
    entry.revoked.load(Ordering::Acquire) || entry.until <= now
}

/// An entry of the local level: a record, which may be denied, or the fact that the token is unknown.
pub(crate) enum LocalEntry<M> {
    Found(Arc<Principal<M>>),
    Absent(Arc<Negative>),
}

impl<M> Clone for LocalEntry<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(principal) => Self::Found(Arc::clone(principal)),
            Self::Absent(negative) => Self::Absent(Arc::clone(negative)),
        }
    }
}

impl<M> LocalEntry<M> {
    /// Returns whether the entry is of `token` and has not ended at `now`, apart from its freshness.
    fn is_usable(&self, token: &str, now: Tick) -> bool {
        match self {
            Self::Found(principal) => principal.token.is(token) && !ended(&principal.entry, now),
            Self::Absent(negative) => !ended(&negative.entry, now),
        }
    }

    /// Returns the generation of all entries that it was filled under.
    pub(crate) fn all(&self) -> Option<ShortGeneration> {
        match self {
            Self::Found(principal) => principal.entry.all,
            Self::Absent(negative) => negative.entry.all,
        }
    }

    fn generation(&self) -> Option<Generation> {
        match self {
            Self::Found(principal) => principal.entry.generation,
            Self::Absent(negative) => negative.entry.generation,
        }
    }

    fn proof(&self) -> Proof<'_> {
        let meta = self.meta();
        let is_record = matches!(self, Self::Found(it) if !it.entry.value.is_denied());
        Proof {
            sent: meta.as_of,
            watch: meta.watch.as_ref(),
            is_watchable: is_record && meta.stored && !meta.stale,
        }
    }

    /// Lets another hit start a refresh, after one that brought no answer.
    pub(crate) fn refresh_ended(&self) {
        self.meta().refreshing.store(false, Ordering::Relaxed);
    }
}

/// Gives access to the metadata of an entry of either map.
trait HasMeta {
    fn meta(&self) -> &EntryMeta;
}

impl<M> HasMeta for Arc<Principal<M>> {
    fn meta(&self) -> &EntryMeta {
        &self.meta
    }
}

impl<M> HasMeta for LocalEntry<M> {
    fn meta(&self) -> &EntryMeta {
        match self {
            Self::Found(principal) => &principal.meta,
            Self::Absent(negative) => &negative.meta,
        }
    }
}

/// The refreshes that a hit starts in the background. Only one hit starts each of them.
#[derive(Default)]
pub(crate) struct Refreshes {
    pub(crate) entry: bool,
    pub(crate) all: bool,
    pub(crate) tenant: Option<Arc<GenerationCell>>,
}

type Map<V> = Cache<Fingerprint, V, Weigh, Spread, Evictions>;

pub(crate) struct Local<M> {
    freshness: Freshness,
    tracker: Option<Arc<Tracker>>,
    records: Map<Arc<Principal<M>>>,
    /// Unknown tokens, and denied records.
    negatives: Map<LocalEntry<M>>,
    /// The numbers of entries that either map evicted.
    evicted: (Arc<Counter>, Arc<Counter>),
    invalidated: Invalidated,
    /// The generation of all entries.
    all: Arc<GenerationCell>,
    /// The hash of tokens.
    tokens: SipHasher13,
    /// The hash of tokens with types, which has another key.
    pairs: SipHasher13,
}

impl<M> Local<M> {
    /// Creates a level. `tracker` counts the reported changes, if the store reports any.
    pub(crate) fn new(
        freshness: Freshness,
        tracker: Option<Arc<Tracker>>,
        records: usize,
        negatives: usize,
    ) -> Self {
        let evicted = <(Arc<Counter>, Arc<Counter>)>::default();
        Self {
            invalidated: Invalidated::new(freshness.bound()),
            all: Arc::new(GenerationCell::new(Group::All, None)),
            freshness,
            tracker,
            records: map(records, &evicted.0),
            negatives: map(negatives, &evicted.1),
            evicted,
            tokens: SipHasher13::new_with_keys(random(), random()),
            pairs: SipHasher13::new_with_keys(random(), random()),
        }
    }

    /// Returns what is known of the generation of all entries.
    pub(crate) fn all(&self) -> &Arc<GenerationCell> {
        &self.all
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Returns the fingerprint of an entry. `token_type` is the one in its key.
    pub(crate) fn fingerprint(&self, token: &str, token_type: Option<&str>) -> Fingerprint {
        let hash = match token_type {
            None => self.tokens.hash(token.as_bytes()),
            Some(token_type) => {
                let mut hasher = self.pairs;
                hasher.write(token.as_bytes());
                // No UTF-8 text contains this byte, so that no two pairs have the same input.
                hasher.write(&[0xff]);
                hasher.write(token_type.as_bytes());
                hasher.finish128()
            }
        };
        Fingerprint([hash.h1, hash.h2])
    }

    /// Returns the entry if it may be used at `now`, which must be read from the clock after the request began.
    pub(crate) fn get(
        &self,
        fingerprint: Fingerprint,
        token: &str,
        now: Tick,
    ) -> Option<(LocalEntry<M>, Refreshes)> {
        let hit = match self.records.get(&fingerprint) {
            Some(principal) => LocalEntry::Found(principal),
            None => self.negatives.get(&fingerprint)?,
        };
        if !hit.is_usable(token, now) {
            return None;
        }
        let refreshes = self.fresh(&hit, now)?;
        Some((hit, refreshes))
    }

    /// Returns whether there is a record for the fingerprint, usable or not. Then it is worth a watch.
    pub(crate) fn remembers(&self, fingerprint: Fingerprint) -> bool {
        self.records.peek(&fingerprint).is_some()
    }

    /// Returns until when what `proof` proves may be used, or `None` if it may not be used at `now`.
    pub(crate) fn check(&self, proof: Proof<'_>, now: Tick) -> Option<Usable> {
        self.freshness.check(&proof, self.tracker.as_deref(), now)
    }

    /// Returns the refreshes that a hit of the entry starts, or `None` if the entry may not be used.
    fn fresh(&self, hit: &LocalEntry<M>, now: Tick) -> Option<Refreshes> {
        let tracker = self.tracker.as_deref();
        let pushes = tracker.map_or(0, Tracker::pushes);
        let check = |proof: Proof<'_>| self.freshness.check(&proof, tracker, now);
        let known =
            |cell: &GenerationCell, generation| cell.check_for_hit(generation, pushes, check, now);
        let [entry, all, tenant] = self.usable(hit, tracker, now, known)?;
        let meta = hit.meta();
        let tenant = meta
            .tenant
            .as_ref()
            .filter(|cell| tenant.refresh && first(&cell.refreshing));
        Some(Refreshes {
            entry: entry.refresh && first(&meta.refreshing),
            all: all.refresh && first(&self.all.refreshing),
            tenant: tenant.cloned(),
        })
    }

    /// Returns what the proofs of the entry, of the generation of all and of its tenant's say, or `None` if one of them
    /// may not be used at `now`. `known` says it of a generation.
    fn usable(
        &self,
        hit: &LocalEntry<M>,
        tracker: Option<&Tracker>,
        now: Tick,
        known: impl Fn(&GenerationCell, ShortGeneration) -> Option<Usable>,
    ) -> Option<[Usable; 3]> {
        let meta = hit.meta();
        let entry = self.freshness.check(&hit.proof(), tracker, now)?;
        if self.invalidated.since(&meta.digest, meta.as_of, now) {
            return None;
        }
        // guard: AL3
        if self.all.invalidated_since(meta.as_of) {
            return None;
        }
        let all = match hit.all() {
            // guard: AL4
            Some(all) => known(&self.all, all)?,
            None => Usable::ALWAYS,
        };
        let tenant = match (&meta.tenant, hit.generation()) {
            (None, _) => Usable::ALWAYS,
            // guard: S6
            (Some(cell), _) if cell.invalidated_since(meta.as_of) => return None,
            (Some(cell), Some(generation)) => known(cell, generation.short())?,
            // The Python service writes no generation.
            (Some(_), None) => Usable::ALWAYS,
        };
        Some([entry, all, tenant])
    }

    /// Returns until when the entry may be used if nothing else is heard of it, or `None` if it may not be used at
    /// `now`. Whoever is `patient` takes what is not watched for as good as where nothing is.
    pub(crate) fn proved_until(
        &self,
        principal: &Arc<Principal<M>>,
        patient: bool,
        now: Tick,
    ) -> Option<Tick> {
        let hit = LocalEntry::Found(Arc::clone(principal));
        if !hit.is_usable(principal.token.expose(), now) {
            return None;
        }
        let tracker = self.tracker.as_deref().filter(|_| !patient);
        let check = |proof: Proof<'_>| self.freshness.check(&proof, tracker, now);
        let known = |cell: &GenerationCell, generation| cell.check(generation, check, now);
        let proofs = self.usable(&hit, tracker, now, known)?;
        let until = proofs.map(|proof| proof.until).into_iter().min()?;
        Some(until.min(principal.entry.until))
    }

    /// Inserts an answer, unless it is from before an invalidation or older than the entry that is there.
    pub(crate) fn insert(&self, fingerprint: Fingerprint, hit: LocalEntry<M>) {
        if self.freshness.is_off() || self.is_invalidated(hit.meta()) {
            return;
        }
        match hit {
            // guard: B3
            LocalEntry::Found(principal) if !principal.entry.value.is_denied() => {
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
        let is_newer = |present: &V| present.meta().as_of >= entry.meta().as_of;
        if self.freshness.is_bounded() && map.peek(&fingerprint).as_ref().is_some_and(is_newer) {
            return;
        }
        other.remove(&fingerprint);
        let mut inserting = Inserting::of(fingerprint);
        map.insert_with_lifecycle(fingerprint, entry, &mut inserting);
    }

    fn is_invalidated(&self, meta: &EntryMeta) -> bool {
        self.invalidated.since(&meta.digest, meta.as_of, meta.as_of)
    }

    /// Invalidates the token's entries that are not from after `now` (I4).
    pub(crate) fn invalidate(&self, digest: TokenDigest, now: Tick) {
        self.invalidated.note(digest, now);
    }

    /// Returns the numbers of valid records, and of unknown tokens together with denied records.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.records.len(), self.negatives.len())
    }

    /// Returns how many valid records, and how many unknown and denied tokens, were evicted.
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

/// Sets the flag, and returns whether the caller is the first to do so. The flag is read before it is written,
/// so that a hot entry's cache line stays shared between cores.
fn first(flag: &AtomicBool) -> bool {
    !flag.load(Ordering::Relaxed) && !flag.swap(true, Ordering::Relaxed)
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system's random generator")
}

/// Weighs an entry by its size in KiB, rounded up.
#[derive(Clone)]
struct Weigh;

impl<V: HasMeta> Weighter<Fingerprint, V> for Weigh {
    fn weight(&self, _: &Fingerprint, entry: &V) -> u64 {
        u64::from(entry.meta().size).div_ceil(1024).max(1)
    }
}

/// Uses the fingerprint as the hash, because it is a keyed hash already.
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

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(all(test, interleavings))]
mod interleavings;

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;
    use crate::cache::cached_token::{CacheRef, Revocations};
    use crate::cache::generations::Generations;
    use crate::clock::LogicalClock;
    use crate::store::entry::{Generation, ReadGeneration};
    use crate::token::{BearerToken, TokenRecord};
    use crate::util::BoxFuture;

    #[test]
    fn pairs_of_token_and_type_have_different_fingerprints() {
        let local = Local::<()>::new(Freshness::Off, None, 1, 1);
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
    fn another_process_has_other_fingerprints() {
        let one = Local::<()>::new(Freshness::Off, None, 1, 1);
        let other = Local::<()>::new(Freshness::Off, None, 1, 1);
        assert!(one.fingerprint("abc", None) != other.fingerprint("abc", None));
    }

    struct NoCache;

    impl Revocations<()> for NoCache {
        fn until_revoked(self: Arc<Self>, _: Arc<Principal<()>>) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    const BOUND: u64 = 100;

    fn level(freshness: Freshness) -> Local<()> {
        Local::new(freshness, None, 64, 64)
    }

    fn bounded() -> Local<()> {
        level(Freshness::Within(Duration::from_nanos(BOUND)))
    }

    fn meta(token: &str, sent: u64, size: u32) -> EntryMeta {
        EntryMeta {
            digest: TokenDigest::of(token),
            as_of: Tick(sent),
            watch: None,
            tenant: None,
            size,
            stale: false,
            stored: true,
            refreshing: AtomicBool::new(false),
        }
    }

    fn put(local: &Local<()>, token: &str, meta: EntryMeta) {
        put_of(local, token, None, meta);
    }

    fn put_of(local: &Local<()>, token: &str, generation: Option<Generation>, meta: EntryMeta) {
        put_record(
            local,
            token,
            TokenRecord::new("1").token_type("app"),
            generation,
            meta,
        );
    }

    fn put_record(
        local: &Local<()>,
        token: &str,
        record: TokenRecord,
        generation: Option<Generation>,
        meta: EntryMeta,
    ) {
        let principal = Principal {
            entry: Arc::new(Entry::new(record, generation)),
            token: BearerToken::new(token),
            noted: AtomicU64::new(0),
            meta,
            cache: Arc::new(CacheRef::new(Weak::<NoCache>::new())),
        };
        let hit = LocalEntry::Found(Arc::new(principal));
        local.insert(local.fingerprint(token, None), hit);
    }

    fn put_absent(local: &Local<()>, token: &str, meta: EntryMeta) {
        let entry = Arc::new(Entry::new((), None));
        let absent = LocalEntry::Absent(Arc::new(Negative { entry, meta }));
        local.insert(local.fingerprint(token, None), absent);
    }

    fn hit(local: &Local<()>, token: &str, now: u64) -> Option<(LocalEntry<()>, Refreshes)> {
        local.get(local.fingerprint(token, None), token, Tick(now))
    }

    /// Returns the time that the entry is as of, and whether it is a record.
    fn as_of(local: &Local<()>, token: &str, now: u64) -> Option<(u64, bool)> {
        hit(local, token, now).map(|(hit, _)| match hit {
            LocalEntry::Found(principal) => (principal.meta.as_of.0, true),
            LocalEntry::Absent(negative) => (negative.meta.as_of.0, false),
        })
    }

    #[test]
    fn an_entry_from_before_an_invalidation_is_not_inserted_after_it() {
        let local = bounded();
        local.invalidate(TokenDigest::of("a"), Tick(7));
        put(&local, "a", meta("a", 7, 0));
        put_absent(&local, "a", meta("a", 7, 0));
        assert_eq!(local.len(), (0, 0));
        put(&local, "a", meta("a", 8, 0));
        assert_eq!(as_of(&local, "a", 9), Some((8, true)));
    }

    #[test]
    fn an_older_entry_does_not_replace_a_newer_one() {
        let local = bounded();
        for (sent, expected) in [(8, 8), (5, 8), (8, 8), (9, 9)] {
            put(&local, "a", meta("a", sent, 0));
            assert_eq!(as_of(&local, "a", 20), Some((expected, true)));
            put_absent(&local, "n", meta("n", sent, 0));
            assert_eq!(as_of(&local, "n", 20), Some((expected, false)));
        }
        put_absent(&local, "a", meta("a", 10, 0));
        assert_eq!(as_of(&local, "a", 20), Some((10, false)));
        put(&local, "a", meta("a", 11, 0));
        assert_eq!(as_of(&local, "a", 20), Some((11, true)));
        assert_eq!(local.len(), (1, 1));
    }

    #[test]
    fn a_denied_record_is_a_negative_and_replaces_the_valid_one() {
        let local = bounded();
        put(&local, "a", meta("a", 8, 0));
        assert_eq!(local.len(), (1, 0));
        let denied = TokenRecord::new("1").token_type("app").denied("no");
        put_record(&local, "a", denied, None, meta("a", 9, 0));
        assert_eq!(local.len(), (0, 1));
        assert_eq!(as_of(&local, "a", 20), Some((9, true)));
        put(&local, "a", meta("a", 10, 0));
        assert_eq!(local.len(), (1, 0));
    }

    #[test]
    fn in_front_of_the_memory_store_the_last_answer_wins() {
        let local = level(Freshness::Own);
        for sent in [8, 5] {
            put(&local, "a", meta("a", sent, 0));
            assert_eq!(as_of(&local, "a", 20), Some((sent, true)));
            put_absent(&local, "n", meta("n", sent, 0));
            assert_eq!(as_of(&local, "n", 20), Some((sent, false)));
        }
    }

    #[test]
    fn a_level_that_is_off_stores_nothing() {
        let local = level(Freshness::Off);
        put(&local, "a", meta("a", 1, 0));
        put_absent(&local, "n", meta("n", 1, 0));
        assert_eq!(local.len(), (0, 0));
    }

    #[test]
    fn one_hit_requests_a_refresh_and_none_does_before_half_of_the_bound() {
        let local = bounded();
        let (tenants, order) = (Generations::default(), LogicalClock::default());
        let (cell, generation) = (tenants.cell("t"), Generation::new());
        let read = ReadGeneration::unwatched(generation, Duration::MAX);
        cell.observe(read, Tick(1_000), order.next());
        let meta = EntryMeta {
            tenant: Some(cell),
            ..meta("a", 1_000, 0)
        };
        put_of(&local, "a", Some(generation), meta);
        let wanted = |now| {
            let (_, refresh) = hit(&local, "a", now).unwrap();
            (refresh.entry, refresh.tenant.is_some())
        };
        assert_eq!(wanted(1_000 + BOUND / 2 - 10), (false, false));
        assert_eq!(wanted(1_000 + BOUND / 2), (true, true));
        assert_eq!(wanted(1_000 + BOUND / 2), (false, false));
    }

    #[test]
    fn evictions_are_counted_and_replacements_are_not() {
        let local = level(Freshness::Own);
        for n in 1..=5 {
            put(&local, "a", meta("a", n, 0));
            put_absent(&local, "n", meta("n", n, 0));
        }
        assert_eq!((local.len(), local.evicted()), ((1, 1), (0, 0)));
        for n in 0..200 {
            put(&local, &format!("a{n}"), meta("", 1, 0));
            put_absent(&local, &format!("n{n}"), meta("", 1, 0));
        }
        let (held, out) = (local.len(), local.evicted());
        assert_eq!((held.0 as u64 + out.0, held.1 as u64 + out.1), (201, 201));
    }

    #[test]
    fn a_large_negative_weighs_its_size() {
        let local = bounded();
        for n in 0..20 {
            put_absent(&local, &n.to_string(), meta("", 1, 16 * 1024));
        }
        assert!(local.len().1 <= 4, "{:?}", local.len());
    }

    #[test]
    fn the_maps_use_the_fingerprint_itself_as_the_hash() {
        let hashes = [1, 2, 3].map(|n| Spread.hash_one(Fingerprint([n, 0])));
        assert_eq!(hashes, [1, 2, 3]);
    }
}
