//! An open connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

use super::pushes::Pushes;
use crate::store::watch::TrackingSession;
use crate::util::task::free_lifo_slot;

/// A connection whose server answered the handshake. Clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) connection: MultiplexedConnection,
    /// Whether the server refuses commands with keys of several slots: a cluster behind one address.
    pub(crate) is_clustered: bool,
    pub(crate) broken: Arc<Broken>,
    /// What takes the connection's pushes, if it can be tracked.
    pub(super) pushes: Option<Arc<Pushes>>,
    /// The session in which it is tracked now.
    pub(super) session: Option<Arc<TrackingSession>>,
}

impl Link {
    /// Has the supervisor replace the connection now, and those who ask for one meanwhile wait for the
    /// new one.
    pub(super) fn give_up(&self) {
        self.broken.set();
        free_lifo_slot();
    }
}

/// Whether a connection ended.
#[derive(Default)]
pub(crate) struct Broken {
    is_set: AtomicBool,
    changed: Notify,
}

impl Broken {
    pub(super) fn set(&self) {
        // guard: E9
        self.is_set.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Waits until the connection ends. Only the supervisor calls this: one waiter is notified.
    pub(super) async fn wait(&self) {
        self.changed.notified().await;
    }
}
