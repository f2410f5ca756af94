//! The supervisor: keeps one connection alive, and says at once when there is none.
//!
//! Not redis-rs' `ConnectionManager`: it keeps a hung link for ever, makes callers wait for a
//! reconnect beyond any deadline, and a failed authentication poisons it for good. Here a heartbeat
//! finds a link that hangs, two in a row that are missed replace it, no error of connecting outlives
//! the next attempt, and callers fail at once while there is no connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{AsyncConnectionConfig, PushInfo, PushKind};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::batch::{Batch, Wire};
use super::connection::{first_refusal, not_connected};
use super::endpoint::{Deadlines, Endpoint};
use crate::store::StoreError;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// So many heartbeats in a row without an answer, and the link is taken for dead.
const MISSES: u32 = 2;

/// How many keys a heartbeat of a cluster deletes.
const SPREAD: usize = 16;

/// The shortest and the longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A connection that answered a heartbeat. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) wire: Wire,
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
    endpoint: Endpoint,
    deadlines: Deadlines,
    /// Never exists. Deleting it is a write that changes nothing: unlike PING, a demoted master, a
    /// replica and an isolated one refuse it.
    heartbeat: String,
    state: watch::Sender<State>,
    hurry: Notify,
    running: AtomicBool,
    session: AtomicU64,
}

impl Supervisor {
    pub(super) fn new(endpoint: Endpoint, deadlines: Deadlines, heartbeat: String) -> Self {
        Self {
            shared: Arc::new(Shared {
                endpoint,
                deadlines,
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
    pub(super) async fn open_apart(&self, response: Duration) -> Result<Wire, StoreError> {
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
            Ok(mut link) => {
                backoff = BACKOFF.0;
                drop(shared);
                while let Some(shared) = guard.0.upgrade() {
                    shared.session.fetch_add(1, Ordering::SeqCst);
                    shared.state.send_replace(State::Up(link.clone()));
                    drop(shared);
                    match watch_over(&guard.0, link).await {
                        Some(replacement) => link = replacement,
                        None => break,
                    }
                }
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

/// Until the link is to be replaced, or the store was dropped. A cluster's link stays in use until
/// its replacement is there: the other nodes answer by it.
async fn watch_over(shared: &Weak<Shared>, mut link: Link) -> Option<Link> {
    let mut missed = 0;
    loop {
        tokio::select! {
            () = sleep(HEARTBEAT) => {}
            () = link.broken.notified() => return None,
        }
        let shared = shared.upgrade()?;
        let heard = shared.beat(&mut link.wire).await;
        if heard.is_whole() {
            missed = 0;
            continue;
        }
        missed += 1;
        if missed < MISSES {
            continue;
        }
        if !shared.endpoint.is_cluster() {
            return None;
        }
        // A hung node is never left by the client that hangs on it (REDIS.md section 6).
        match shared.connect().await {
            Ok(replacement) => return Some(replacement),
            Err(_) if heard.is_silence() => return None,
            Err(_) => missed = 0,
        }
    }
}

/// The answers to a heartbeat.
struct Heard {
    asked: usize,
    answered: usize,
    error: Option<StoreError>,
}

impl Heard {
    fn is_whole(&self) -> bool {
        self.answered == self.asked
    }

    fn is_silence(&self) -> bool {
        self.answered == 0
    }
}

impl Shared {
    /// A connection counts when it has answered a heartbeat, a cluster when some of it has: an error
    /// is no answer.
    async fn connect(&self) -> Result<Link, StoreError> {
        let broken = Arc::new(Notify::new());
        let attempt = async {
            let mut wire = self
                .open(self.deadlines.response, Arc::clone(&broken))
                .await?;
            let heard = self.beat(&mut wire).await;
            match heard.error {
                Some(error) if heard.answered == 0 => Err(error),
                _ => Ok(wire),
            }
        };
        match timeout(self.deadlines.connect, attempt).await {
            Ok(wire) => Ok(Link {
                wire: wire?,
                broken,
            }),
            Err(_) => Err(StoreError::timeout()),
        }
    }

    async fn open(&self, response: Duration, broken: Arc<Notify>) -> Result<Wire, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadlines.connect))
            .set_response_timeout(Some(response))
            .set_pipeline_buffer_size(256)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    broken.notify_one();
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let opened = self.endpoint.open(&config, self.deadlines).await;
        opened.map_err(not_connected)
    }

    /// On a cluster by several keys, which lie on all of its nodes with near certainty.
    async fn beat(&self, wire: &mut Wire) -> Heard {
        let asked = if self.endpoint.is_cluster() {
            SPREAD
        } else {
            1
        };
        let mut beats = tokio::task::JoinSet::new();
        for n in 0..asked {
            let (mut wire, deadline) = (wire.clone(), self.deadlines.response);
            let mut batch = Batch::new();
            batch.cmd("DEL").arg(format!("{}:{{{n}}}", self.heartbeat));
            beats.spawn(async move {
                match timeout(deadline, wire.send(&batch)).await {
                    Ok(Ok(replies)) => first_refusal(&replies).map_or(Ok(()), Err),
                    Ok(Err(error)) => Err(not_connected(error)),
                    Err(_) => Err(StoreError::timeout()),
                }
            });
        }
        let beats = beats.join_all().await;
        Heard {
            asked,
            answered: beats.iter().filter(|beat| beat.is_ok()).count(),
            error: beats.into_iter().find_map(Result::err),
        }
    }
}

/// From a half to the whole.
fn jitter() -> f64 {
    let dice = getrandom::u32().unwrap_or(u32::MAX);
    0.5 + 0.5 * f64::from(dice) / f64::from(u32::MAX)
}
