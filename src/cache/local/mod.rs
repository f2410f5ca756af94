//! The local level: answers in this process's memory (PROTOCOL.md section 6).
//!
//! An entry is found by a keyed hash of the presented token, so that a hit computes no SHA-256; the
//! key is random for each process, so that nobody outside can make two tokens collide.
//!
//! The maps are `quick_cache`'s: bounded by weight, and measured against moka (`benches/local_maps.rs`)
//! a third of the time for a hit by one thread, and several times the hits by two.

mod entitlement;
mod evictions;
mod invalidated;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use siphasher::sip128::{Hasher128, SipHasher13};

pub(crate) use entitlement::Entitlement;
use evictions::{Evictions, Inserting};
use invalidated::Invalidated;

use super::answer::Absence;
use super::clock::Tick;
use super::stats::Counter;
use super::tenants::TenantCell;
use crate::store::{Generation, Kept};
use crate::token::{Denial, Principal, Proof, TokenDigest};

/// The keyed hash of a scope and a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u128);

/// A null or a denial in the local level.
pub(crate) struct Refused {
    pub(crate) what: Negative,
    pub(crate) proof: Proof,
}

pub(crate) enum Negative {
    Absent(Arc<Kept<Absence>>),
    Denied(Arc<Kept<Denial>>),
}

impl Negative {
    fn ended(&self, now: Tick) -> bool {
        match self {
            Self::Absent(kept) => ended(kept, now),
            Self::Denied(kept) => ended(kept, now),
        }
    }

    fn generation(&self) -> Option<Generation> {
        match self {
            Self::Absent(kept) => kept.generation,
            Self::Denied(kept) => kept.generation,
        }
    }
}

/// Whether the time to live is over, or the store behind deleted the entry.
fn ended<T>(kept: &Kept<T>, now: Tick) -> bool {
    kept.revoked.load(Ordering::Acquire) || kept.until <= now
}

/// A usable entry.
pub(crate) enum Hit<M> {
    Found(Arc<Principal<M>>),
    Refused(Arc<Refused>),
}

/// What a hit should set off in the background, once.
#[derive(Default)]
pub(crate) struct Refresh {
    pub(crate) entry: bool,
    pub(crate) tenant: Option<Arc<TenantCell>>,
}

type Map<V> = Cache<Fingerprint, V, Weigh, Spread, Evictions>;

pub(crate) struct Local<M> {
    entitlement: Entitlement,
    records: Map<Arc<Principal<M>>>,
    negatives: Map<Arc<Refused>>,
    evicted: (Arc<Counter>, Arc<Counter>),
    invalidated: Invalidated,
    keys: (u64, u64),
}

impl<M> Local<M> {
    pub(crate) fn new(entitlement: Entitlement, records: usize, negatives: usize) -> Self {
        let cache = |capacity: usize| (capacity.max(1), capacity as u64);
        let ((records, record_weight), (negatives, negative_weight)) =
            (cache(records), cache(negatives));
        let evicted = <(Arc<Counter>, Arc<Counter>)>::default();
        Self {
            invalidated: Invalidated::new(entitlement.bound()),
            entitlement,
            records: Cache::with(
                records,
                record_weight,
                Weigh,
                Spread,
                Evictions::counted_by(&evicted.0),
            ),
            negatives: Cache::with(
                negatives,
                negative_weight,
                Weigh,
                Spread,
                Evictions::counted_by(&evicted.1),
            ),
            evicted,
            keys: (random(), random()),
        }
    }

    pub(crate) fn entitlement(&self) -> Entitlement {
        self.entitlement
    }

    pub(crate) fn fingerprint(&self, token: &str, scope: Option<&str>) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(token.as_bytes());
        // No text has these two bytes in it, so that no two pairs read the same.
        match scope {
            None => hasher.write(&[0xfe]),
            Some(scope) => {
                hasher.write(&[0xff]);
                hasher.write(scope.as_bytes());
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
    ) -> Option<(Hit<M>, Refresh)> {
        if self.entitlement.is_off() {
            return None;
        }
        if let Some(principal) = self.records.get(&fingerprint) {
            if principal.token.is(token) && !ended(&principal.kept, now) {
                let refresh = self.entitled(&principal.proof, principal.kept.generation, now)?;
                return Some((Hit::Found(principal), refresh));
            }
            return None;
        }
        let refused = self.negatives.get(&fingerprint)?;
        if refused.what.ended(now) {
            return None;
        }
        let refresh = self.entitled(&refused.proof, refused.what.generation(), now)?;
        Some((Hit::Refused(refused), refresh))
    }

    fn entitled(
        &self,
        proof: &Proof,
        generation: Option<Generation>,
        now: Tick,
    ) -> Option<Refresh> {
        let entry = self.entitlement.age(proof.sent, now)?;
        if self.invalidated.since(&proof.digest, proof.sent, now) {
            return None;
        }
        let tenant = match &proof.tenant {
            None => None,
            Some(cell) => {
                let sent = cell.proved(generation?)?;
                let age = self.entitlement.age(sent, now)?;
                (self.entitlement.wants_refresh(age) && first(&cell.refreshing))
                    .then(|| Arc::clone(cell))
            }
        };
        let entry = self.entitlement.wants_refresh(entry) && first(&proof.refreshing);
        Some(Refresh { entry, tenant })
    }

    /// Takes a proven record. Only the flight of its key calls this, and there is one at a time.
    pub(crate) fn insert(&self, fingerprint: Fingerprint, principal: Arc<Principal<M>>) {
        if self.entitlement.is_off() || self.outdated(&principal.proof) {
            return;
        }
        let newer = |present: &Arc<Principal<M>>| present.proof.sent >= principal.proof.sent;
        if self.entitlement.is_bounded()
            && self.records.peek(&fingerprint).as_ref().is_some_and(newer)
        {
            return;
        }
        self.negatives.remove(&fingerprint);
        let mut inserting = Inserting::of(fingerprint);
        self.records
            .insert_with_lifecycle(fingerprint, principal, &mut inserting);
    }

    /// The same for a null or a denial.
    pub(crate) fn insert_refused(&self, fingerprint: Fingerprint, refused: Arc<Refused>) {
        if self.entitlement.is_off() || self.outdated(&refused.proof) {
            return;
        }
        let newer = |present: &Arc<Refused>| present.proof.sent >= refused.proof.sent;
        if self.entitlement.is_bounded()
            && self
                .negatives
                .peek(&fingerprint)
                .as_ref()
                .is_some_and(newer)
        {
            return;
        }
        self.records.remove(&fingerprint);
        let mut inserting = Inserting::of(fingerprint);
        self.negatives
            .insert_with_lifecycle(fingerprint, refused, &mut inserting);
    }

    fn outdated(&self, proof: &Proof) -> bool {
        self.invalidated
            .since(&proof.digest, proof.sent, proof.sent)
    }

    /// I4: what was proved before `now` counts no longer for this token.
    pub(crate) fn invalidate(&self, digest: TokenDigest, now: Tick) {
        self.invalidated.note(digest, now);
    }

    /// Entries held: records, and nulls with denials.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.records.len(), self.negatives.len())
    }

    /// Entries pushed out so far, likewise.
    pub(crate) fn evicted(&self) -> (u64, u64) {
        (self.evicted.0.get(), self.evicted.1.get())
    }
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

impl<M> Weighter<Fingerprint, Arc<Principal<M>>> for Weigh {
    fn weight(&self, _: &Fingerprint, principal: &Arc<Principal<M>>) -> u64 {
        u64::from(principal.proof.size).div_ceil(1024).max(1)
    }
}

impl Weighter<Fingerprint, Arc<Refused>> for Weigh {
    fn weight(&self, _: &Fingerprint, refused: &Arc<Refused>) -> u64 {
        u64::from(refused.proof.size).div_ceil(1024).max(1)
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
    use super::*;

    #[test]
    fn no_two_pairs_of_token_and_scope_have_one_fingerprint() {
        let local = Local::<()>::new(Entitlement::Off, 1, 1);
        let pairs = [
            ("abc", None),
            ("abc", Some("")),
            ("ab", Some("c")),
            ("a", Some("bc")),
            ("c", Some("ab")),
            ("", Some("abc")),
        ];
        for (nth, (token, scope)) in pairs.into_iter().enumerate() {
            let one = local.fingerprint(token, scope);
            assert!(one == local.fingerprint(token, scope));
            for (token, scope) in &pairs[nth + 1..] {
                assert!(
                    one != local.fingerprint(token, *scope),
                    "{token:?} {scope:?}"
                );
            }
        }
    }

    #[test]
    fn another_process_hashes_a_token_to_something_else() {
        let one = Local::<()>::new(Entitlement::Off, 1, 1);
        let other = Local::<()>::new(Entitlement::Off, 1, 1);
        assert!(one.fingerprint("abc", None) != other.fingerprint("abc", None));
        assert!(one.keys.0 != one.keys.1);
    }
}
