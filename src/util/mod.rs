//! Small helpers without a subject of their own.

use std::future::Future;
use std::pin::Pin;
use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};

pub(crate) mod backoff;
pub(crate) mod sync;
pub(crate) mod task;
pub(crate) mod wakeups;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Locks `mutex`, also after a panic of another holder: no state in this crate is left half changed by
/// one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// Returns the guard of a lock, whether or not it is poisoned.
pub(crate) fn unpoisoned<G>(guard: LockResult<G>) -> G {
    guard.unwrap_or_else(PoisonError::into_inner)
}

/// Returns a random number.
///
/// # Panics
/// Panics if the operating system has no random generator.
pub(crate) fn random() -> u32 {
    getrandom::u32().expect("the operating system's random generator")
}

/// Returns a random number from zero to one.
pub(crate) fn random_fraction() -> f64 {
    f64::from(random()) / f64::from(u32::MAX)
}
