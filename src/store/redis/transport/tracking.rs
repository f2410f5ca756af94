//! Client tracking on a connection: the test that it works, and the pushes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::Value;
use tokio::time::timeout;

use super::batch::Batch;
use super::health::Health;
use super::heartbeat::Heartbeat;
use super::link::Link;
use super::pushes::Pushes;
use super::reply::{Reply, ReplyError, confirmed, read, send_failed, unexpected};
use crate::clock::Clock;
use crate::store::entry::Nonce;
use crate::store::error::StoreError;
use crate::store::keys::Keys;
use crate::store::watch::{Mark, Tracker, TrackingSession, Watch};
use crate::trace::{chain, event};
use crate::util::lock;

/// The TTL of the key that a test writes, in milliseconds.
const TTL: u64 = 1_000;

/// The fields of the reply to `HELLO` of Redis and Valkey. Others that call themselves Redis add some.
const HELLO: [&str; 8] = [
    "server",
    "version",
    "proto",
    "id",
    "mode",
    "role",
    "modules",
    "availability_zone",
];

/// How the connections of a store are tracked.
#[derive(Clone)]
pub(crate) struct Tracking {
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) clock: Clock,
    /// The staleness bound of the local level.
    pub(crate) bound: Duration,
    pub(crate) keys: Arc<Keys>,
    /// Why a connection is not tracked, as the log last said.
    pub(crate) reported: Arc<Mutex<String>>,
    /// Whether to track on servers too that are not known to send each push before later replies.
    pub(crate) on_any_server: bool,
}

/// Why a connection is not tracked.
#[derive(Debug)]
pub(super) enum Untracked {
    /// The server cannot, or is not known to: this does not change for the connection.
    Unsupported(&'static str),
    /// The server refused it now, or sent no push.
    Failed(StoreError),
}

/// Has the next command's key tracked, if it is read.
pub(crate) fn begin_caching(batch: &mut Batch) {
    batch.cmd("CLIENT").arg("CACHING").arg("YES");
}

/// Returns the watch of a key that was read in `session`, if `caching`, the reply to what was said before the read,
/// shows that tracking was on.
pub(crate) fn watch(
    session: Option<Arc<TrackingSession>>,
    mark: Mark,
    caching: &Reply,
) -> Option<Watch> {
    let session = session?;
    // guard: TR6e
    if caching.is_err() {
        session.end();
        return None;
    }
    Some(Watch::new(session, mark))
}

/// The least time between two tests of a connection.
const TEST_PAUSE: Duration = Duration::from_secs(10);

/// The number of reasons that are logged of one connection.
const REASONS: usize = 8;

/// When a connection is tested. `None`: not again.
pub(super) struct NextTest(Option<Instant>);

impl NextTest {
    pub(super) fn at(now: Instant) -> Self {
        Self(Some(now))
    }

    /// Returns whether a connection that is in no session is to be tested now.
    pub(super) fn is_due(&self, health: &Health, now: Instant) -> bool {
        // No heartbeat of an ended session may run after a test that is good: it would prove what was tracked
        // before the gap. Those that prove nothing do not matter. Where replies take longer than a period, one is
        // always under way.
        // guard: TR3b TR3c
        !health.is_proving() && self.0.is_some_and(|at| at <= now)
    }

    /// Takes the end of a test.
    pub(super) fn ended(&mut self, untracked: Option<&Untracked>, now: Instant) {
        self.0 = match untracked {
            Some(Untracked::Unsupported(_)) => None,
            // After a good one too: if its session ends at once, another test does not follow at once.
            // guard: TR2b
            Some(Untracked::Failed(_)) | None => Some(now + TEST_PAUSE),
        };
    }
}

impl Tracking {
    /// Logs why a connection is not tracked, if that is another reason than the one before. `logged` are those that
    /// were logged of this connection.
    pub(super) fn report(&self, untracked: &Untracked, logged: &mut Vec<String>) {
        let why = match untracked {
            Untracked::Unsupported(why) => (*why).to_owned(),
            Untracked::Failed(error) => chain(error),
        };
        if self.is_new(&why, logged) {
            event!(
                info,
                "tower_api_token",
                "client tracking is off: local entries are read again at half of the staleness bound",
                why = why
            );
        }
    }

    /// Returns whether a reason is to be logged. A connection whose tests fail for two reasons in turn does not log
    /// one with each test.
    fn is_new(&self, why: &str, logged: &mut Vec<String>) -> bool {
        let mut latest = lock(&self.reported);
        // guard: TR2d TR2e
        let is_new = *latest != why && logged.len() < REASONS && !logged.iter().any(|it| it == why);
        if is_new {
            why.clone_into(&mut latest);
            logged.push(why.to_owned());
        }
        is_new
    }

    /// Returns what takes the pushes of a new connection.
    pub(super) fn pushes(&self) -> Pushes {
        Pushes::new(Arc::clone(&self.tracker))
    }

    /// Turns tracking on, and tests that a push arrives before the reply to a later command.
    pub(super) async fn begin(
        &self,
        link: &mut Link,
        heartbeat: &Heartbeat,
        within: Duration,
    ) -> Result<Arc<TrackingSession>, Untracked> {
        let Some(pushes) = link.pushes.clone() else {
            return Err(Untracked::Unsupported("the connection uses RESP2"));
        };
        // guard: TR1
        if link.is_clustered {
            return Err(Untracked::Unsupported("it is a cluster"));
        }
        let tested = self.test(link, &pushes, heartbeat);
        match timeout(within, tested).await {
            Ok(tested) => tested,
            Err(_) => Err(Untracked::Failed(StoreError::timeout())),
        }
    }

    async fn test(
        &self,
        link: &mut Link,
        pushes: &Pushes,
        heartbeat: &Heartbeat,
    ) -> Result<Arc<TrackingSession>, Untracked> {
        // guard: TR2c
        let probe = &self.keys.tracking_probe(Nonce::new());
        let mut batch = Batch::new();
        batch.cmd("HELLO");
        // Redis before 7.0 refuses the combination of NX and GET. There, a push can be written into the middle
        // of an array, and then each later reply of the connection goes to another command.
        let set = batch.cmd("SET").arg(probe).arg(1).arg("NX");
        set.arg("PX").arg(TTL).arg("GET");
        let [hello, set] = send(link, &batch).await?;
        if !self.on_any_server && !is_known(hello) {
            return Err(Untracked::Unsupported(
                "it is not Redis 7.0 or later, or Valkey",
            ));
        }
        match set {
            Err(ReplyError::Server(error)) if error.code() == Some("ERR") => {
                return Err(Untracked::Unsupported("it is older than Redis 7.0"));
            }
            Err(error) => return Err(Untracked::Failed(error.into())),
            Ok(_) => {}
        }
        pushes.begin_test(probe);
        let sent = self.clock.now();
        let mut batch = Batch::new();
        let on = batch.cmd("CLIENT").arg("TRACKING").arg("ON");
        on.arg("OPTIN");
        begin_caching(&mut batch);
        batch.cmd("GET").arg(probe);
        batch.cmd("SET").arg(probe).arg(2).arg("PX").arg(TTL);
        begin_caching(&mut batch);
        heartbeat.command(&mut batch);
        let replies: [Reply; 6] = send(link, &batch).await?;
        confirmed(&replies).map_err(Untracked::Failed)?;
        // guard: TR2
        if pushes.saw_probe() {
            Ok(self.tracker.begin(sent))
        } else {
            let why = "the server accepts CLIENT TRACKING, and sends no push";
            Err(Untracked::Failed(StoreError::server(why)))
        }
    }
}

async fn send<const N: usize>(link: &mut Link, batch: &Batch) -> Result<[Reply; N], Untracked> {
    let replies = batch.send(&mut link.connection).await;
    let replies = replies.map_err(|error| Untracked::Failed(send_failed(error)))?;
    let replies = replies.try_into();
    replies.map_err(|_| Untracked::Failed(unexpected()))
}

/// Returns whether the reply to `HELLO` is that of a server which sends each push before later replies: Redis from
/// 7.0 on, and Valkey.
pub(crate) fn is_known(hello: Reply) -> bool {
    let Ok(Value::Map(fields)) = hello else {
        return false;
    };
    let text = |value: &Value| read::<String>(Ok(value.clone())).unwrap_or_default();
    let fields: Vec<(String, &Value)> = fields.iter().map(|(name, it)| (text(name), it)).collect();
    let field = |name| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| text(value)).unwrap_or_default()
    };
    let major = field("version").split('.').next().map(str::parse::<u32>);
    let is_recent = major.is_some_and(|major| major.is_ok_and(|major| major >= 7));
    let only_known = fields.iter().all(|(name, _)| HELLO.contains(&&**name));
    let is_server = match &*field("server") {
        "redis" => is_recent,
        "valkey" => true,
        _ => false,
    };
    is_server && only_known
}

#[cfg(test)]
mod tests {
    use test_support::{Feature, RedisServer};

    use super::super::handshake::{ConnectOptions, Target};
    use super::super::health::Beat;
    use super::super::heartbeat::ServerKind;
    use super::super::login::Login;
    use super::super::url::connection_info;
    use super::*;
    use crate::store::layout::KeyLayout;

    fn tracking() -> Tracking {
        Tracking {
            tracker: Tracker::new("ns:tokens".to_owned(), "ns:tenant:".to_owned()),
            clock: Clock::System,
            bound: Duration::from_secs(1),
            keys: Arc::new(Keys::new("ns".to_owned(), KeyLayout::digest()).unwrap()),
            reported: Arc::default(),
            on_any_server: true,
        }
    }

    #[tokio::test]
    async fn each_test_writes_a_key_of_its_own() {
        if Feature::Tracking.is_missing() {
            return;
        }
        let (server, tracking) = (RedisServer::start(), tracking());
        let info = connection_info(&server.url()).unwrap();
        let target = Target::new(info.addr().clone(), Login::new(&info, None));
        let heartbeat = Heartbeat {
            name: "never".to_owned(),
            kind: ServerKind::Single(["one", "other"].map(str::to_owned)),
        };
        let within = Duration::from_secs(5);
        let options = ConnectOptions {
            timeout: within,
            access: Arc::default(),
            heartbeat: None,
            tracking: Some(tracking.clone()),
            must_be_master: false,
        };
        let mut link = target.open(&options).await.unwrap();
        let mut monitor = server.monitor();
        let mut written = Vec::new();
        for _ in 0..2 {
            let tested = tracking.begin(&mut link, &heartbeat, within).await;
            tested.unwrap();
            let commands = monitor.take();
            let mut sets = commands
                .iter()
                .filter_map(|line| line.split_once("\"SET\" "));
            let (_, set) = sets.next().unwrap();
            written.push(set.split(' ').next().unwrap().to_owned());
        }
        assert!(written[0].contains("ns:fence:tracking:"), "{written:?}");
        assert_ne!(written[0], written[1]);
    }

    #[test]
    fn each_connection_logs_a_reason_once_and_only_if_it_is_another_one() {
        let tracking = tracking();
        let news = |whys: &[&str]| {
            let mut logged = Vec::new();
            let new = whys.iter().filter(|why| tracking.is_new(why, &mut logged));
            new.copied().collect::<String>()
        };
        assert_eq!(news(&["a", "a"]), "a");
        assert_eq!(news(&["a", "b", "b", "a", "b", "a"]), "ba");
        assert_eq!(news(&["a", "c"]), "c");
        assert_eq!(
            news(&["0", "1", "2", "3", "4", "5", "6", "7", "8"]),
            "01234567"
        );
    }

    #[test]
    fn only_redis_from_7_on_and_valkey_are_known() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let hello = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(name, it)| (text(name), text(it)));
            is_known(Ok(Value::Map(fields.collect())))
        };
        for (server, version, known) in [
            ("redis", "7.0.0", true),
            ("redis", "10.1", true),
            ("valkey", "7.2.4", true),
            ("redis", "6.2.14", false),
            ("redis", "", false),
            ("dragonfly", "7.4.0", false),
        ] {
            let fields = [("server", server), ("version", version), ("proto", "3")];
            assert_eq!(hello(&fields), known, "{server} {version}");
        }
        assert!(!hello(&[
            ("server", "redis"),
            ("version", "7.4.0"),
            ("proxy", "1")
        ]));
        assert!(!is_known(Ok(Value::Okay)));
    }

    #[test]
    fn a_test_waits_only_for_heartbeats_that_prove_something() {
        let (mut health, now) = (Health::default(), Instant::now());
        let next = NextTest::at(now);
        health.sends(true);
        health.sends(false);
        assert!(!next.is_due(&health, now));
        health.takes(Beat::Executed, true);
        assert!(next.is_due(&health, now));
    }

    #[test]
    fn a_connection_is_tested_again_after_a_pause() {
        let (health, now) = (Health::default(), Instant::now());
        let mut next = NextTest::at(now);
        let failed = Untracked::Failed(StoreError::timeout());
        for untracked in [Some(&failed), None] {
            next.ended(untracked, now);
            let almost = TEST_PAUSE - Duration::from_nanos(1);
            assert!(!next.is_due(&health, now + almost));
            assert!(next.is_due(&health, now + TEST_PAUSE));
        }
        next.ended(Some(&Untracked::Unsupported("it is a cluster")), now);
        assert!(!next.is_due(&health, now + TEST_PAUSE));
    }
}
