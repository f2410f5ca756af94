//! Reads that begin while others are under way share an `MGET`: for Redis and for its client a command
//! costs more than a key.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use redis::Value;
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::batch::{Batch, Replies};
use super::node::Node;
use super::reply::{Reply, generation_beside, unexpected};
use super::stealable::{Stealable, yield_stealable};
use crate::store::entry::Generation;
use crate::store::error::StoreError;
use crate::util::lock;
use crate::util::task::spawn_stealable;

/// The largest number of reads that share a command, which delays all commands behind it.
const MAX_READS: usize = 64;

/// The reads of one server.
pub(crate) struct ReadBatcher {
    node: Arc<Node>,
    /// The name of the generation of all entries.
    all: String,
    /// The number of reads that wait for their reply.
    in_flight: AtomicUsize,
    pending: Mutex<Pending>,
    /// Whether the server refused an `MGET`, to this user or because it is a cluster behind one address.
    /// Then `GET`s share a write.
    mget_refused: AtomicBool,
}

#[derive(Default)]
struct Pending {
    reads: Vec<PendingRead>,
    /// The runtime of the task that is to send them.
    flushed_by: Option<Id>,
}

/// The reply for a key, and the generation of all entries if that was asked for too.
pub(crate) type ReadReply = (Reply, Option<Generation>);

struct PendingRead {
    name: String,
    with_all: bool,
    reply: oneshot::Sender<Result<ReadReply, StoreError>>,
}

impl ReadBatcher {
    pub(crate) fn new(node: Arc<Node>, all: String) -> Self {
        Self {
            node,
            all,
            in_flight: AtomicUsize::new(0),
            pending: Mutex::default(),
            mget_refused: AtomicBool::new(false),
        }
    }

    /// Reads the value of a key, and with it the generation of all entries. For a key that does not hold a string the
    /// reply may be `Nil`, as `MGET` says.
    pub(crate) async fn get(
        self: &Arc<Self>,
        name: String,
        with_all: bool,
    ) -> Result<ReadReply, StoreError> {
        let in_flight = InFlight::begin(&self.in_flight);
        if in_flight.is_first {
            let read = Box::pin(self.read([&name[..]].into_iter(), with_all, 1));
            // guard: J10b
            let (mut replies, all) = Stealable::new(read).await?;
            return Ok((replies.pop().ok_or_else(unexpected)?, all));
        }
        let (reply, receiver) = oneshot::channel();
        let here = Some(Handle::current().id());
        let (is_first_pending, flushed_by) = {
            let mut pending = lock(&self.pending);
            pending.reads.push(PendingRead {
                name,
                with_all,
                reply,
            });
            let is_first = pending.reads.len() == 1;
            if is_first {
                pending.flushed_by = here;
            }
            (is_first, pending.flushed_by)
        };
        // guard: J11
        if is_first_pending {
            spawn_stealable(Arc::clone(self).flush());
        }
        // guard: J3b
        if flushed_by == here {
            // While this is polled, so is the task, and it limits the time for all its reads.
            return receiver.await.unwrap_or_else(|_| Err(dropped()));
        }
        match timeout(self.node.response_timeout(), receiver).await {
            Ok(reply) => reply.unwrap_or_else(|_| Err(dropped())),
            // guard: J3
            Err(_) => {
                // The task's runtime may not be driven, as between two calls of `block_on`. The next reads
                // do not wait for it.
                spawn_stealable(Arc::clone(self).flush());
                Err(StoreError::timeout())
            }
        }
    }

    /// Sends the pending reads, in a task of its own: no reply depends on whether another caller is polled.
    fn flush(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        let guard = FlushGuard(Some(self));
        async move {
            // After all tasks that are ready to read.
            yield_stealable().await;
            let (batcher, mut pending) = guard.take();
            pending.retain(|read| !read.reply.is_closed());
            while !pending.is_empty() {
                let rest = pending.split_off(pending.len().min(MAX_READS));
                let now = std::mem::replace(&mut pending, rest);
                if pending.is_empty() {
                    batcher.send(now).await;
                } else {
                    let batcher = Arc::clone(&batcher);
                    tokio::spawn(async move { batcher.send(now).await });
                }
            }
        }
    }

    fn take_pending(&self) -> Vec<PendingRead> {
        std::mem::take(&mut lock(&self.pending).reads)
    }

    async fn send(&self, reads: Vec<PendingRead>) {
        let with_all = reads.iter().any(|read| read.with_all);
        let names = reads.iter().map(|read| &read.name[..]);
        // A caller that was cancelled has dropped its receiver.
        match self.read(names, with_all, reads.len()).await {
            Err(error) => {
                for read in reads {
                    let _ = read.reply.send(Err(error.clone()));
                }
            }
            Ok((replies, all)) => {
                for (read, reply) in reads.into_iter().zip(replies) {
                    let _ = read.reply.send(Ok((reply, all.filter(|_| read.with_all))));
                }
            }
        }
    }

    /// Reads the values of keys, and the generation of all entries if somebody asked for it, for a number of callers.
    async fn read<'a>(
        &'a self,
        names: impl Iterator<Item = &'a str> + Clone,
        with_all: bool,
        callers: usize,
    ) -> Result<(Replies, Option<Generation>), StoreError> {
        let all = with_all.then_some(&self.all[..]);
        let mut replies = self.read_each(names.chain(all), callers).await?;
        let all = if with_all { replies.pop() } else { None };
        Ok((replies, all.and_then(generation_beside)))
    }

    /// Reads the values of keys: by one `MGET`, or by a `GET` for each if that is refused.
    async fn read_each<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Clone,
        callers: usize,
    ) -> Result<Replies, StoreError> {
        let count = names.clone().count();
        if count > 1 && !self.mget_refused.load(Ordering::Relaxed) {
            let bytes = names.clone().map(str::len).sum();
            let mut batch = Batch::new();
            let command = batch.cmd_with_capacity("MGET", count, bytes);
            for name in names.clone() {
                command.arg(name);
            }
            match self.node.send_for(&batch, callers).await?.pop() {
                Some(Ok(Value::Array(values))) if values.len() == count => {
                    return Ok(values.into_iter().map(Ok).collect());
                }
                // guard: J5 C16
                Some(Err(error)) if matches!(error.code(), Some("NOPERM" | "CROSSSLOT")) => {
                    self.mget_refused.store(true, Ordering::Relaxed);
                }
                Some(Err(error)) => return Ok(vec![Err(error); count]),
                _ => return Err(unexpected()),
            }
        }
        let mut batch = Batch::new();
        for name in names {
            batch.cmd("GET").arg(name);
        }
        self.node.send_for(&batch, callers).await
    }
}

/// The duty to send the pending reads. Dropped before that, as at the end of a runtime, it fails them: no
/// other task would send them.
struct FlushGuard(Option<Arc<ReadBatcher>>);

impl FlushGuard {
    fn take(mut self) -> (Arc<ReadBatcher>, Vec<PendingRead>) {
        let batcher = self.0.take().expect("it is taken once");
        let pending = batcher.take_pending();
        (batcher, pending)
    }
}

impl Drop for FlushGuard {
    fn drop(&mut self) {
        if let Some(batcher) = &self.0 {
            // guard: J4
            drop(batcher.take_pending());
        }
    }
}

/// The error of a read whose task was dropped, at the end of a runtime.
fn dropped() -> StoreError {
    StoreError::not_connected(None)
}

struct InFlight<'a> {
    count: &'a AtomicUsize,
    is_first: bool,
}

impl<'a> InFlight<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        Self { count, is_first }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
