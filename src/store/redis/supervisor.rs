//! The supervisor: keeps one connection alive, and says at once when there is none.
//!
//! Not redis-rs' `ConnectionManager`: it keeps a hung link for ever, makes callers wait for a
//! reconnect beyond any deadline, and a failed authentication poisons it for good. Here a heartbeat
//! finds a link that hangs, two in a row that are missed replace it, no error of connecting outlives
//! the next attempt, and callers fail at once while there is no connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, cmd};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::store::StoreError;

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
    }
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
    client: Client,
    deadline: Duration,
    connect_deadline: Duration,
    /// Never exists. Deleting it is a write that changes nothing: unlike PING, a demoted master, a
    /// replica and an isolated one refuse it.
    heartbeat: String,
    state: watch::Sender<State>,
    hurry: Notify,
    running: AtomicBool,
    session: AtomicU64,
}

impl Supervisor {
    pub(super) fn new(
        client: Client,
        deadline: Duration,
        connect_deadline: Duration,
        heartbeat: String,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                deadline,
                connect_deadline,
                heartbeat,
                state: watch::channel(State::Connecting).0,
                hurry: Notify::new(),
                running: AtomicBool::new(false),
                session: AtomicU64::new(0),
            }),
        }
    }

    /// Counts connections.
    pub(super) fn session(&self) -> u64 {
        self.shared.session.load(Ordering::SeqCst)
    }

    /// The connection there is; to be called under the caller's own deadline.
    pub(super) async fn link(&self, patience: Patience) -> Result<Link, StoreError> {
        self.keep_running();
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

    /// A connection of its own, for what must not share one: `WAIT` blocks it.
    pub(super) async fn dedicated(
        &self,
        response: Duration,
    ) -> Result<MultiplexedConnection, StoreError> {
        self.shared.open(response, Arc::default()).await
    }

    /// The task lives in the runtime that first asked; should that one end, the next to ask starts
    /// it again in theirs.
    fn keep_running(&self) {
        if !self.shared.running.swap(true, Ordering::SeqCst) {
            let guard = Running(Arc::downgrade(&self.shared));
            tokio::spawn(supervise(guard));
        }
    }
}

/// Says, whatever ends the task, that nobody supervises any more.
struct Running(Weak<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.state.send_replace(State::Connecting);
            shared.running.store(false, Ordering::SeqCst);
        }
    }
}

/// Until the store is dropped.
async fn supervise(guard: Running) {
    let mut backoff = BACKOFF.0;
    while let Some(shared) = guard.0.upgrade() {
        match shared.connect().await {
            Ok(link) => {
                backoff = BACKOFF.0;
                shared.session.fetch_add(1, Ordering::SeqCst);
                shared.state.send_replace(State::Up(link.clone()));
                drop(shared);
                watch_over(&guard.0, link).await;
                if let Some(shared) = guard.0.upgrade() {
                    shared.state.send_replace(State::Connecting);
                }
            }
            // It is kept for no longer than the pause: a password that is put right works then.
            Err(error) => {
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

/// Until the link is to be replaced, or the store was dropped.
async fn watch_over(shared: &Weak<Shared>, mut link: Link) {
    let mut missed = 0;
    while missed < MISSES {
        tokio::select! {
            () = sleep(HEARTBEAT) => {}
            () = link.broken.notified() => return,
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match shared.beat(&mut link.connection).await {
            Ok(()) => missed = 0,
            Err(_) => missed += 1,
        }
    }
}

impl Shared {
    /// A connection counts when it has answered a heartbeat: an error is no answer.
    async fn connect(&self) -> Result<Link, StoreError> {
        let broken = Arc::new(Notify::new());
        let attempt = async {
            let mut connection = self.open(self.deadline, Arc::clone(&broken)).await?;
            self.beat(&mut connection).await?;
            Ok(connection)
        };
        match timeout(self.connect_deadline, attempt).await {
            Ok(connected) => Ok(Link {
                connection: connected?,
                broken,
            }),
            Err(_) => Err(StoreError::timeout()),
        }
    }

    async fn open(
        &self,
        response: Duration,
        broken: Arc<Notify>,
    ) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_deadline))
            .set_response_timeout(Some(response))
            .set_pipeline_buffer_size(256)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    broken.notify_one();
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let opened = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        opened.map_err(|error| StoreError::not_connected(Some(Arc::new(error))))
    }

    async fn beat(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let mut delete = cmd("DEL");
        delete.arg(&self.heartbeat);
        match timeout(self.deadline, delete.query_async::<i64>(connection)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(StoreError::not_connected(Some(Arc::new(error)))),
            Err(_) => Err(StoreError::timeout()),
        }
    }
}

/// From a half to the whole.
fn jitter() -> f64 {
    let dice = getrandom::u32().unwrap_or(u32::MAX);
    0.5 + 0.5 * f64::from(dice) / f64::from(u32::MAX)
}
