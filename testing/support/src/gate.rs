//! A point where a test pauses the code under test.

use std::sync::Arc;

use tokio::sync::watch;

/// A point that a test can close: tasks that pass it wait there, and the test learns that they have arrived.
///
/// A race needs an order ("the load has read the old row, *then* the token is revoked, *then* the load writes"). A sleep
/// only makes that order likely. A gate in the loader or the store enforces it:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use test_support::Gate;
///
/// let loaded = Gate::new();
/// loaded.close();
/// let load = tokio::spawn({
///     let loaded = loaded.clone();
///     async move {
///         let row = "active";
///         loaded.pass().await;
///         row
///     }
/// });
/// loaded.reached(1).await;
/// // Here the row has been read and not yet returned: revoke the token now.
/// loaded.open();
/// assert_eq!(load.await.unwrap(), "active");
/// # }
/// ```
///
/// A new gate is open. Clones are the same gate. It works on any executor, and needs no timer.
#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    closed: bool,
    /// How often the gate was opened. This releases waiting tasks even if it is closed again before they wake up.
    openings: u64,
    arrivals: usize,
}

impl Gate {
    /// Creates an open gate.
    pub fn new() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }

    /// Closes the gate, so that [`pass`](Self::pass) waits.
    pub fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    /// Releases all waiting tasks, and lets all others through until the next [`close`](Self::close).
    ///
    /// `open` immediately followed by `close` releases exactly those that had arrived before.
    pub fn open(&self) {
        self.state.send_modify(|state| {
            state.closed = false;
            state.openings += 1;
        });
    }

    /// Counts an arrival (when first polled), and waits while the gate is closed.
    ///
    /// Dropping the future ends the wait. The arrival stays counted.
    pub async fn pass(&self) {
        let mut watch = self.state.subscribe();
        let mut arrived_at = 0;
        self.state.send_modify(|state| {
            state.arrivals += 1;
            arrived_at = state.openings;
        });
        wait(&mut watch, |state| {
            !state.closed || state.openings != arrived_at
        })
        .await;
    }

    /// Waits until `n` arrivals have been counted since the gate was created.
    pub async fn reached(&self, n: usize) {
        wait(&mut self.state.subscribe(), |state| state.arrivals >= n).await;
    }

    /// Returns the number of arrivals so far.
    pub fn arrivals(&self) -> usize {
        self.state.borrow().arrivals
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

async fn wait(watch: &mut watch::Receiver<State>, until: impl FnMut(&State) -> bool) {
    watch
        .wait_for(until)
        .await
        .expect("the gate that is borrowed here is not dropped");
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Polls a future once, without a runtime.
    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn open_gate_lets_through_and_counts() {
        let gate = Gate::new();
        assert!(poll(pin!(gate.pass())).is_ready());
        assert!(poll(pin!(gate.pass())).is_ready());
        assert_eq!(gate.arrivals(), 2);
        assert!(poll(pin!(gate.reached(2))).is_ready());
        assert!(poll(pin!(gate.reached(3))).is_pending());
    }

    #[test]
    fn closed_gate_holds_until_opened() {
        let gate = Gate::default();
        gate.close();
        let mut pass = pin!(gate.pass());
        assert_eq!(gate.arrivals(), 0);
        assert!(poll(pass.as_mut()).is_pending());
        assert!(poll(pass.as_mut()).is_pending());
        assert_eq!(gate.arrivals(), 1);
        gate.clone().open();
        assert!(poll(pass).is_ready());
    }

    #[test]
    fn opening_for_a_moment_releases_only_waiting_tasks() {
        let gate = Gate::new();
        gate.close();
        let mut before = pin!(gate.pass());
        assert!(poll(before.as_mut()).is_pending());
        gate.open();
        gate.close();
        let mut after = pin!(gate.pass());
        assert!(poll(after.as_mut()).is_pending());
        assert!(poll(before).is_ready());
        assert!(poll(after.as_mut()).is_pending());
        gate.open();
        assert!(poll(after).is_ready());
    }

    #[test]
    fn arrival_of_a_dropped_future_stays_counted() {
        let gate = Gate::new();
        gate.close();
        assert!(poll(pin!(gate.pass())).is_pending());
        assert_eq!(gate.arrivals(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn arrivals_are_seen_across_threads() {
        let gate = Gate::new();
        gate.close();
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.pass().await })
            })
            .collect();
        gate.reached(20).await;
        assert!(tasks.iter().all(|task| !task.is_finished()));
        gate.open();
        for task in tasks {
            task.await.unwrap();
        }
    }
}
