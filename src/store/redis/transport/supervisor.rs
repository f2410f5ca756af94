//! The supervisor of a connection: keeps it alive, and fails callers at once while there is none.
//!
//! redis-rs' `ConnectionManager` is not used: it keeps a connection that hangs for ever, makes callers
//! wait for a reconnect beyond any timeout, and never recovers from a failed authentication. Here a
//! connection whose heartbeats are not answered is replaced, and an error of connecting is only kept until
//! the next attempt.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::batch::Batch;
use super::handshake::ConnectOptions;
use super::health::{Beat, Health};
use super::heartbeat::Heartbeat;
use super::link::Link;
use super::server::Server;
use super::tracking::{NextTest, Tracking, begin_caching};
use crate::store::error::StoreError;
use crate::store::redis::settings::{Access, Settings, Timeouts};
use crate::store::watch::TrackingSession;
use crate::util::backoff::Backoff;
use crate::util::lock;
use crate::util::task::spawn_stealable;

/// The shortest and the longest pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The state that callers see.
enum State {
    /// The first attempt, or the first after a connection was lost, is under way: callers wait for it.
    Connecting,
    Up(Link),
    /// The last attempt failed, and the next follows after a pause.
    Down(StoreError),
}

/// What a caller does during the pause after a failed attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDisconnect {
    /// It fails at once.
    Fail,
    /// It ends the pause, and fails if the next attempt does: an invalidation.
    Reconnect,
    /// It ends the pause, and waits for further attempts too: a command that no caller waits for.
    KeepReconnecting,
}

pub(super) struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    timeouts: Timeouts,
    access: Arc<Access>,
    heartbeat: Mutex<Heartbeat>,
    /// The time between two heartbeats.
    period: Duration,
    tracking: Option<Tracking>,
    watch: watch::Sender<Watch>,
    reconnect_now: Notify,
    session: Arc<AtomicU64>,
}

/// The state, and the task that may change it: both under one lock, so that no task publishes after
/// another has taken over.
struct Watch {
    state: State,
    /// The number of tasks so far. The last one supervises.
    task: u64,
    /// When the task was last active. `None` if it ended.
    active_at: Option<Instant>,
}

impl Watch {
    fn is_supervised(&self, stall_timeout: Duration) -> bool {
        self.active_at
            // guard: O1
            .is_some_and(|active_at| active_at.elapsed() < stall_timeout)
    }
}

impl Supervisor {
    /// Creates a supervisor, whose connections `session` counts.
    pub(super) fn new(
        server: Server,
        settings: &Settings,
        heartbeat: Heartbeat,
        session: Arc<AtomicU64>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                server,
                timeouts: settings.timeouts,
                access: Arc::clone(&settings.access),
                heartbeat: Mutex::new(heartbeat),
                period: settings.heartbeat_interval,
                tracking: settings.tracking.clone(),
                watch: watch::Sender::new(Watch {
                    state: State::Connecting,
                    task: 0,
                    active_at: None,
                }),
                reconnect_now: Notify::new(),
                session,
            }),
        }
    }

    /// Sets the key that the next heartbeats delete.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn set_heartbeat(&self, name: String) {
        lock(&self.shared.heartbeat).name = name;
    }

    /// Returns the connection, or waits for one as `on_disconnect` says. The caller limits the time.
    pub(super) async fn link(&self, on_disconnect: OnDisconnect) -> Result<Link, StoreError> {
        {
            let watch = self.shared.watch.borrow();
            if let State::Up(link) = &watch.state
                && !link.broken.is_set()
                && watch.is_supervised(self.shared.stall_timeout())
            {
                return Ok(link.clone());
            }
        }
        if let Some(running) = self.take_over() {
            // guard: O4
            spawn_stealable(supervise(running));
        }
        // Boxed: it is seldom needed, and would enlarge the future of each command.
        Box::pin(self.wait_for_link(on_disconnect)).await
    }

    async fn wait_for_link(&self, on_disconnect: OnDisconnect) -> Result<Link, StoreError> {
        let mut watch = self.shared.watch.subscribe();
        let mut reconnects = on_disconnect != OnDisconnect::Fail;
        loop {
            match &watch.borrow_and_update().state {
                // The supervisor is about to publish another state.
                State::Up(link) if link.broken.is_set() => {}
                State::Up(link) => return Ok(link.clone()),
                State::Down(_) if reconnects => {
                    self.shared.reconnect_now.notify_one();
                    reconnects = false;
                }
                State::Down(_) if on_disconnect == OnDisconnect::KeepReconnecting => {}
                State::Down(error) => return Err(error.clone()),
                State::Connecting => {}
            }
            if watch.changed().await.is_err() {
                return Err(StoreError::not_connected(None));
            }
        }
    }

    /// Opens a connection of its own, which is not supervised, for commands that must not share one:
    /// `WAIT` blocks its connection.
    pub(super) async fn open_dedicated(&self) -> Result<Link, StoreError> {
        self.shared.connect().await
    }

    /// Takes over from a task that ended or stalled. Returns `None` while a task supervises.
    ///
    /// The task and its connection belong to the runtime of the first caller. If that runtime ends, or is
    /// not driven, as between two calls of `block_on`, the next caller supervises in its own.
    fn take_over(&self) -> Option<Running> {
        let mut task = None;
        self.shared.watch.send_if_modified(|watch| {
            if watch.is_supervised(self.shared.stall_timeout()) {
                return false;
            }
            let has_stalled = watch.active_at.is_some();
            if has_stalled {
                watch.state = State::Connecting;
            }
            watch.task += 1;
            watch.active_at = Some(Instant::now());
            task = Some(watch.task);
            has_stalled
        });
        Some(Running {
            shared: Arc::downgrade(&self.shared),
            task: task?,
        })
    }
}

/// The task that supervises. Dropped, by whatever ends the task, it lets another take over.
struct Running {
    shared: Weak<Shared>,
    task: u64,
}

impl Running {
    /// Returns what to supervise, or `None` if the store is dropped or another task has taken over.
    fn shared(&self) -> Option<Arc<Shared>> {
        self.stay_active(None)
    }

    /// Publishes `state`, if this task still supervises. Returns whether it does.
    fn publish(&self, state: State) -> bool {
        self.stay_active(Some(state)).is_some()
    }

    /// Publishes that the connection is tracked in its session, if this task still supervises. Returns whether it
    /// does.
    fn enter(&self, link: &Link) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        shared.watch.send_if_modified(|watch| {
            // A task that stood still must not have a connection used that nobody's heartbeats prove.
            // guard: TR13
            let supervises = watch.task == self.task;
            if supervises {
                watch.state = State::Up(link.clone());
                if let Some(session) = &link.session {
                    session.enter();
                }
            }
            supervises
        })
    }

    /// Notes that the task is active, and publishes, unless another task has taken over.
    fn stay_active(&self, publish: Option<State>) -> Option<Arc<Shared>> {
        let shared = self.shared.upgrade()?;
        let mut supervises = false;
        shared.watch.send_if_modified(|watch| {
            supervises = watch.task == self.task;
            if !supervises {
                return false;
            }
            watch.active_at = Some(Instant::now());
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
                    watch.active_at = None;
                    watch.state = State::Connecting;
                }
                supervises
            });
        }
    }
}

async fn supervise(running: Running) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    while let Some(shared) = running.shared() {
        match shared.connect().await {
            Ok(link) => {
                backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
                drop(shared);
                if !running.publish(State::Up(link.clone())) {
                    return;
                }
                keep_alive(&running, link).await;
                running.publish(State::Connecting);
            }
            // The error is only kept for the pause: then a password that was corrected works.
            Err(error) => {
                if !running.publish(State::Down(error)) {
                    return;
                }
                tokio::select! {
                    () = sleep(backoff.pause()) => {}
                    () = shared.reconnect_now.notified() => {}
                }
            }
        }
    }
}

/// Sends heartbeats until the connection is to be replaced, or there is nothing to supervise.
///
/// Heartbeats are sent at their times whether or not the one before was answered: each proves what is tracked, as
/// of its own send, and a single delay should not cost two of them.
async fn keep_alive(running: &Running, mut link: Link) {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let mut health = Health::default();
    let mut entered = Entered(None);
    let mut next_test = NextTest::at(Instant::now());
    let mut logged = Vec::new();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(next.into()) => {}
            () = link.broken.wait() => return,
            Some((answer, proves)) = answers.recv() => {
                if !health.takes(answer, proves) {
                    return;
                }
                continue;
            }
        }
        let Some(shared) = running.shared() else {
            return;
        };
        if health.is_silent(shared.patience()) {
            return;
        }
        if entered.has_ended()
            && let Some(tracking) = &shared.tracking
            && next_test.is_due(&health, Instant::now())
        {
            let heartbeat = lock(&shared.heartbeat).clone();
            let test = tracking.begin(&mut link, &heartbeat, shared.timeouts.response);
            let tested = test.await;
            next_test.ended(tested.as_ref().err(), Instant::now());
            match tested {
                // Another session, and not the former one again: of what that watches, changes in the gap were not
                // reported. guard: TR3
                Ok(session) => {
                    link.session = Some(Arc::clone(&session));
                    if !running.enter(&link) {
                        return;
                    }
                    entered = Entered(Some(session));
                }
                Err(untracked) => tracking.report(&untracked, &mut logged),
            }
        }
        if health.has_room() {
            let session = entered.session();
            let proves = session.is_some();
            health.sends(proves);
            let beat = shared.beat(link.connection.clone(), session);
            let sender = sender.clone();
            spawn_stealable(async move {
                // The receiver may be gone, with the connection.
                let _ = sender.send((beat.await, proves));
            });
        }
        // After a delay, the next period is whole, so that answers that have arrived meanwhile are taken first.
        let now = Instant::now();
        next += shared.period;
        if next <= now {
            next = now + shared.period;
        }
    }
}

/// The session of the supervised connection, which ends with the supervision.
struct Entered(Option<Arc<TrackingSession>>);

impl Entered {
    /// Returns the session, unless it ended.
    fn session(&self) -> Option<Arc<TrackingSession>> {
        self.0.clone().filter(|session| !session.has_ended())
    }

    fn has_ended(&self) -> bool {
        self.session().is_none()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.end();
        }
    }
}

impl Shared {
    /// How long a task may go without activity before it counts as stalled: twice as long as it can at most
    /// be inactive.
    fn stall_timeout(&self) -> Duration {
        let longest = self.period.max(BACKOFF.1) + self.timeouts.connect + self.timeouts.response;
        longest * 2
    }

    /// Connects. The connection is used once it has answered a heartbeat.
    async fn connect(&self) -> Result<Link, StoreError> {
        let options = ConnectOptions {
            timeout: self.timeouts.connect,
            access: Arc::clone(&self.access),
            heartbeat: Some(lock(&self.heartbeat).clone()),
            tracking: self.tracking.clone(),
            must_be_master: false,
        };
        self.server.open(&options).await
    }

    /// Returns how long the heartbeats of a connection may be without an answer before it is replaced.
    fn silence(&self) -> Duration {
        2 * self.timeouts.response + self.period
    }

    /// Returns for how many periods no heartbeat may be answered before the connection is replaced.
    fn patience(&self) -> u32 {
        let periods = self
            .silence()
            .as_nanos()
            .div_ceil(self.period.as_nanos().max(1));
        u32::try_from(periods).unwrap_or(u32::MAX)
    }

    /// Sends a heartbeat, which proves what `session` tracks.
    fn beat(
        &self,
        mut connection: MultiplexedConnection,
        session: Option<Arc<TrackingSession>>,
    ) -> impl Future<Output = Beat> + Send + use<> {
        let heartbeat = lock(&self.heartbeat).clone();
        // A session is one of `tracking`.
        let session = session.zip(self.tracking.clone());
        // An answer that comes later than the bound proves nothing that is usable.
        let bound = session.as_ref().map_or(Duration::ZERO, |(_, it)| it.bound);
        let within = self.timeouts.response.max(bound).min(self.silence());
        async move {
            let mut batch = Batch::new();
            if session.is_some() {
                // Refused if tracking is off, as after a proxy connected to another server. guard: TR7
                begin_caching(&mut batch);
            }
            heartbeat.command(&mut batch);
            // Before the send, and not when the answer arrives: a late answer says nothing about the time
            // after it was sent. guard: TR7b
            let session = session.map(|(session, tracking)| (session, tracking.clock.now()));
            let mut replies = match timeout(within, batch.send(&mut connection)).await {
                Ok(Ok(replies)) => replies,
                Ok(Err(error)) if error.is_unrecoverable_error() => return Beat::Broken,
                Ok(Err(_)) | Err(_) => return Beat::Unanswered,
            };
            let deleted = replies.pop().map(|reply| heartbeat.check(reply));
            if let Some((session, sent)) = session {
                match replies.pop() {
                    Some(Ok(_)) if matches!(deleted, Some(Ok(()))) => session.prove(sent),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => session.end(),
                }
            }
            match deleted {
                Some(Ok(())) => Beat::Executed,
                Some(Err(_)) | None => Beat::Refused,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::Keys;
    use crate::store::layout::KeyLayout;
    use crate::store::redis::settings::BreakerSettings;
    use crate::store::redis::transport::handshake::Target;
    use crate::store::redis::transport::heartbeat::ServerKind;
    use crate::store::redis::transport::login::Login;
    use crate::store::redis::transport::url::connection_info;

    fn supervisor() -> Supervisor {
        let info = connection_info("redis://127.0.0.1:1").unwrap();
        let target = Target::new(info.addr().clone(), Login::new(&info, None));
        let server = Server::Single(target);
        let second = Duration::from_secs(1);
        let layout = KeyLayout::digest();
        let settings = Settings {
            timeouts: Timeouts {
                response: second,
                connect: second,
            },
            access: Arc::default(),
            breaker: BreakerSettings {
                failures: 1,
                pause: second,
            },
            keys: Arc::new(Keys::new("api_token".to_owned(), layout).unwrap()),
            heartbeat_interval: second,
            tracking: None,
        };
        let heartbeat = Heartbeat {
            name: "never".to_owned(),
            kind: ServerKind::Single(["one", "other"].map(str::to_owned)),
        };
        Supervisor::new(server, &settings, heartbeat, Arc::default())
    }

    fn down() -> State {
        State::Down(StoreError::not_connected(None))
    }

    async fn open(server: &test_support::RedisServer) -> Link {
        let info = connection_info(&server.url()).unwrap();
        let target = Target::new(info.addr().clone(), Login::new(&info, None));
        let options = ConnectOptions {
            timeout: Duration::from_secs(5),
            access: Arc::default(),
            heartbeat: None,
            tracking: None,
            must_be_master: false,
        };
        target.open(&options).await.unwrap()
    }

    /// Returns whether the future waits.
    async fn waits<T>(future: impl Future<Output = T>) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = std::future::ready(()) => true,
        }
    }

    /// All settings are a second.
    #[test]
    fn a_connection_may_be_silent_for_two_timeouts_and_a_period() {
        let shared = supervisor().shared;
        assert_eq!(shared.patience(), 3);
        assert_eq!(shared.stall_timeout(), Duration::from_secs(6));
    }

    #[tokio::test]
    async fn a_connection_that_broke_is_given_to_nobody() {
        let supervisor = supervisor();
        let running = supervisor.take_over().unwrap();
        let link = open(&test_support::RedisServer::start()).await;
        assert!(running.enter(&link));
        assert!(!waits(supervisor.link(OnDisconnect::Fail)).await);
        link.give_up();
        assert!(waits(supervisor.link(OnDisconnect::Fail)).await);
    }

    #[tokio::test]
    async fn an_invalidation_ends_the_pause_between_attempts_and_waits() {
        let supervisor = supervisor();
        let running = supervisor.take_over().unwrap();
        assert!(running.publish(down()));
        let ends = || waits(supervisor.shared.reconnect_now.notified());
        assert!(!waits(supervisor.link(OnDisconnect::Fail)).await && ends().await);
        assert!(waits(supervisor.link(OnDisconnect::Reconnect)).await);
        assert!(!ends().await);
    }

    #[tokio::test]
    async fn a_stalled_task_does_not_enter_its_connection() {
        let supervisor = supervisor();
        let first = supervisor.take_over().unwrap();
        let link = open(&test_support::RedisServer::start()).await;
        assert!(first.enter(&link));
        supervisor.shared.watch.send_modify(|watch| {
            watch.active_at = Instant::now().checked_sub(supervisor.shared.stall_timeout());
        });
        let second = supervisor.take_over().unwrap();
        let is_up = || matches!(supervisor.shared.watch.borrow().state, State::Up(_));
        assert!(!first.enter(&link) && !is_up());
        assert!(second.enter(&link) && is_up());
    }

    #[test]
    fn a_stalled_task_does_not_publish_over_its_successor() {
        let supervisor = supervisor();
        let first = supervisor.take_over().unwrap();
        assert!(supervisor.take_over().is_none(), "one at a time");
        assert!(first.publish(down()));
        supervisor.shared.watch.send_modify(|watch| {
            watch.active_at = Instant::now().checked_sub(supervisor.shared.stall_timeout());
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
