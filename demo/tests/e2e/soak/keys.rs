//! The keys of a run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use test_support::Dice;

use super::http::request;

/// How many ended keys are still tried.
const ENDED: usize = 2_000;

/// A key, and a request with it.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) request: Vec<u8>,
    /// Set before its revocation begins: from then on either answer is right, until no instance may accept it.
    is_ending: AtomicBool,
}

impl Key {
    pub(super) fn new(id: &str, text: &str) -> Arc<Self> {
        Arc::new(Self {
            id: id.to_owned(),
            request: request("GET", "/v1/whoami", text, ""),
            is_ending: AtomicBool::new(false),
        })
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }
}

/// The keys that are valid, and those that ended, with the time from which no instance may accept them.
#[derive(Default)]
pub(super) struct Keys {
    live: RwLock<Vec<Arc<Key>>>,
    ended: RwLock<VecDeque<(Instant, Arc<Key>)>>,
}

impl Keys {
    pub(super) fn add(&self, key: Arc<Key>) {
        write(&self.live).push(key);
    }

    /// Returns any valid key.
    pub(super) fn any(&self, dice: &mut Dice) -> Arc<Key> {
        let live = read(&self.live);
        Arc::clone(&live[dice.below(live.len())])
    }

    /// Takes any valid key out, to be revoked.
    pub(super) fn take(&self, dice: &mut Dice) -> Arc<Key> {
        let mut live = write(&self.live);
        let nth = dice.below(live.len());
        let key = live.swap_remove(nth);
        key.is_ending.store(true, Ordering::SeqCst);
        key
    }

    /// Notes that no instance may accept the key in a request that begins at `from` or later.
    pub(super) fn ended(&self, from: Instant, key: Arc<Key>) {
        let mut ended = write(&self.ended);
        if ended.len() == ENDED {
            ended.pop_front();
        }
        ended.push_back((from, key));
    }

    /// Returns any key that no instance may accept at `now`.
    pub(super) fn any_ended(&self, dice: &mut Dice, now: Instant) -> Option<Arc<Key>> {
        let ended = read(&self.ended);
        let (from, key) = ended.get(dice.below(ended.len()))?;
        (*from <= now).then(|| Arc::clone(key))
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
