//! Tasks that other callers depend on, beside user code that blocks its thread.
//!
//! A worker of tokio's multi-threaded runtime keeps the task that was woken or spawned last on its
//! thread in a slot of its own (the LIFO slot), and a task that yielded in a list of its own. No other
//! worker takes a task from either. Both are left when the running task returns to the worker: a handler
//! that blocks its thread beside a lookup would keep there what all other callers wait for. What is here
//! moves such a task to the worker's queue, from which any worker that has nothing to do steals it.

use std::future::Future;

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

#[cfg(test)]
pub(crate) mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    /// A runtime with a worker that is free and one that runs `first`, whatever that spawns, and then a
    /// task that blocks its thread until somebody sends. Returns what that task received.
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
