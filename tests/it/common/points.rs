//! Gates inside the protocol, and a wait for other tasks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use test_support::Gate;
use tower_api_token::test_util::{SyncPoint, SyncPoints};

/// A gate at each named point of the protocol. All are open at first.
#[derive(Clone, Default)]
pub struct Points(Arc<Mutex<HashMap<SyncPoint, Gate>>>);

impl Points {
    pub fn at(&self, point: SyncPoint) -> Gate {
        self.0.lock().unwrap().entry(point).or_default().clone()
    }

    pub fn sync_points(&self) -> SyncPoints {
        let points = self.clone();
        SyncPoints::new(move |point| {
            let gate = points.at(point);
            async move { gate.pass().await }
        })
    }
}

/// Lets other tasks run until `done`, and fails if that takes too long.
pub async fn until(mut done: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < patience, "the condition is not reached");
        tokio::task::yield_now().await;
    }
}
