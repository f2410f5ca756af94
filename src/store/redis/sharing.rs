//! Callers at once share a write.
//!
//! A command of its own costs the client several times what it costs the server: a task woken, a
//! deadline, a reply's way back. So while the replies to some writes are awaited, what else is to be
//! sent gathers, and goes out together as soon as one of them is in. Who comes alone waits for nobody,
//! and nobody waits for longer than a round trip.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::batch::{Batch, Replies};
use super::lock;
use super::node::Node;
use super::supervisor::Patience;
use crate::store::StoreError;

/// So many writes are under way at once; what comes then gathers.
const WRITES: usize = 2;

type Sent = Result<Replies, StoreError>;

#[derive(Default)]
pub(super) struct Sharing {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    writes: usize,
    waiting: Vec<Waiting>,
}

struct Waiting {
    batch: Batch,
    sent: oneshot::Sender<Sent>,
}

impl Node {
    /// Sends the batch by itself if few writes are under way, and with others' otherwise.
    pub(super) async fn share(self: &Arc<Self>, batch: &Batch) -> Sent {
        let gathered = {
            let mut state = lock(&self.sharing.state);
            if state.writes < WRITES {
                state.writes += 1;
                None
            } else {
                let (sent, gathered) = oneshot::channel();
                let batch = batch.clone();
                state.waiting.push(Waiting { batch, sent });
                Some(gathered)
            }
        };
        match gathered {
            None => {
                let _place = Place(Arc::clone(self));
                self.write(batch, Patience::FailFast).await
            }
            // Dropped without a word: the runtime ended that was to send it.
            Some(gathered) => gathered
                .await
                .unwrap_or_else(|_| Err(StoreError::not_connected(None))),
        }
    }
}

/// One of the writes that may be under way. Whoever leaves it, also by hanging up, leaves it to those
/// who wait.
struct Place(Arc<Node>);

impl Drop for Place {
    fn drop(&mut self) {
        let waiting = {
            let mut state = lock(&self.0.sharing.state);
            // Nothing is sent for who has hung up: it may be too late for it.
            state.waiting.retain(|one| !one.sent.is_closed());
            if state.waiting.is_empty() {
                state.writes -= 1;
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        let place = Self(Arc::clone(&self.0));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(place.write(waiting))),
            // They are told by their channels' ends.
            Err(_) => drop(waiting),
        }
    }
}

impl Place {
    async fn write(self, waiting: Vec<Waiting>) {
        let node = &self.0;
        let mut all = Batch::new();
        let mut callers = Vec::with_capacity(waiting.len());
        for Waiting { batch, sent } in waiting {
            callers.push((batch.len(), sent));
            all.append(batch);
        }
        let written = node.write(&all, Patience::FailFast);
        let mut replies = match timeout(node.deadlines.response, written).await {
            Ok(Ok(replies)) => replies.into_iter(),
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => StoreError::timeout(),
                };
                for (_, sent) in callers {
                    let _ = sent.send(Err(error.clone()));
                }
                return;
            }
        };
        for (count, sent) in callers {
            // Who has hung up meanwhile wants nothing.
            let _ = sent.send(Ok(replies.by_ref().take(count).collect()));
        }
    }
}
