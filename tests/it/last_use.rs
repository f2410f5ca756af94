//! Tests of last uses: one is recorded per token and interval, they are written in batches, and none is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{Builder, Cache, Db, Row, found, is_invalid, redis, redis_at, until};
use chrono::{DateTime, Utc};
use test_support::{FaultProxy, Gate, RedisServer};
use tokio::sync::mpsc;
use tower_api_token::last_use::{LastUse, LastUseRecorder, LastUseSink};
use tower_api_token::store::{KeyLayout, StoreErrorKind};
use tower_api_token::test_util::ManualClock;
use tower_api_token::{BoxError, TokenDigest};

const TOKEN: &str = "app-0123456789abcdef";
/// The first of [`World::rows`].
const FIRST: &str = "app-00000000000000000000";
const INTERVAL: Duration = Duration::from_secs(60);
const FLUSH: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Writes,
    Fails,
    /// A batch that has a use of the first token fails.
    FailsForOne,
    /// The sink commits, but the reply is lost.
    Loses,
    Panics,
}

/// A table of last uses, which only moves forward and counts the changes of rows.
#[derive(Default)]
struct Table {
    rows: Mutex<HashMap<String, DateTime<Utc>>>,
    batches: Mutex<Vec<usize>>,
    changes: AtomicUsize,
    mode: Mutex<Mode>,
    /// Each write passes this gate after it has read the batch.
    gate: Gate,
}

impl Table {
    fn mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn at(&self, id: &str) -> Option<DateTime<Utc>> {
        self.rows.lock().unwrap().get(id).copied()
    }

    fn batches(&self) -> usize {
        self.batches.lock().unwrap().len()
    }

    fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }

    fn commit(&self, batch: &[LastUse]) {
        let mut rows = self.rows.lock().unwrap();
        for used in batch {
            let at = rows.get(used.token_id());
            if at.is_none_or(|at| *at < used.last_used_at()) {
                rows.insert(used.token_id().to_owned(), used.last_used_at());
                self.changes.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Table>);

impl LastUseSink for Sink {
    async fn write(&self, batch: Vec<LastUse>) -> Result<(), BoxError> {
        self.0.batches.lock().unwrap().push(batch.len());
        self.0.gate.pass().await;
        let mode = *self.0.mode.lock().unwrap();
        let mode = match mode {
            Mode::FailsForOne if batch.iter().any(|used| used.token_id() == FIRST) => Mode::Fails,
            Mode::FailsForOne => Mode::Writes,
            mode => mode,
        };
        if matches!(mode, Mode::Writes | Mode::Loses) {
            self.0.commit(&batch);
        }
        match mode {
            Mode::Writes => Ok(()),
            Mode::Fails | Mode::FailsForOne => Err("the database is away".into()),
            Mode::Loses => Err("the connection was lost".into()),
            Mode::Panics => panic!("the test's sink panics on purpose"),
        }
    }
}

fn recorder(sink: &Sink) -> LastUseRecorder {
    let recorder = LastUseRecorder::new(sink.clone()).interval(INTERVAL);
    recorder.flush_interval(FLUSH)
}

struct World {
    server: RedisServer,
    db: Arc<Db>,
    clock: ManualClock,
    sink: Sink,
}

impl World {
    fn new() -> Self {
        Self {
            server: RedisServer::start(),
            db: Db::with(TOKEN, Row::new("app")),
            clock: ManualClock::new(),
            sink: Sink::default(),
        }
    }

    fn builder(&self) -> Builder {
        let builder = self.db.cache().store(redis(&self.server));
        builder.clock(self.clock.clone())
    }

    fn instance(&self) -> Cache {
        self.builder()
            .last_use(recorder(&self.sink))
            .build()
            .unwrap()
    }

    /// Advances the clock, and waits until the flush sleeps again.
    async fn flush(&self) {
        until(|| self.clock.sleepers() > 0).await;
        self.clock.advance(FLUSH);
        // The flush wakes up, and is not among the sleepers until it has finished.
        tokio::task::yield_now().await;
        until(|| self.clock.sleepers() > 0).await;
    }

    fn rows(&self, tokens: usize) -> Vec<String> {
        let name = |n| format!("app-{n:020}");
        let tokens: Vec<_> = (0..tokens).map(name).collect();
        for token in &tokens {
            let mut row = Row::new("app");
            row.id.clone_from(token);
            self.db.insert(token, row);
        }
        tokens
    }
}

#[tokio::test]
async fn the_first_use_is_written_and_then_one_per_interval() {
    let world = World::new();
    let instance = world.instance();
    let first = world.clock.now();
    for _ in 0..100 {
        found(&instance, TOKEN).await;
    }
    world.flush().await;
    assert_eq!(world.sink.0.at("tok-1"), Some(first));
    for _ in 0..5 {
        found(&instance, TOKEN).await;
        world.flush().await;
    }
    assert_eq!(world.sink.0.batches(), 1, "within the interval");
    found(&instance, TOKEN).await;
    let second = world.clock.now();
    assert_eq!(second, first + INTERVAL);
    world.flush().await;
    assert_eq!(world.sink.0.at("tok-1"), Some(second));
    let stats = instance.stats();
    assert_eq!((stats.last_uses_recorded, stats.last_uses_written), (2, 2));
}

#[tokio::test]
async fn a_closure_gets_what_is_known_of_a_use() {
    let world = World::new();
    world.db.insert(TOKEN, Row::new("app").of_tenant("t-1"));
    let (sender, mut batches) = mpsc::unbounded_channel();
    let recorder = LastUseRecorder::new(move |batch: Vec<LastUse>| {
        let sent = sender.send(batch);
        async { sent }
    });
    let instance = world.builder().last_use(recorder).build().unwrap();
    found(&instance, TOKEN).await;
    assert_eq!(instance.shutdown().await, 0);
    let used = batches.try_recv().unwrap().remove(0);
    assert_eq!(used.token_id(), "tok-1");
    assert_eq!(used.token_type(), Some("app"));
    assert_eq!(used.tenant_id(), Some("t-1"));
    assert_eq!(used.digest(), TokenDigest::of(TOKEN));
}

#[tokio::test]
async fn a_reload_of_the_local_entry_starts_no_new_interval() {
    let world = World::new();
    let instance = world.instance();
    for _ in 0..20 {
        found(&instance, TOKEN).await;
        instance.invalidate(TOKEN).await.unwrap();
    }
    assert_eq!(instance.stats().last_uses_recorded, 1);
    assert_eq!(world.db.loads(), 20);
}

#[tokio::test]
async fn only_a_successful_authentication_is_a_use() {
    let world = World::new();
    let instance = world.instance();
    for _ in 0..2 {
        instance.warm(TOKEN).await.unwrap();
        assert!(instance.peek(TOKEN).await.unwrap().is_some());
        assert!(is_invalid(&instance, "unknown").await);
    }
    assert_eq!(instance.stats().last_uses_recorded, 0);
    found(&instance, TOKEN).await;
    assert_eq!(instance.stats().last_uses_recorded, 1);
}

#[tokio::test]
async fn requests_send_no_command_and_a_flush_one_per_token() {
    let world = World::new();
    let tokens = world.rows(50);
    let instance = world.instance();
    for token in &tokens {
        found(&instance, token).await;
    }
    world.server.reset_stats();
    for _ in 0..20 {
        for token in &tokens {
            found(&instance, token).await;
        }
    }
    for command in ["eval", "set", "get"] {
        assert_eq!(world.server.command_count(command), 0, "{command}");
    }
    world.flush().await;
    assert_eq!(world.server.command_count("eval"), 50);
    assert_eq!(*world.sink.0.batches.lock().unwrap(), [50]);
}

#[tokio::test]
async fn a_use_during_a_write_is_in_the_next_one() {
    let world = World::new();
    let instance = world.instance();
    found(&instance, TOKEN).await;
    until(|| world.clock.sleepers() > 0).await;
    // The batch has been read, but is not written yet.
    world.sink.0.gate.close();
    world.clock.advance(INTERVAL);
    world.sink.0.gate.reached(1).await;
    found(&instance, TOKEN).await;
    let during = world.clock.now();
    world.sink.0.gate.open();
    world.flush().await;
    assert_eq!(world.sink.0.at("tok-1"), Some(during));
    assert_eq!(world.sink.0.changes(), 2);
}

#[tokio::test]
async fn instances_that_flush_at_once_write_each_use_once() {
    let world = World::new();
    let tokens = world.rows(40);
    let instances = [world.instance(), world.instance()];
    for (instance, tokens) in instances.iter().zip(tokens.chunks(20)) {
        for token in tokens {
            found(instance, token).await;
        }
    }
    world.sink.0.gate.close();
    until(|| world.clock.sleepers() == 2).await;
    world.clock.advance(FLUSH);
    world.sink.0.gate.reached(2).await;
    world.sink.0.gate.open();
    until(|| world.clock.sleepers() == 2).await;
    assert_eq!(*world.sink.0.batches.lock().unwrap(), [20, 20]);
    assert_eq!(world.sink.0.changes(), 40);
    world.clock.advance(FLUSH);
    let left = [instances[0].shutdown().await, instances[1].shutdown().await];
    assert_eq!(left, [0, 0]);
    assert_eq!(world.sink.0.batches(), 2);
}

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_repeated_and_changes_nothing() {
    let world = World::new();
    let instance = world.instance();
    found(&instance, TOKEN).await;
    world.sink.0.mode(Mode::Loses);
    world.flush().await;
    world.sink.0.mode(Mode::Writes);
    world.flush().await;
    world.flush().await;
    assert_eq!((world.sink.0.batches(), world.sink.0.changes()), (2, 1));
    assert_eq!(instance.stats().last_uses_written, 1);
}

#[tokio::test]
async fn a_failing_sink_is_retried_more_slowly_and_loses_no_use() {
    for mode in [Mode::Fails, Mode::Panics] {
        let world = World::new();
        let tokens = world.rows(30);
        let instance = world.instance();
        world.sink.0.mode(mode);
        let at = world.clock.now();
        for token in &tokens {
            found(&instance, token).await;
        }
        // The attempts are at 10 s, 30 s and 70 s.
        for _ in 0..7 {
            world.flush().await;
        }
        assert_eq!(world.sink.0.batches(), 3);
        assert_eq!(instance.stats().last_uses_failures, 3);
        world.sink.0.mode(Mode::Writes);
        for _ in 0..6 {
            world.flush().await;
        }
        assert_eq!((world.sink.0.batches(), world.sink.0.changes()), (4, 30));
        assert!(tokens.iter().all(|id| world.sink.0.at(id) == Some(at)));
        assert_eq!(instance.stats().last_uses_dropped, 0);
    }
}

#[tokio::test]
async fn a_batch_that_the_sink_never_takes_delays_no_other() {
    let world = World::new();
    let tokens = world.rows(30);
    let recorder = recorder(&world.sink).batch_size(5);
    let instance = world.builder().last_use(recorder).build().unwrap();
    world.sink.0.mode(Mode::FailsForOne);
    for token in &tokens {
        found(&instance, token).await;
    }
    world.flush().await;
    assert_eq!((world.sink.0.batches(), world.sink.0.changes()), (6, 25));
    assert_eq!(world.sink.0.at(FIRST), None);
    world.sink.0.mode(Mode::Writes);
    assert_eq!(instance.shutdown().await, 0);
    assert_eq!(world.sink.0.changes(), 30);
}

#[tokio::test]
async fn without_redis_nothing_waits_and_memory_stays_bounded() {
    let world = World::new();
    let tokens = world.rows(20);
    let proxy = FaultProxy::start(world.server.addr());
    let at = format!("redis://{}", proxy.addr());
    let with = |recorder: LastUseRecorder| {
        let builder = world.builder().store(redis_at(&at));
        let builder = builder.max_staleness(INTERVAL);
        builder.last_use(recorder.capacity(10)).build().unwrap()
    };
    let sunk = with(recorder(&world.sink));
    let stored = with(LastUseRecorder::store_only());
    for token in &tokens {
        sunk.warm(token).await.unwrap();
        stored.warm(token).await.unwrap();
    }
    let loads = world.db.loads();
    proxy.cut();
    for token in &tokens {
        found(&sunk, token).await;
        found(&stored, token).await;
    }
    assert_eq!(world.db.loads(), loads, "local answers, as before");
    for instance in [&sunk, &stored] {
        let stats = instance.stats();
        assert_eq!(
            (stats.last_uses_recorded, stats.last_uses_dropped),
            (10, 10)
        );
    }
    until(|| world.clock.sleepers() == 2).await;
    world.clock.advance(FLUSH);
    until(|| sunk.stats().last_uses_written == 10 && stored.stats().last_uses_failures > 0).await;
    proxy.heal();
    assert_eq!(stored.shutdown().await, 0);
    assert_eq!(stored.stats().last_uses_written, 10);
    assert_eq!(world.server.keys("api_token:used:*").len(), 10);
}

#[tokio::test]
async fn a_shutdown_writes_pending_uses() {
    let world = World::new();
    let instance = world.instance();
    found(&instance, TOKEN).await;
    assert_eq!(instance.shutdown().await, 0);
    assert_eq!(world.sink.0.changes(), 1);
    assert_eq!(instance.shutdown().await, 0);
    assert_eq!(world.sink.0.batches(), 1);
}

/// The pauses are tokio's, and pass at once.
#[tokio::test(start_paused = true)]
async fn a_shutdown_repeats_what_fails_more_and_more_slowly() {
    let (db, sink) = (Db::with(TOKEN, Row::new("app")), Sink::default());
    sink.0.mode(Mode::Fails);
    let builder = db.cache().clock(ManualClock::new());
    let instance = builder.last_use(recorder(&sink)).build().unwrap();
    found(&instance, TOKEN).await;
    assert_eq!(instance.shutdown().await, 1);
    // In 5 s there are pauses of 50, 100, 200, 400 and 800 ms, and of a second. The task in the background tries once.
    let batches = sink.0.batches();
    assert!((8..=10).contains(&batches), "{batches}");
}

#[tokio::test]
async fn a_shutdown_returns_how_many_uses_were_not_written() {
    let world = World::new();
    world.sink.0.gate.close();
    let recorder = recorder(&world.sink).shutdown_timeout(Duration::from_millis(100));
    let instance = world.builder().last_use(recorder).build().unwrap();
    found(&instance, TOKEN).await;
    assert_eq!(instance.shutdown().await, 1);
    let stats = instance.stats();
    assert_eq!((stats.last_uses_written, stats.last_uses_dropped), (0, 1));
}

#[tokio::test]
async fn dropping_the_last_clone_flushes_once_more() {
    let world = World::new();
    let instance = world.instance();
    found(&instance, TOKEN).await;
    drop(instance);
    until(|| world.sink.0.changes() == 1).await;
    // Then the task in the background ends.
    until(|| Arc::strong_count(&world.sink.0) == 1).await;
}

#[tokio::test]
async fn the_last_use_is_the_latest_that_any_instance_knows() {
    let world = World::new();
    let (one, other) = (world.instance(), world.instance());
    let effective = async |cache: &Cache| cache.last_used_at(TOKEN).await.unwrap();
    assert_eq!(effective(&one).await, None);
    let at = world.clock.now();
    found(&one, TOKEN).await;
    assert_eq!(effective(&one).await, Some(at), "pending in the process");
    assert_eq!(effective(&other).await, None);
    world.flush().await;
    let seen = effective(&other).await.map(micros);
    assert_eq!(seen, Some(micros(at)), "from the store's copy");
    assert_eq!(effective(&one).await, Some(at), "it does not move back");
}

#[tokio::test]
async fn the_stores_copy_only_moves_forward_and_lasts_an_hour() {
    let world = World::new();
    let name = format!("api_token:used:{{{}}}", TokenDigest::of(TOKEN));
    let text = || String::from_utf8(world.server.get(&name).unwrap()).unwrap();
    let used = async || {
        let instance = world.instance();
        found(&instance, TOKEN).await;
        assert_eq!(instance.shutdown().await, 0);
    };
    let later = "2999-01-02T03:04:05";
    world.server.command(&["SET", &name, later]).ok();
    used().await;
    assert_eq!(text(), later);
    for earlier in ["2001-01-02T03:04:05.000006", "zzz"] {
        world.server.command(&["SET", &name, earlier]).ok();
        used().await;
        assert!(text().starts_with("20") && text().as_str() > "2020");
        assert_eq!(world.server.command(&["TTL", &name]).int(), 3600);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

#[test]
fn a_recorder_of_a_stalled_runtime_continues_in_another() {
    let short = Duration::from_millis(50);
    let (db, sink) = (Db::with(TOKEN, Row::new("app")), Sink::default());
    let recorder = recorder(&sink).flush_interval(short).write_timeout(short);
    let cache = db.cache().last_use(recorder).build().unwrap();
    // One instance flushes in the background, and is left in the middle of a write.
    sink.0.gate.close();
    let still = runtime();
    still.block_on(async {
        found(&cache, TOKEN).await;
        sink.0.gate.reached(1).await;
    });
    sink.0.gate.open();
    runtime().block_on(async {
        let mut tokens = 0;
        let start = Instant::now();
        while sink.0.at("tok-1").is_none() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no use is written"
            );
            tokens += 1;
            let token = format!("app-{tokens:020}");
            let mut row = Row::new("app");
            row.id.clone_from(&token);
            db.insert(&token, row);
            found(&cache, &token).await;
            tokio::time::sleep(short).await;
        }
    });
    drop(still);
}

#[test]
fn a_recorder_whose_runtime_has_ended_continues_in_another() {
    let (db, clock) = (Db::with(TOKEN, Row::new("app")), ManualClock::new());
    let sink = Sink::default();
    let builder = db.cache().clock(clock.clone());
    let cache = builder.last_use(recorder(&sink)).build().unwrap();
    runtime().block_on(async {
        found(&cache, TOKEN).await;
        until(|| clock.sleepers() == 1).await;
    });
    clock.advance(INTERVAL);
    runtime().block_on(async {
        found(&cache, TOKEN).await;
        until(|| clock.sleepers() == 1).await;
        clock.advance(FLUSH);
        until(|| sink.0.changes() == 1).await;
    });
}

/// The timeout uses tokio's clock, which only the test advances.
#[tokio::test(start_paused = true)]
async fn a_hanging_write_times_out_and_is_tried_again() {
    const TIMEOUT: Duration = Duration::from_secs(7);
    let (db, clock) = (Db::with(TOKEN, Row::new("app")), ManualClock::new());
    let sink = Sink::default();
    let instance = db
        .cache()
        .clock(clock.clone())
        .last_use(recorder(&sink).write_timeout(TIMEOUT))
        .build()
        .unwrap();
    found(&instance, TOKEN).await;
    sink.0.gate.close();
    until(|| clock.sleepers() > 0).await;
    clock.advance(FLUSH);
    sink.0.gate.reached(1).await;
    tokio::time::advance(TIMEOUT - Duration::from_millis(1)).await;
    // There is no I/O here, so that everything that is ready runs within so many turns.
    let settled = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        (instance.stats().last_uses_failures, clock.sleepers())
    };
    assert_eq!(settled().await, (0, 0));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(settled().await, (1, 1));
    // A write that timed out does not continue beside the next one.
    sink.0.gate.open();
    assert_eq!(settled().await, (1, 1));
    assert_eq!(sink.0.changes(), 0);
    clock.advance(2 * FLUSH);
    until(|| instance.stats().last_uses_written == 1).await;
    assert_eq!((sink.0.batches(), sink.0.changes()), (2, 1));
}

#[tokio::test]
async fn a_clock_that_was_never_set_loses_only_that_use() {
    let world = World::new();
    let tokens = world.rows(3);
    let instance = world.instance();
    let now = world.clock.now();
    let before_1970 = DateTime::UNIX_EPOCH - Duration::from_secs(1);
    let year_10000 = DateTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800);
    for (token, at) in tokens.iter().zip([before_1970, year_10000, now]) {
        world.clock.set(at);
        found(&instance, token).await;
    }
    let stats = instance.stats();
    assert_eq!((stats.last_uses_recorded, stats.last_uses_dropped), (1, 2));
    world.flush().await;
    assert_eq!(*world.sink.0.batches.lock().unwrap(), [1]);
    assert_eq!(world.sink.0.at(&tokens[2]), Some(now));
    // The next uses of those tokens are recorded as usual.
    world.clock.advance(INTERVAL);
    for token in &tokens[..2] {
        found(&instance, token).await;
    }
    assert_eq!(instance.stats().last_uses_recorded, 3);
}

#[tokio::test]
async fn a_page_of_last_uses_is_read_by_digest_in_one_round_trip() {
    let world = World::new();
    let tokens = world.rows(60);
    let (one, other) = (world.instance(), world.instance());
    let at = world.clock.now();
    for token in &tokens[..20] {
        found(&other, token).await;
    }
    // A use without a token type.
    let answer = other.authenticate(&tokens[20]).await.unwrap();
    assert!(matches!(answer, tower_api_token::Answer::Valid(_)));
    assert_eq!(other.shutdown().await, 0);
    found(&one, &tokens[21]).await;
    let proxy = FaultProxy::start(world.server.addr());
    let reader = world.builder();
    let reader = reader.store(redis_at(&format!("redis://{}", proxy.addr())));
    let reader = reader.last_use(recorder(&world.sink)).build().unwrap();
    let page = |cache: &Cache| {
        let asked = tokens.iter().map(|token| TokenDigest::of(token));
        let cache = cache.clone();
        let asked: Vec<_> = asked.collect();
        async move { cache.last_uses(asked).await }
    };
    for (cache, known) in [(&reader, 21), (&one, 22)] {
        world.server.reset_stats();
        let recorded = page(cache).await.unwrap();
        assert_eq!(world.server.command_count("get"), 60);
        assert_eq!(recorded.len(), 60);
        for (n, recorded) in recorded.into_iter().enumerate() {
            assert_eq!(recorded.map(micros), (n < known).then(|| micros(at)), "{n}");
        }
    }
    proxy.cut();
    page(&reader).await.unwrap_err();
    assert_eq!(one.last_uses([]).await.unwrap(), []);
}

#[tokio::test]
async fn the_dify_layouts_last_uses_cannot_be_read_by_digest() {
    let world = World::new();
    let builder = world
        .builder()
        .store(redis(&world.server).key_layout(KeyLayout::dify()));
    let builder = builder.token_types(["app"]);
    let instance = builder.last_use(recorder(&world.sink)).build().unwrap();
    let asked = [TokenDigest::of(TOKEN)];
    let error = instance.last_uses(asked).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported);
}

/// Rounds down to microseconds, as the store does.
fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}
