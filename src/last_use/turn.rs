//! A turn that one task at a time holds, even if the runtime of a holder stalls.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::util::lock;

/// A turn that one task at a time holds. The holder announces how long it may go without a heartbeat. After that
/// it counts as stalled, like a task between two calls of `block_on`, and another task may take the turn.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of the last turn.
    turn: u64,
    /// When the holder counts as stalled; `None` if the turn was released.
    until: Option<Instant>,
}

impl Turn {
    /// Takes the turn, unless another task holds it.
    pub(super) fn take(&self, silence: Duration) -> Option<u64> {
        let mut state = self.lock();
        let now = Instant::now();
        // guard: U7
        if state.until.is_some_and(|until| now < until) {
            return None;
        }
        state.turn += 1;
        state.until = Some(now + silence);
        Some(state.turn)
    }

    /// Extends the turn. Returns `false` if another task has taken it.
    pub(super) fn renew(&self, turn: u64, silence: Duration) -> bool {
        let mut state = self.lock();
        let holds = state.turn == turn;
        if holds {
            state.until = Some(Instant::now() + silence);
        }
        holds
    }

    /// Ends the turn, unless another task has taken it.
    pub(super) fn release(&self, turn: u64) {
        let mut state = self.lock();
        if state.turn == turn {
            state.until = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_stalled_holder_loses_its_turn() {
        let turn = Turn::default();
        let first = turn.take(SILENCE).unwrap();
        tokio::time::advance(SILENCE / 2).await;
        assert!(turn.renew(first, SILENCE));
        tokio::time::advance(SILENCE / 2).await;
        assert_eq!(turn.take(SILENCE), None);
        tokio::time::advance(SILENCE / 2).await;
        let second = turn.take(SILENCE).unwrap();
        assert!(!turn.renew(first, SILENCE));
        turn.release(first);
        assert_eq!(turn.take(SILENCE), None);
        turn.release(second);
        assert!(turn.take(SILENCE).is_some());
    }
}
