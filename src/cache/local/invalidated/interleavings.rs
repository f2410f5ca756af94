//! Two invalidations at once.

use std::sync::Arc;

use loom::thread::spawn;

use super::*;
use crate::util::sync::explore;

#[test]
fn of_two_invalidations_neither_hides_the_other() {
    explore(|| {
        let invalidated = Arc::new(Invalidated::new(Duration::from_secs(1)));
        let (a, b) = (TokenDigest::of("a"), TokenDigest::of("b"));
        let other = Arc::clone(&invalidated);
        let notes = spawn(move || {
            other.note(a, Tick(7));
            assert!(other.since(&a, Tick(7), Tick(9)));
        });
        invalidated.note(b, Tick(9));
        assert!(invalidated.since(&b, Tick(9), Tick(9)));
        notes.join().unwrap();
        assert!(invalidated.since(&a, Tick(7), Tick(9)));
    });
}
