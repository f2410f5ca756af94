//! Who polls a flight. Its caller does, in the caller's own task, while it is alone with it and waits
//! for nothing but the store: a look-up that Redis answers then costs no task. As soon as somebody
//! else depends on the flight, or it goes on to a load, or the caller hangs up, a task takes it over.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio_util::sync::ReusableBoxFuture;

use crate::task::free_lifo_slot;
use crate::util::lock;

type Block = ReusableBoxFuture<'static, ()>;

/// As many blocks as a thread keeps.
const IDLE: usize = 256;

thread_local! {
    /// Blocks of flights that are over. A flight takes kilobytes for a moment, in which it allocates what
    /// the local level then keeps for long: given back each time, the blocks would come to lie in pieces
    /// between the entries.
    static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// A flight's work, in a block that is used again after it.
pub(crate) struct Work(Option<Block>);

impl Work {
    pub(crate) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let work = ToItsEnd { work: Some(work) };
        let idle = BLOCKS.try_with(|blocks| blocks.borrow_mut().pop());
        let block = match idle {
            Ok(Some(mut block)) => {
                block.set(work);
                block
            }
            _ => Block::new(work),
        };
        Self(Some(block))
    }
}

pin_project! {
    /// Over, it holds nothing, whatever the work goes on to hold: a span is closed then, and not when its
    /// block is used again.
    struct ToItsEnd<F> {
        #[pin]
        work: Option<F>,
    }
}

impl<F: Future<Output = ()>> Future for ToItsEnd<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut work = self.project().work;
        if let Some(work) = work.as_mut().as_pin_mut() {
            ready!(work.poll(context));
        }
        work.set(None);
        Poll::Ready(())
    }
}

impl Future for Work {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(block) = &mut self.0 else {
            return Poll::Ready(());
        };
        let polled = block.poll(context);
        if polled.is_ready()
            && let Some(block) = self.0.take()
        {
            // At the end of its thread there is no place for it.
            let _ = BLOCKS.try_with(|blocks| {
                let mut blocks = blocks.borrow_mut();
                if blocks.len() < IDLE {
                    blocks.push(block);
                }
            });
        }
        polled
    }
}

pub(super) struct Pilot(Mutex<Seat>);

enum Seat {
    /// The caller polls it, or is about to. `claimed`: then it has to leave it to a task.
    Taken { claimed: bool },
    /// Between two polls of the caller, whom the waker is for.
    Free(Work, Waker),
    /// A task flies it, or it is over.
    Left,
}

impl Pilot {
    /// Of a flight that its caller is about to fly.
    pub(super) fn caller() -> Self {
        Self(Mutex::new(Seat::Taken { claimed: false }))
    }

    /// Of a flight that a task flies from the beginning.
    pub(super) fn task() -> Self {
        Self(Mutex::new(Seat::Left))
    }

    /// Sees to it that a task flies it. To be called within a runtime.
    pub(super) fn leave_to_a_task(&self) {
        if let Some((work, caller)) = self.claim() {
            tokio::spawn(work);
            caller.wake();
            // Neither waits for whoever joined and blocks the thread now.
            free_lifo_slot();
        }
    }

    /// The same from within the flight: it goes on in the task.
    pub(super) async fn become_a_task(&self) {
        let mut flown_by_caller = matches!(*self.lock(), Seat::Taken { .. });
        poll_fn(|_| {
            if !flown_by_caller {
                return Poll::Ready(());
            }
            // Whoever polls it spawns it after this, and the task polls it at once.
            flown_by_caller = false;
            self.leave_to_a_task();
            Poll::Pending
        })
        .await;
    }

    /// Flies until the work is done or a task has it.
    pub(super) async fn fly(&self, work: Work) {
        let mut caller = Caller {
            pilot: self,
            runtime: Handle::current(),
            first: Some(work),
        };
        poll_fn(|context| caller.poll(context)).await;
    }

    fn claim(&self) -> Option<(Work, Waker)> {
        let mut seat = self.lock();
        match &mut *seat {
            Seat::Taken { claimed } => *claimed = true,
            Seat::Free(..) => {
                if let Seat::Free(work, caller) = std::mem::replace(&mut *seat, Seat::Left) {
                    return Some((work, caller));
                }
            }
            Seat::Left => {}
        }
        None
    }

    /// The work, to be polled once, unless it is a task's.
    fn sit_down(&self) -> Option<Work> {
        let mut seat = self.lock();
        match std::mem::replace(&mut *seat, Seat::Taken { claimed: false }) {
            Seat::Free(work, _) => Some(work),
            other => {
                *seat = other;
                None
            }
        }
    }

    /// After a poll that left something to do. Gives the work back if a task is to have it.
    fn stand_up(&self, work: Work, caller: &Waker) -> Option<Work> {
        let mut seat = self.lock();
        if matches!(*seat, Seat::Taken { claimed: true }) {
            *seat = Seat::Left;
            return Some(work);
        }
        *seat = Seat::Free(work, caller.clone());
        None
    }

    fn lock(&self) -> MutexGuard<'_, Seat> {
        lock(&self.0)
    }
}

/// The caller's hands. Dropped before the end, they leave the work to a task.
struct Caller<'a> {
    pilot: &'a Pilot,
    /// For the drop, which may be outside of it.
    runtime: Handle,
    /// Before the first poll.
    first: Option<Work>,
}

impl Caller<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut work) = self.first.take().or_else(|| self.pilot.sit_down()) else {
            return Poll::Ready(());
        };
        // A panic is the flight's, as it would be a task's, and not its caller's: the flight breaks
        // off, and says so.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut work).poll(context))) {
            Ok(Poll::Pending) => match self.pilot.stand_up(work, context.waker()) {
                Some(work) => {
                    self.runtime.spawn(work);
                    free_lifo_slot();
                    Poll::Ready(())
                }
                None => Poll::Pending,
            },
            Ok(Poll::Ready(())) | Err(_) => {
                let seat = std::mem::replace(&mut *self.pilot.lock(), Seat::Left);
                if matches!(seat, Seat::Taken { claimed: true }) {
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
        if let Some((work, _)) = self.pilot.claim() {
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

    struct Flown {
        pilot: Pilot,
        gate: Notify,
        /// The task that polled last; nothing outside of one.
        by: Mutex<Option<tokio::task::Id>>,
        landings: AtomicU32,
    }

    fn flown() -> Arc<Flown> {
        Arc::new(Flown {
            pilot: Pilot::caller(),
            gate: Notify::new(),
            by: Mutex::new(None),
            landings: AtomicU32::new(0),
        })
    }

    async fn work(flown: Arc<Flown>) {
        flown.gate.notified().await;
        *flown.by.lock().unwrap() = tokio::task::try_id();
        flown.landings.fetch_add(1, Ordering::SeqCst);
    }

    fn caller(flown: &Arc<Flown>) -> tokio::task::JoinHandle<()> {
        let flown = Arc::clone(flown);
        tokio::spawn(async move { flown.pilot.fly(Work::new(work(Arc::clone(&flown)))).await })
    }

    async fn landed(flown: &Flown) {
        while flown.landings.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_is_alone_with_a_flight_flies_it() {
        let flown = flown();
        let caller = caller(&flown);
        yield_now().await;
        let id = caller.id();
        flown.gate.notify_one();
        caller.await.unwrap();
        assert_eq!(*flown.by.lock().unwrap(), Some(id));
    }

    #[tokio::test]
    async fn a_flight_that_another_depends_on_is_a_tasks_and_its_caller_is_told() {
        let flown = flown();
        let caller = caller(&flown);
        yield_now().await;
        let id = caller.id();
        flown.pilot.leave_to_a_task();
        // It has nothing left to poll, long before the flight's end.
        caller.await.unwrap();
        assert_eq!(flown.landings.load(Ordering::SeqCst), 0);
        flown.gate.notify_one();
        landed(&flown).await;
        assert_ne!(*flown.by.lock().unwrap(), Some(id));
    }

    #[tokio::test]
    async fn a_flight_outlives_a_caller_that_hangs_up() {
        let flown = flown();
        let caller = caller(&flown);
        yield_now().await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        flown.gate.notify_one();
        landed(&flown).await;
    }

    #[tokio::test]
    async fn a_flight_that_asks_for_a_task_goes_on_in_one_exactly_once() {
        let flown = flown();
        let inner = Arc::clone(&flown);
        let work = async move {
            inner.pilot.become_a_task().await;
            let first = tokio::task::try_id();
            inner.pilot.become_a_task().await;
            assert_eq!(tokio::task::try_id(), first);
            *inner.by.lock().unwrap() = first;
            inner.landings.fetch_add(1, Ordering::SeqCst);
        };
        let caller = {
            let flown = Arc::clone(&flown);
            tokio::spawn(async move { flown.pilot.fly(Work::new(work)).await })
        };
        let id = caller.id();
        caller.await.unwrap();
        landed(&flown).await;
        assert_ne!(*flown.by.lock().unwrap(), Some(id));
    }

    /// Over at once, and keeps what it has.
    struct Keeps(#[expect(dead_code, reason = "it is held")] Arc<()>);

    impl Future for Keeps {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    #[tokio::test]
    async fn a_block_that_is_to_be_used_again_holds_nothing_of_its_last_flight() {
        let held = Arc::new(());
        let work = Work::new(Keeps(Arc::clone(&held)));
        Pilot::caller().fly(work).await;
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_thread_keeps_so_many_blocks_and_no_more() {
        let mut all: Vec<_> = (0..IDLE + 10).map(|_| Work::new(async {})).collect();
        let mut context = Context::from_waker(Waker::noop());
        for work in &mut all {
            assert!(Pin::new(work).poll(&mut context).is_ready());
        }
        BLOCKS.with(|blocks| assert_eq!(blocks.borrow().len(), IDLE));
    }

    #[tokio::test]
    async fn a_panic_ends_the_flight_and_not_its_caller() {
        let flown = flown();
        flown
            .pilot
            .fly(Work::new(async { panic!("a panic of the test's") }))
            .await;
        assert!(matches!(*flown.pilot.lock(), Seat::Left));
    }
}
