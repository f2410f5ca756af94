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
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::batch::Batch;
use super::endpoint::{Deadlines, Server};
use super::fault::{Replied, not_connected};
use super::handshake::{Access, Link, Opening};
use crate::store::StoreError;
use crate::task::spawn_stealable;
use crate::util::lock;
use crate::util::random_fraction;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// So many heartbeats in a row without an answer, and the link is taken for dead.
const MISSES: u32 = 2;

/// The shortest and the longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What a heartbeat deletes: a key that never exists. It is a write that changes nothing: unlike PING,
/// a demoted master, a replica and an isolated one refuse it.
#[derive(Clone)]
pub(super) struct Heartbeat {
    pub(super) name: String,
    pub(super) of: Kind,
}

/// What a server is asked as.
#[derive(Clone)]
pub(super) enum Kind {
    /// One server. The names are of two slots, and never exist either: one command that deletes both is
    /// refused by what is a cluster behind one address.
    Server([String; 2]),
    /// A node of a cluster. That the key's slot has moved, or is on its way, is an answer: the server says
    /// so of every key that is not its own, and so has nothing wrong to tell.
    #[cfg(feature = "redis-cluster")]
    Node,
}

impl Heartbeat {
    pub(super) fn command(&self, batch: &mut Batch) {
        batch.cmd("DEL").arg(&self.name);
    }

    /// What tells, once for each connection, whether keys are apart there, if that has to be asked.
    pub(super) fn ask_for_slots(&self, batch: &mut Batch) -> bool {
        match &self.of {
            Kind::Server(names) => {
                batch.cmd("DEL").arg(names);
                true
            }
            #[cfg(feature = "redis-cluster")]
            Kind::Node => false,
        }
    }

    fn may_move(&self) -> bool {
        !matches!(self.of, Kind::Server(_))
    }

    /// Whether it was taken: an error is no answer.
    pub(super) fn check(&self, reply: Replied) -> Result<(), StoreError> {
        match reply {
            Err(fault) if self.may_move() && matches!(fault.code(), Some("MOVED" | "ASK")) => {
                Ok(())
            }
            Err(fault) => Err(fault.into()),
            Ok(_) => Ok(()),
        }
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
    /// Has an attempt made, and waits for the next ones too: what nobody waits for.
    Persist,
}

pub(super) struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    deadlines: Deadlines,
    access: Arc<Access>,
    heartbeat: Mutex<Heartbeat>,
    watch: watch::Sender<Watch>,
    hurry: Notify,
    session: Arc<AtomicU64>,
}

/// What callers see, and the task that may change it: both under one lock, so that no task publishes
/// after another has taken over.
struct Watch {
    state: State,
    /// Counts tasks: the last one supervises.
    task: u64,
    /// When it last showed itself; nothing if it ended.
    seen: Option<Instant>,
}

impl Watch {
    fn is_kept(&self, patience: Duration) -> bool {
        self.seen.is_some_and(|seen| seen.elapsed() < patience)
    }
}

impl Supervisor {
    /// `session` counts the connections that were made.
    pub(super) fn new(
        server: Server,
        deadlines: Deadlines,
        access: Arc<Access>,
        heartbeat: Heartbeat,
        session: Arc<AtomicU64>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                server,
                deadlines,
                access,
                heartbeat: Mutex::new(heartbeat),
                watch: watch::Sender::new(Watch {
                    state: State::Connecting,
                    task: 0,
                    seen: None,
                }),
                hurry: Notify::new(),
                session,
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
        {
            let watch = self.shared.watch.borrow();
            if let State::Up(link) = &watch.state
                && !link.broken.is_known()
                && watch.is_kept(self.shared.patience())
            {
                return Ok(link.clone());
            }
        }
        if let Some(running) = self.take_over() {
            spawn_stealable(supervise(running));
        }
        // Boxed: what waits for a connection is seldom needed, and every command would carry it.
        Box::pin(self.link_to_come(patience)).await
    }

    async fn link_to_come(&self, patience: Patience) -> Result<Link, StoreError> {
        let mut watch = self.shared.watch.subscribe();
        let mut insists = patience != Patience::FailFast;
        loop {
            match &watch.borrow_and_update().state {
                // The supervisor is about to say so.
                State::Up(link) if link.broken.is_known() => {}
                State::Up(link) => return Ok(link.clone()),
                State::Down(_) if insists => {
                    self.shared.hurry.notify_one();
                    // To an invalidation, what the next attempt says is final.
                    insists = false;
                }
                State::Down(_) if patience == Patience::Persist => {}
                State::Down(error) => return Err(error.clone()),
                State::Connecting => {}
            }
            if watch.changed().await.is_err() {
                return Err(StoreError::not_connected(None));
            }
        }
    }

    /// A connection of its own, which nobody supervises, for what must not share one: `WAIT` blocks
    /// it.
    pub(super) async fn open_apart(&self) -> Result<Link, StoreError> {
        self.shared.connect().await
    }

    /// The task lives in the runtime that first asked. Should that one end, or stand still, as one
    /// does that is between two calls of `block_on`, the next to ask supervises in theirs: the
    /// connection lives there too, and answers nobody. Returns nothing while a task supervises.
    fn take_over(&self) -> Option<Running> {
        let mut task = None;
        self.shared.watch.send_if_modified(|watch| {
            if watch.is_kept(self.shared.patience()) {
                return false;
            }
            let stands_still = watch.seen.is_some();
            if stands_still {
                watch.state = State::Connecting;
            }
            watch.task += 1;
            watch.seen = Some(Instant::now());
            task = Some(watch.task);
            stands_still
        });
        Some(Running {
            shared: Arc::downgrade(&self.shared),
            task: task?,
        })
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
        self.show(None)
    }

    /// Publishes `state`. Returns whether this task still supervises; if not, nothing is published.
    fn publish(&self, state: State) -> bool {
        self.show(Some(state)).is_some()
    }

    /// Shows that the task runs, and publishes, unless another task has taken over.
    fn show(&self, publish: Option<State>) -> Option<Arc<Shared>> {
        let shared = self.shared.upgrade()?;
        let mut supervises = false;
        shared.watch.send_if_modified(|watch| {
            supervises = watch.task == self.task;
            if !supervises {
                return false;
            }
            watch.seen = Some(Instant::now());
            let Some(state) = publish else {
                return false;
            };
            if let State::Up(_) = &state {
                shared.session.fetch_add(1, Ordering::SeqCst);
            }
            watch.state = state;
            true
        });
        supervises.then_some(shared)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.watch.send_if_modified(|watch| {
                let supervises = watch.task == self.task;
                if supervises {
                    watch.seen = None;
                    watch.state = State::Connecting;
                }
                supervises
            });
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
                if !running.publish(State::Up(link.clone())) {
                    return;
                }
                watch_over(&running, link).await;
                running.publish(State::Connecting);
            }
            // It is kept for no longer than the pause: a password that is put right works then.
            Err(error) => {
                if !running.publish(State::Down(error)) {
                    return;
                }
                // From a half to the whole.
                let pause = backoff.mul_f64(0.5 + 0.5 * random_fraction());
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
            () = link.broken.told() => return,
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

    /// A connection counts when it has answered a heartbeat.
    async fn connect(&self) -> Result<Link, StoreError> {
        let opening = Opening {
            deadline: self.deadlines.connect,
            access: Arc::clone(&self.access),
            heartbeat: Some(lock(&self.heartbeat).clone()),
            of_a_master: false,
        };
        self.server.open(&opening).await
    }

    async fn beat(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let heartbeat = lock(&self.heartbeat).clone();
        let mut batch = Batch::new();
        heartbeat.command(&mut batch);
        let replies = match timeout(self.deadlines.response, batch.send(connection)).await {
            Ok(replies) => replies.map_err(not_connected)?,
            Err(_) => return Err(StoreError::timeout()),
        };
        replies
            .into_iter()
            .try_for_each(|reply| heartbeat.check(reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::endpoint::Endpoint;

    fn supervisor() -> Supervisor {
        let endpoint = Endpoint::parse("redis://127.0.0.1:1");
        let Ok(Endpoint::Server(server)) = endpoint else {
            panic!("a server's URL");
        };
        let second = Duration::from_secs(1);
        let deadlines = Deadlines {
            response: second,
            connect: second,
        };
        let heartbeat = Heartbeat {
            name: "never".to_owned(),
            of: Kind::Server(["one", "other"].map(str::to_owned)),
        };
        Supervisor::new(server, deadlines, Arc::default(), heartbeat, Arc::default())
    }

    fn down() -> State {
        State::Down(StoreError::not_connected(None))
    }

    #[test]
    fn a_task_that_stood_still_publishes_nothing_over_its_successors_state() {
        let supervisor = supervisor();
        let first = supervisor.take_over().unwrap();
        assert!(supervisor.take_over().is_none(), "one at a time");
        assert!(first.publish(down()));
        supervisor.shared.watch.send_modify(|watch| {
            watch.seen = Instant::now().checked_sub(supervisor.shared.patience());
        });
        let second = supervisor.take_over().unwrap();
        let is_connecting = || {
            let watch = supervisor.shared.watch.borrow();
            matches!(watch.state, State::Connecting)
        };
        assert!(is_connecting());
        assert!(!first.publish(down()) && is_connecting());
        assert!(second.publish(down()) && !is_connecting());
        drop(first);
        assert!(!is_connecting());
        drop(second);
        assert!(is_connecting());
    }
}
