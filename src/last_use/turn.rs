//! What one task at a time does, though the runtime that the task is in may stand still.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::util::lock;

/// Held by one task at a time, which says how long it may be silent. One that is silent for longer is
/// taken for one that nobody drives, as between two calls of `block_on`: another may take its turn.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts turns: the last one is held.
    turn: u64,
    /// When it is over unless its holder shows itself; nothing if it was given back.
    until: Option<Instant>,
}

impl Turn {
    /// Takes it for so long, if nobody holds it.
    pub(super) fn take(&self, silence: Duration) -> Option<u64> {
        let mut state = self.lock();
        let now = Instant::now();
        if state.until.is_some_and(|until| now < until) {
            return None;
        }
        state.turn += 1;
        state.until = Some(now + silence);
        Some(state.turn)
    }

    /// Keeps it for so long from now. Returns whether `turn` still is the present one.
    pub(super) fn keep(&self, turn: u64, silence: Duration) -> bool {
        let mut state = self.lock();
        let holds = state.turn == turn;
        if holds {
            state.until = Some(Instant::now() + silence);
        }
        holds
    }

    pub(super) fn give_back(&self, turn: u64) {
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
    async fn one_that_is_silent_for_too_long_loses_its_turn_and_learns_of_it() {
        let turn = Turn::default();
        let first = turn.take(SILENCE).unwrap();
        tokio::time::advance(SILENCE / 2).await;
        assert!(turn.keep(first, SILENCE));
        tokio::time::advance(SILENCE / 2).await;
        assert_eq!(turn.take(SILENCE), None);
        tokio::time::advance(SILENCE / 2).await;
        let second = turn.take(SILENCE).unwrap();
        assert!(!turn.keep(first, SILENCE));
        turn.give_back(first);
        assert_eq!(turn.take(SILENCE), None);
        turn.give_back(second);
        assert!(turn.take(SILENCE).is_some());
    }
}
