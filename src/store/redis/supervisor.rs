//! The supervisor: keeps one connection alive, and says at once when there is none.
//!
//! Not redis-rs' `ConnectionManager`: it keeps a hung link for ever, makes callers wait for a
//! reconnect beyond any deadline, and a failed authentication poisons it for good. Here a heartbeat
//! finds a link that hangs, two in a row that are missed replace it, no error of connecting outlives
//! the next attempt, and callers fail at once while there is no connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::batch::Batch;
use super::endpoint::{Deadlines, Server};
use super::fault::not_connected;
use super::lock;
use crate::store::StoreError;
use crate::task::{free_lifo_slot, spawn_stealable};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// So many heartbeats in a row without an answer, and the link is taken for dead.
const MISSES: u32 = 2;

/// The shortest and the longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A connection that answered a heartbeat. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    broken: Arc<Notify>,
}

impl Link {
    /// Tells the supervisor to replace it now.
    pub(super) fn give_up(&self) {
        self.broken.notify_one();
        free_lifo_slot();
    }
}

/// What a heartbeat deletes: a key that never exists. It is a write that changes nothing: unlike PING,
/// a demoted master, a replica and an isolated one refuse it.
pub(super) struct Heartbeat {
    pub(super) name: String,
    /// The server belongs to a cluster. That the key's slot has moved, or is on its way, is an answer
    /// then: the server says so of every key that is not its own, and so has nothing wrong to tell.
    pub(super) may_move: bool,
}

/// What callers see.
enum State {
    /// The first attempt, or the first after a loss, is under way: worth waiting for.
    Connecting,
    Up(Link),
    /// The last attempt failed, and the next is due after a pause.
    Down(StoreError),
}

/// Whether a caller puts up with the pause after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Fails at once.
    FailFast,
    /// Has an attempt made, and hears of it: an invalidation.
    Insist,
}

pub(super) struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    deadlines: Deadlines,
    heartbeat: Mutex<Heartbeat>,
    state: watch::Sender<State>,
    hurry: Notify,
    session: Arc<AtomicU64>,
    watch: Mutex<Watch>,
}

/// Who supervises.
#[derive(Default)]
struct Watch {
    /// Counts tasks: the last one supervises.
    task: u64,
    /// When it last showed itself; nothing if it ended.
    seen: Option<Instant>,
}

impl Supervisor {
    /// `session` counts the connections that were made.
    pub(super) fn new(
        server: Server,
        deadlines: Deadlines,
        heartbeat: Heartbeat,
        session: Arc<AtomicU64>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                server,
                deadlines,
                heartbeat: Mutex::new(heartbeat),
                state: watch::channel(State::Connecting).0,
                hurry: Notify::new(),
                session,
                watch: Mutex::default(),
            }),
        }
    }

    /// What heartbeats delete from now on.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn set_heartbeat(&self, name: String) {
        lock(&self.shared.heartbeat).name = name;
    }

    /// The connection there is; to be called under the caller's own deadline.
    pub(super) async fn link(&self, patience: Patience) -> Result<Link, StoreError> {
        self.keep_running();
        if let State::Up(link) = &*self.shared.state.borrow() {
            return Ok(link.clone());
        }
        // Boxed: what waits for a connection is seldom needed, and every command would carry it.
        Box::pin(self.link_to_come(patience)).await
    }

    async fn link_to_come(&self, patience: Patience) -> Result<Link, StoreError> {
        let mut state = self.shared.state.subscribe();
        let mut insists = patience == Patience::Insist;
        loop {
            match &*state.borrow_and_update() {
                State::Up(link) => return Ok(link.clone()),
                State::Down(error) if !insists => return Err(error.clone()),
                State::Down(_) => {
                    self.shared.hurry.notify_one();
                    // What the next attempt says is final.
                    insists = false;
                }
                State::Connecting => {}
            }
            if state.changed().await.is_err() {
                return Err(StoreError::not_connected(None));
            }
        }
    }

    /// A connection of its own, which nobody supervises, for what must not share one: `WAIT` blocks
    /// it.
    pub(super) async fn open_apart(&self) -> Result<Link, StoreError> {
        let broken = Arc::default();
        let connection = self.shared.open(Arc::clone(&broken)).await?;
        Ok(Link { connection, broken })
    }

    /// The task lives in the runtime that first asked. Should that one end, or stand still, as one
    /// does that is between two calls of `block_on`, the next to ask supervises in theirs: the
    /// connection lives there too, and answers nobody.
    fn keep_running(&self) {
        let mut watch = lock(&self.shared.watch);
        if watch
            .seen
            .is_some_and(|seen| seen.elapsed() < self.shared.patience())
        {
            return;
        }
        if watch.seen.is_some() {
            self.shared.state.send_replace(State::Connecting);
        }
        watch.task += 1;
        watch.seen = Some(Instant::now());
        let running = Running {
            shared: Arc::downgrade(&self.shared),
            task: watch.task,
        };
        // A runtime that has ended drops the task at once, and the task takes the lock for it.
        drop(watch);
        spawn_stealable(supervise(running));
    }
}

/// Says, whatever ends the task, that nobody supervises any more.
struct Running {
    shared: Weak<Shared>,
    task: u64,
}

impl Running {
    /// What to supervise, until the store is dropped or another task has taken over.
    fn shared(&self) -> Option<Arc<Shared>> {
        let shared = self.shared.upgrade()?;
        let mut watch = lock(&shared.watch);
        if watch.task != self.task {
            return None;
        }
        watch.seen = Some(Instant::now());
        drop(watch);
        Some(shared)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut watch = lock(&shared.watch);
            if watch.task == self.task {
                watch.seen = None;
                shared.state.send_replace(State::Connecting);
            }
        }
    }
}

async fn supervise(running: Running) {
    let mut backoff = BACKOFF.0;
    while let Some(shared) = running.shared() {
        match shared.connect().await {
            Ok(link) => {
                backoff = BACKOFF.0;
                drop(shared);
                if let Some(shared) = running.shared() {
                    shared.session.fetch_add(1, Ordering::SeqCst);
                    shared.state.send_replace(State::Up(link.clone()));
                    drop(shared);
                    watch_over(&running, link).await;
                }
                if let Some(shared) = running.shared() {
                    shared.state.send_replace(State::Connecting);
                }
            }
            // It is kept for no longer than the pause: a password that is put right works then.
            Err(error) => {
                drop(shared);
                let Some(shared) = running.shared() else {
                    return;
                };
                shared.state.send_replace(State::Down(error));
                let pause = backoff.mul_f64(jitter());
                backoff = (backoff * 2).min(BACKOFF.1);
                tokio::select! {
                    () = sleep(pause) => {}
                    () = shared.hurry.notified() => {}
                }
            }
        }
    }
}

/// Until the link is to be replaced, or there is nothing to supervise any more.
async fn watch_over(running: &Running, mut link: Link) {
    let mut missed = 0;
    while missed < MISSES {
        tokio::select! {
            () = sleep(HEARTBEAT) => {}
            () = link.broken.notified() => return,
        }
        let Some(shared) = running.shared() else {
            return;
        };
        match shared.beat(&mut link.connection).await {
            Ok(()) => missed = 0,
            Err(_) => missed += 1,
        }
    }
}

impl Shared {
    /// A task that has not shown itself for so long stands still: twice the longest that it is silent.
    fn patience(&self) -> Duration {
        let longest = HEARTBEAT.max(BACKOFF.1) + self.deadlines.connect + self.deadlines.response;
        longest * 2
    }

    /// A connection counts when it has answered a heartbeat: an error is no answer.
    async fn connect(&self) -> Result<Link, StoreError> {
        let broken = Arc::new(Notify::new());
        let attempt = async {
            let mut connection = self.open(Arc::clone(&broken)).await?;
            self.beat(&mut connection).await?;
            Ok::<_, StoreError>(connection)
        };
        let connected = match timeout(self.deadlines.connect, attempt).await {
            Ok(connected) => connected,
            Err(_) => Err(StoreError::timeout()),
        };
        match connected {
            Ok(connection) => Ok(Link { connection, broken }),
            // No command's: everybody who hears of it at once would be a failure to the breaker.
            Err(error) if error.is_timeout() => {
                Err(StoreError::not_connected(Some(Arc::new(error))))
            }
            Err(error) => Err(error),
        }
    }

    async fn open(&self, broken: Arc<Notify>) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadlines.connect))
            // Whoever sends does so under a deadline of ours: a second timer would tell nothing new.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(256)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    broken.notify_one();
                }
                Ok::<(), redis::aio::SendError>(())
            });
        self.server.open(&config).await.map_err(not_connected)
    }

    async fn beat(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let may_move = {
            let heartbeat = lock(&self.heartbeat);
            batch.cmd("DEL").arg(&heartbeat.name);
            heartbeat.may_move
        };
        let replies = match timeout(self.deadlines.response, batch.send(connection)).await {
            Ok(replies) => replies.map_err(not_connected)?,
            Err(_) => return Err(StoreError::timeout()),
        };
        for reply in replies {
            match reply {
                Err(fault) if may_move && matches!(fault.code(), Some("MOVED" | "ASK")) => {}
                reply => drop(reply?),
            }
        }
        Ok(())
    }
}

/// From a half to the whole.
fn jitter() -> f64 {
    let dice = getrandom::u32().unwrap_or(u32::MAX);
    0.5 + 0.5 * f64::from(dice) / f64::from(u32::MAX)
}
