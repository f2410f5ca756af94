//! Reads that come while others are under way share an `MGET`: to Redis and to its client a command
//! costs more than a key.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use redis::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::batch::{Batch, Replies};
use super::fault::{Replied, unexpected};
use super::node::Node;
use super::stealable::yield_stealable;
use crate::store::StoreError;
use crate::task::spawn_stealable;
use crate::util::lock;

/// As many keys as one command asks for: it holds up every other command behind it.
const MOST: usize = 64;

/// The reads of one server.
pub(super) struct Gather {
    node: Arc<Node>,
    /// Reads whose caller waits for their reply.
    under_way: AtomicUsize,
    waiting: Mutex<Vec<Asked>>,
    /// The server refuses `MGET`, as a refused one told: to this user, or because a cluster is behind its
    /// one address. GETs in one write have to do.
    forbidden: AtomicBool,
}

struct Asked {
    name: String,
    answer: oneshot::Sender<Result<Replied, StoreError>>,
}

impl Gather {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            under_way: AtomicUsize::new(0),
            waiting: Mutex::default(),
            forbidden: AtomicBool::new(false),
        }
    }

    /// What lies under a name. `Nil` also stands for what is no string, if others were asked for with
    /// it: `MGET` does not tell.
    pub(super) async fn get(self: &Arc<Self>, name: String) -> Result<Replied, StoreError> {
        let alone = UnderWay::begin(&self.under_way);
        if alone.is_first {
            let mut batch = Batch::new();
            batch.cmd("GET").arg(name);
            let mut replies = self.node.send(&batch).await?;
            return replies.pop().ok_or_else(unexpected);
        }
        let (answer, asked) = oneshot::channel();
        let nobody_sends = {
            let mut waiting = lock(&self.waiting);
            waiting.push(Asked { name, answer });
            waiting.len() == 1
        };
        if nobody_sends {
            spawn_stealable(Arc::clone(self).send_waiting());
        }
        match timeout(self.node.deadline(), asked).await {
            Ok(Ok(answer)) => answer,
            // Dropped with its task, at the end of a runtime.
            Ok(Err(_)) => Err(StoreError::not_connected(None)),
            Err(_) => {
                // Whoever was to send may stand still, as a runtime does between two calls of
                // `block_on`. Nobody waits for it again.
                spawn_stealable(Arc::clone(self).send_waiting());
                Err(StoreError::timeout())
            }
        }
    }

    /// A task of its own: nobody's reply depends on whether another caller goes on polling.
    fn send_waiting(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        let duty = Duty(Some(self));
        async move {
            // After everybody who is ready to ask.
            yield_stealable().await;
            let (gather, mut waiting) = duty.take();
            waiting.retain(|asked| !asked.answer.is_closed());
            while !waiting.is_empty() {
                let rest = waiting.split_off(waiting.len().min(MOST));
                let now = std::mem::replace(&mut waiting, rest);
                if waiting.is_empty() {
                    gather.send(now).await;
                } else {
                    let gather = Arc::clone(&gather);
                    tokio::spawn(async move { gather.send(now).await });
                }
            }
        }
    }

    fn take_waiting(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.waiting))
    }

    async fn send(&self, asked: Vec<Asked>) {
        match self.replies(&asked).await {
            Err(error) => {
                for asked in asked {
                    // Who hung up needs no answer.
                    let _ = asked.answer.send(Err(error.clone()));
                }
            }
            Ok(replies) => {
                for (asked, reply) in asked.into_iter().zip(replies) {
                    let _ = asked.answer.send(Ok(reply));
                }
            }
        }
    }

    /// As many as were asked for.
    async fn replies(&self, asked: &[Asked]) -> Result<Replies, StoreError> {
        if !self.forbidden.load(Ordering::Relaxed) {
            let mut batch = Batch::new();
            let command = batch.cmd("MGET");
            for asked in asked {
                command.arg(&asked.name);
            }
            match self.node.send_for(&batch, asked.len()).await?.pop() {
                Some(Ok(Value::Array(values))) if values.len() == asked.len() => {
                    return Ok(values.into_iter().map(Ok).collect());
                }
                Some(Err(fault)) if matches!(fault.code(), Some("NOPERM" | "CROSSSLOT")) => {
                    self.forbidden.store(true, Ordering::Relaxed);
                }
                Some(Err(fault)) => return Ok(vec![Err(fault); asked.len()]),
                _ => return Err(unexpected()),
            }
        }
        let mut batch = Batch::new();
        for asked in asked {
            batch.cmd("GET").arg(&asked.name);
        }
        self.node.send_for(&batch, asked.len()).await
    }
}

/// To send those who wait. Dropped before that, as at the end of a runtime, it tells them so:
/// nobody else would be asked to send them.
struct Duty(Option<Arc<Gather>>);

impl Duty {
    fn take(mut self) -> (Arc<Gather>, Vec<Asked>) {
        let gather = self.0.take().expect("it is taken once");
        let waiting = gather.take_waiting();
        (gather, waiting)
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(gather) = &self.0 {
            drop(gather.take_waiting());
        }
    }
}

struct UnderWay<'a> {
    count: &'a AtomicUsize,
    is_first: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        Self { count, is_first }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
