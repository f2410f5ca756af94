//! Futures in a caller's task that wake tasks which others depend on; see `src/util/task.rs`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::util::task::free_lifo_slot;

/// Lets all ready tasks run first, as `tokio::task::yield_now` does. Another worker can steal the task
/// meanwhile.
pub(crate) async fn yield_stealable() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        // A task that is woken while it runs goes to the end of its worker's queue.
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
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;
    use crate::util::task::spawn_stealable;
    use crate::util::task::tests::beside_a_blocked_thread;

    #[test]
    fn a_task_that_is_woken_for_others_runs_while_its_waker_blocks_the_thread() {
        let received = beside_a_blocked_thread(|sender| async move {
            let (wanted, ready) = (Arc::new(Notify::new()), Notify::new());
            let waits = Arc::clone(&wanted);
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
