//! Decides who polls a call.
//!
//! Its caller does, in the caller's own task, while it is alone with the call and waits for nothing but the
//! store: a lookup that Redis answers then costs no task. As soon as another caller depends on the call, or it
//! goes on to a load, or its caller is dropped, a task takes it over.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use super::work::Work;
use crate::util::lock;
use crate::util::task::free_lifo_slot;

pub(super) struct Driver(Mutex<Ownership>);

enum Ownership {
    /// The caller polls the work, or is about to. If `claimed`, it gives the work to a task after that.
    Polled { claimed: bool },
    /// The work waits between two polls of the caller, which the waker wakes.
    Idle(Work, Waker),
    /// A task has the work, or it is done.
    Released,
}

impl Driver {
    /// Creates a driver for a call that its caller is about to drive.
    pub(super) fn caller() -> Self {
        Self(Mutex::new(Ownership::Polled { claimed: false }))
    }

    /// Creates a driver for a call that a task drives from the beginning.
    pub(super) fn task() -> Self {
        Self(Mutex::new(Ownership::Released))
    }

    /// Moves the work into a task. Must be called within a runtime.
    pub(super) fn detach(&self) {
        if let Some((work, caller)) = self.claim() {
            tokio::spawn(work);
            caller.wake();
            // Neither task waits for a caller that joined and now blocks the thread. guard: J9
            free_lifo_slot();
        }
    }

    /// Moves the work into a task from within the work, which goes on there.
    pub(super) async fn detach_current(&self) {
        let mut is_polled_by_caller = matches!(*self.lock(), Ownership::Polled { .. });
        poll_fn(|_| {
            if !is_polled_by_caller {
                return Poll::Ready(());
            }
            // Its caller spawns it after this poll, and the task polls it at once.
            is_polled_by_caller = false;
            self.detach();
            Poll::Pending
        })
        .await;
    }

    /// Polls until the work is done or a task has it.
    pub(super) async fn drive(&self, work: Work) {
        let mut caller = Caller {
            driver: self,
            runtime: Handle::current(),
            first: Some(work),
        };
        poll_fn(|context| caller.poll(context)).await;
    }

    fn claim(&self) -> Option<(Work, Waker)> {
        let mut ownership = self.lock();
        match &mut *ownership {
            Ownership::Polled { claimed } => *claimed = true,
            Ownership::Idle(..) => {
                if let Ownership::Idle(work, caller) =
                    std::mem::replace(&mut *ownership, Ownership::Released)
                {
                    return Some((work, caller));
                }
            }
            Ownership::Released => {}
        }
        None
    }

    /// Takes the work to poll it once, unless a task has it.
    fn take(&self) -> Option<Work> {
        let mut ownership = self.lock();
        match std::mem::replace(&mut *ownership, Ownership::Polled { claimed: false }) {
            Ownership::Idle(work, _) => Some(work),
            other => {
                *ownership = other;
                None
            }
        }
    }

    /// Puts the work back after a poll that did not finish it. Returns it if a task is to have it.
    fn put_back(&self, work: Work, caller: &Waker) -> Option<Work> {
        let mut ownership = self.lock();
        if matches!(*ownership, Ownership::Polled { claimed: true }) {
            *ownership = Ownership::Released;
            return Some(work);
        }
        *ownership = Ownership::Idle(work, caller.clone());
        None
    }

    fn lock(&self) -> MutexGuard<'_, Ownership> {
        lock(&self.0)
    }
}

/// A caller that drives. Dropped before the work is done, it gives the work to a task.
struct Caller<'a> {
    driver: &'a Driver,
    /// For the drop, which may happen outside of a runtime.
    runtime: Handle,
    /// Before the first poll.
    first: Option<Work>,
}

impl Caller<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut work) = self.first.take().or_else(|| self.driver.take()) else {
            return Poll::Ready(());
        };
        // A panic ends the call, as it would end a task, and not its caller.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut work).poll(context))) {
            Ok(Poll::Pending) => match self.driver.put_back(work, context.waker()) {
                Some(work) => {
                    self.runtime.spawn(work);
                    free_lifo_slot();
                    Poll::Ready(())
                }
                None => Poll::Pending,
            },
            Ok(Poll::Ready(())) | Err(_) => {
                let ownership = std::mem::replace(&mut *self.driver.lock(), Ownership::Released);
                if matches!(ownership, Ownership::Polled { claimed: true }) {
                    // Somebody joined during the poll, and was woken by it.
                    free_lifo_slot();
                }
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if let Some((work, _)) = self.driver.claim() {
            self.runtime.spawn(work);
            free_lifo_slot();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    struct Driven {
        driver: Driver,
        gate: Notify,
        /// The task that polled last; nothing outside of one.
        by: Mutex<Option<tokio::task::Id>>,
        completions: AtomicU32,
    }

    fn driven() -> Arc<Driven> {
        Arc::new(Driven {
            driver: Driver::caller(),
            gate: Notify::new(),
            by: Mutex::new(None),
            completions: AtomicU32::new(0),
        })
    }

    async fn work(driven: Arc<Driven>) {
        driven.gate.notified().await;
        *driven.by.lock().unwrap() = tokio::task::try_id();
        driven.completions.fetch_add(1, Ordering::SeqCst);
    }

    fn caller(driven: &Arc<Driven>) -> tokio::task::JoinHandle<()> {
        let driven = Arc::clone(driven);
        tokio::spawn(async move {
            driven
                .driver
                .drive(Work::new(work(Arc::clone(&driven))))
                .await
        })
    }

    async fn completed(driven: &Driven) {
        while driven.completions.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_caller_that_is_alone_drives_the_call() {
        let driven = driven();
        let caller = caller(&driven);
        yield_now().await;
        let id = caller.id();
        driven.gate.notify_one();
        caller.await.unwrap();
        assert_eq!(*driven.by.lock().unwrap(), Some(id));
    }

    #[tokio::test]
    async fn a_detached_call_is_driven_by_a_task_and_its_caller_is_woken() {
        let driven = driven();
        let caller = caller(&driven);
        yield_now().await;
        let id = caller.id();
        driven.driver.detach();
        // It has nothing left to poll, long before the call's end.
        caller.await.unwrap();
        assert_eq!(driven.completions.load(Ordering::SeqCst), 0);
        driven.gate.notify_one();
        completed(&driven).await;
        assert_ne!(*driven.by.lock().unwrap(), Some(id));
    }

    #[tokio::test]
    async fn a_call_outlives_a_caller_that_is_dropped() {
        let driven = driven();
        let caller = caller(&driven);
        yield_now().await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        driven.gate.notify_one();
        completed(&driven).await;
    }

    #[tokio::test]
    async fn a_call_that_detaches_itself_twice_moves_once() {
        let driven = driven();
        let inner = Arc::clone(&driven);
        let work = async move {
            inner.driver.detach_current().await;
            let first = tokio::task::try_id();
            inner.driver.detach_current().await;
            assert_eq!(tokio::task::try_id(), first);
            *inner.by.lock().unwrap() = first;
            inner.completions.fetch_add(1, Ordering::SeqCst);
        };
        let caller = {
            let driven = Arc::clone(&driven);
            tokio::spawn(async move { driven.driver.drive(Work::new(work)).await })
        };
        let id = caller.id();
        caller.await.unwrap();
        completed(&driven).await;
        assert_ne!(*driven.by.lock().unwrap(), Some(id));
    }

    #[tokio::test]
    async fn a_panic_ends_the_call_and_not_its_caller() {
        let driven = driven();
        driven
            .driver
            .drive(Work::new(async { panic!("a panic of the test's") }))
            .await;
        assert!(matches!(*driven.driver.lock(), Ownership::Released));
    }
}
