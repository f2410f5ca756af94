//! The sizes and times of all runs.

use std::time::Duration;

use test_support::Dice;

/// The number of tokens, which is small, so that a change meets loads and answers of all nodes.
pub(super) const TOKENS: usize = 24;

/// The number of tenants. A token's tenant does not change.
pub(super) const TENANTS: usize = 4;

/// S of our local levels.
pub const BOUND: Duration = Duration::from_millis(300);

/// Returns the database's delay before or after it reads: usually short, sometimes long, so that changes happen
/// during loads of both sides.
pub(super) fn database_pause(dice: &mut Dice) -> Duration {
    match dice.below(100) {
        0..70 => Duration::ZERO,
        70..95 => dice.up_to(Duration::from_millis(15)),
        _ => dice.up_to(Duration::from_millis(250)),
    }
}
