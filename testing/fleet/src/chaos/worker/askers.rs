//! The load: tasks that send one request after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use test_support::Dice;
use tower_api_token::ApiTokenCache;

use super::reports::Reports;
use super::say::said;
use crate::chaos::clock::now;
use crate::chaos::settings::{TOKEN_TYPE, TOKENS, token_text};
use crate::chaos::wire::{Answered, Report};

/// The number of consecutive requests between two pauses.
const BURST: usize = 3;

/// Sends requests until `ended`, and reports every answer.
pub(super) async fn ask_on(
    cache: ApiTokenCache<u64>,
    mut dice: Dice,
    reports: Reports,
    ended: Arc<AtomicBool>,
) {
    while !ended.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            let token = choose(&mut dice);
            let text = match token {
                Some(index) => token_text(index),
                None => format!("invented-{}", dice.below(1_000_000)),
            };
            // Before the engine is called and reads its own clock.
            let start = now();
            let answer = cache.authenticate_typed(&text, TOKEN_TYPE).await;
            let end = now();
            reports.say(&Report::Answered(Answered {
                token,
                start,
                end,
                said: said(&text, answer),
            }));
        }
        tokio::time::sleep(dice.millis(2, 16)).await;
    }
}

/// Picks a token. A quarter of the tokens is hot, and never leaves a local level. The last two fifths are
/// requested so seldom that their entries expire instead of being refreshed. One request in a hundred is for an
/// unknown token.
fn choose(dice: &mut Dice) -> Option<usize> {
    const HOT: usize = TOKENS / 4;
    const WARM: usize = TOKENS * 3 / 5;
    match dice.below(100) {
        0 => None,
        1..55 => Some(dice.below(HOT)),
        55..92 => Some(HOT + dice.below(WARM - HOT)),
        _ => Some(WARM + dice.below(TOKENS - WARM)),
    }
}
