//! Spawning tasks that must not depend on a thread which user code may block.
//!
//! A worker of tokio's multi-threaded runtime holds the task that it spawned or woke last in its LIFO slot, and
//! tasks that yielded in a list. Other workers cannot steal tasks from either, and the worker itself runs them
//! only after its current task has returned. So a handler that blocks its thread could delay a task that other
//! requests wait for. The functions of this module move such a task to the worker's run queue, from which idle
//! workers steal.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::{Handle, RuntimeFlavor};

/// Spawns a task that idle workers can steal immediately.
///
/// # Panics
/// Panics outside of a tokio runtime.
pub(crate) fn spawn_stealable(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
    free_lifo_slot();
}

/// Awaits a future, and returns `None` if it panics.
pub(crate) async fn caught<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| Pin::new(&mut future).poll(context));
        match catch_unwind(poll) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// Moves the task in this worker's LIFO slot, if there is one, to the worker's run queue.
///
/// The slot holds one task, so spawning another one moves the first to the queue and wakes another worker. This
/// does nothing outside of a multi-threaded runtime.
pub(crate) fn free_lifo_slot() {
    if let Ok(runtime) = Handle::try_current()
        && runtime.runtime_flavor() != RuntimeFlavor::CurrentThread
    {
        runtime.spawn(async {});
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    /// Polls `first` once in a worker, and then blocks that worker's thread until the sender is used. A second
    /// worker is idle. Returns an error if nothing was sent within 10 s.
    pub(crate) fn beside_a_blocked_thread<F, T>(first: F) -> Result<(), RecvTimeoutError>
    where
        F: FnOnce(Sender<()>) -> T + Send + 'static,
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
}
