//! A point where a test holds the code under test.

use std::sync::Arc;

use tokio::sync::watch;

/// A point that a test can close: whoever comes by waits there, and the test learns that they have arrived.
///
/// A race needs an order ("the load has read the old row, *then* the token is revoked, *then* the load writes"), and a
/// sleep only makes that order likely. With a gate in the loader or the store the test makes it so:
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
    /// How often the gate was opened: releases those who wait even if it is closed again before they wake up.
    openings: u64,
    arrivals: usize,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }

    /// From now on, [`pass`](Self::pass) waits.
    pub fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    /// Releases everyone who waits, and lets everyone through until the next [`close`](Self::close).
    ///
    /// `open` followed at once by `close` releases exactly those who had arrived before.
    pub fn open(&self) {
        self.state.send_modify(|state| {
            state.closed = false;
            state.openings += 1;
        });
    }

    /// Arrives at the gate (when first polled), and waits while it is closed.
    ///
    /// Dropping the future gives up waiting; the arrival stays counted.
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

    /// Waits until `n` arrivals have been counted in the life of the gate, passed or waiting.
    pub async fn reached(&self, n: usize) {
        wait(&mut self.state.subscribe(), |state| state.arrivals >= n).await;
    }

    /// How many have arrived so far.
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

    /// One look at a future, without any runtime.
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
    fn opening_for_a_moment_releases_only_those_who_wait() {
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
    fn arrival_of_one_who_gave_up_stays_counted() {
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
