//! Tasks that other callers depend on, beside user code that blocks its thread.
//!
//! A worker of tokio's multi-threaded runtime keeps the task that was woken or spawned last on its
//! thread in a slot of its own (the LIFO slot), and a task that yielded in a list of its own. No other
//! worker takes a task from either. Both are left when the running task returns to the worker: a handler
//! that blocks its thread beside a lookup would keep there what all other callers wait for. What is here
//! moves such a task to the worker's queue, from which any worker that has nothing to do steals it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Spawns a task that others depend on. Must be called within a runtime.
pub(crate) fn spawn_stealable(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
    free_lifo_slot();
}

/// Moves the task in the LIFO slot of this thread's worker, if there is one, to the worker's queue, and
/// wakes another worker for it: the slot holds one task, and a newer one takes its place.
pub(crate) fn free_lifo_slot() {
    if let Ok(runtime) = Handle::try_current()
        && runtime.runtime_flavor() != RuntimeFlavor::CurrentThread
    {
        runtime.spawn(async {});
    }
}

/// Lets every task that is ready go first, as `tokio::task::yield_now` does, and can be stolen meanwhile.
pub(crate) async fn yield_stealable() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        // Woken while it runs, it goes to the end of its worker's queue.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

pin_project! {
    /// A future that is polled by its caller's task, and wakes tasks that others depend on.
    pub(crate) struct Stealable<F> {
        #[pin]
        future: F,
    }
}

impl<F> Stealable<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future> Future for Stealable<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.project().future.poll(context);
        if polled.is_pending() {
            free_lifo_slot();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    /// A runtime with a worker that is free and one that runs `first`, whatever that spawns, and then a
    /// task that blocks its thread until somebody sends. Returns what that task received.
    fn beside_a_blocked_thread<F, T>(first: F) -> Result<(), RecvTimeoutError>
    where
        F: FnOnce(std::sync::mpsc::Sender<()>) -> T + Send + 'static,
        T: Future<Output = ()> + Send,
    {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).build().unwrap();
        let (sender, receiver): (_, Receiver<()>) = channel();
        let blocks = runtime.spawn(async move {
            let mut first = Box::pin(first(sender));
            let _ = poll_fn(|context| Poll::Ready(first.as_mut().poll(context))).await;
            receiver.recv_timeout(Duration::from_secs(10))
        });
        runtime.block_on(blocks).unwrap()
    }

    #[test]
    fn a_task_that_is_spawned_for_others_runs_while_its_spawner_blocks_the_thread() {
        let received = beside_a_blocked_thread(|sender| async move {
            spawn_stealable(async move { sender.send(()).unwrap() });
        });
        assert_eq!(received, Ok(()));
    }

    #[test]
    fn a_task_that_is_woken_for_others_runs_while_its_waker_blocks_the_thread() {
        let received = beside_a_blocked_thread(|sender| async move {
            let (wanted, ready) = (std::sync::Arc::new(Notify::new()), Notify::new());
            let waits = std::sync::Arc::clone(&wanted);
            spawn_stealable(async move {
                waits.notified().await;
                sender.send(()).unwrap();
            });
            Stealable::new(async move {
                wanted.notify_one();
                ready.notified().await;
            })
            .await;
        });
        assert_eq!(received, Ok(()));
    }

    #[test]
    fn a_task_that_yielded_runs_while_another_blocks_its_thread() {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).build().unwrap();
        let (busy, is_busy) = channel();
        let (free, is_free) = channel();
        let (sender, receiver) = channel();
        // One worker is kept busy until the other one's thread is blocked.
        runtime.spawn(async move {
            busy.send(()).unwrap();
            is_free.recv().unwrap();
        });
        is_busy.recv().unwrap();
        let blocks = runtime.spawn(async move {
            tokio::spawn(async move {
                yield_stealable().await;
                sender.send(()).unwrap();
            });
            // It runs after the other has yielded.
            let blocks = tokio::spawn(async move {
                free.send(()).unwrap();
                receiver.recv_timeout(Duration::from_secs(10))
            });
            free_lifo_slot();
            blocks.await.unwrap()
        });
        assert_eq!(runtime.block_on(blocks).unwrap(), Ok(()));
    }
}
