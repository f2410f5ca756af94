//! The bulkhead: limits how many loads run, how many wait, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(crate) struct Bulkhead {
    permits: Arc<Semaphore>,
    #[cfg(feature = "metrics")]
    concurrent: usize,
    waiting: AtomicUsize,
    queue: usize,
    wait: Duration,
}

/// The error of a load that got no permit: the queue was full, or the wait in it too long.
#[derive(Debug)]
pub(crate) struct Overloaded;

impl Bulkhead {
    pub(crate) fn new(concurrent: usize, queue: usize, wait: Duration) -> Self {
        Self {
            // guard: P2
            permits: Arc::new(Semaphore::new(concurrent)),
            #[cfg(feature = "metrics")]
            concurrent,
            waiting: AtomicUsize::new(0),
            queue,
            wait,
        }
    }

    /// Returns the numbers of taken permits, of waiting loads and of all permits.
    #[cfg(feature = "metrics")]
    pub(crate) fn taken(&self) -> (usize, usize, usize) {
        let taken = self.concurrent - self.permits.available_permits();
        (taken, self.waiting.load(Ordering::Relaxed), self.concurrent)
    }

    /// Enters, and waits for a permit in order of arrival.
    ///
    /// # Errors
    /// Returns [`Overloaded`] if the queue is full or the wait in it too long.
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, Overloaded> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let _place = Place::take(&self.waiting, self.queue).ok_or(Overloaded)?;
        match tokio::time::timeout(self.wait, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Overloaded),
        }
    }
}

/// A place in the queue, which is freed when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, queue: usize) -> Option<Self> {
        let taken = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < queue).then_some(waiting + 1)
        });
        // Only a place that was taken exists, because one that is dropped is given back.
        // guard: BH1
        taken.is_ok().then(|| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_load_beyond_the_queue_is_refused_at_once_and_a_queued_one_after_the_wait() {
        let bulkhead = Bulkhead::new(1, 1, Duration::from_secs(2));
        let first = bulkhead.enter().await.unwrap();
        let start = tokio::time::Instant::now();
        let (second, third) = tokio::join!(bulkhead.enter(), async {
            let third = bulkhead.enter().await;
            (third, start.elapsed())
        });
        assert!(second.is_err() && third.0.is_err());
        assert_eq!(third.1, Duration::ZERO);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        drop(first);
        assert!(
            bulkhead.enter().await.is_ok(),
            "places and permits are returned"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_load_gives_no_place_back() {
        let wait = Duration::from_secs(2);
        let bulkhead = Arc::new(Bulkhead::new(1, 2, wait));
        let _permit = bulkhead.enter().await.unwrap();
        for _ in 0..2 {
            let start = tokio::time::Instant::now();
            let mut loads = JoinSet::new();
            for _ in 0..5 {
                let bulkhead = Arc::clone(&bulkhead);
                loads.spawn(async move {
                    bulkhead.enter().await.unwrap_err();
                    start.elapsed()
                });
            }
            let mut waited = loads.join_all().await;
            waited.sort();
            let at_once = Duration::ZERO;
            assert_eq!(waited, [at_once, at_once, at_once, wait, wait]);
        }
    }
}
