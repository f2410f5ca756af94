//! Tests that concurrent lookups share reads of Redis: each gets its own answer, and none depends on
//! another.

use std::future::poll_fn;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::common::{Builder, Cache, Db, Row, found, start, until};
use test_support::{Direction, FaultProxy, FrameProxy, RedisServer};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tower_api_token::store::KeyLayout;
use tower_api_token::{Origin, RedisStore};

const TOKENS: usize = 200;

fn token(n: usize) -> String {
    format!("app-{n:020}")
}

/// Creates tokens that are in Redis, and a cache without a local level.
async fn world() -> (RedisServer, Cache) {
    world_of(KeyLayout::digest()).await
}

async fn world_of(layout: KeyLayout) -> (RedisServer, Cache) {
    let server = RedisServer::start();
    let cache = builder_of(&server.url(), layout).build().unwrap();
    for n in 0..TOKENS {
        cache.warm(&token(n)).await.unwrap();
    }
    (server, cache)
}

fn builder_of(url: &str, layout: KeyLayout) -> Builder {
    let db = Db::with(&token(0), Row::new("app"));
    for n in 1..TOKENS {
        db.insert(&token(n), Row::new("app"));
    }
    let store = RedisStore::new(url).unwrap();
    let store = store.response_timeout(Duration::from_secs(5));
    db.cache()
        .store(store.key_layout(layout))
        .local_capacity(0)
        .token_types(["app"])
}

/// Looks up all tokens at once, and returns the answers in the order of the tokens.
async fn all(cache: &Cache) -> Vec<(String, Origin)> {
    let mut lookups = JoinSet::new();
    for n in 0..TOKENS {
        let cache = cache.clone();
        lookups.spawn(async move {
            let found = found(&cache, &token(n)).await;
            (n, (found.token().expose().to_owned(), found.origin()))
        });
    }
    let mut answers = lookups.join_all().await;
    answers.sort_by_key(|(n, _)| *n);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[tokio::test]
async fn concurrent_lookups_share_commands_and_get_their_own_answers() {
    let (server, cache) = world().await;
    let before = (server.command_count("get"), server.command_count("mget"));
    let answers = all(&cache).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, (token(n), Origin::Shared));
    }
    let asked = (
        server.command_count("get") - before.0,
        server.command_count("mget") - before.1,
    );
    // The first read is sent alone, the others with up to 64 entries per command. Each command reads the generation of
    // all entries too.
    assert_eq!(asked, (0, 5));
}

#[tokio::test]
async fn a_lookup_shares_no_read_only_while_it_is_alone() {
    let (server, cache) = world().await;
    let reads = || server.command_count("get") + server.command_count("mget");
    let before = reads();
    server.pause();
    let lookups: Vec<_> = (0..100)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { found(&cache, &token(0)).await.origin() })
        })
        .collect();
    // The first reads by itself, and the others share a call.
    until(|| cache.stats().joined == 98).await;
    server.resume();
    for lookup in lookups {
        assert_eq!(lookup.await.unwrap(), Origin::Shared);
    }
    assert_eq!(reads() - before, 2);
}

#[tokio::test]
async fn what_a_lookup_found_by_itself_is_not_read_again() {
    let (server, cache) = world().await;
    let key = server.keys("api_token:token:*").pop().unwrap();
    server.command(&["DEL", &key]);
    let mut origins = Vec::new();
    let reads = || (server.command_count("get"), server.command_count("mget"));
    let before = reads();
    for n in 0..TOKENS {
        origins.push(found(&cache, &token(n)).await.origin());
    }
    let loaded = origins.iter().filter(|it| **it == Origin::Loaded);
    assert_eq!(loaded.count(), 1);
    // One for each token. Beside the lease the epoch and the generation of all, and those of the two scripts.
    let asked = (reads().0 - before.0, reads().1 - before.1);
    assert_eq!(asked, (4, TOKENS as u64));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_asked_once_for_each_lookup() {
    let server = RedisServer::start();
    let db = Db::with(&token(0), Row::new("app"));
    let store = RedisStore::new(&server.url()).unwrap();
    let store = store.circuit_breaker(2, Duration::from_secs(60));
    let cache = db.cache().store(store).local_capacity(0).build().unwrap();
    cache.warm(&token(0)).await.unwrap();
    server.pause();
    assert_eq!(found(&cache, &token(0)).await.origin(), Origin::Loaded);
    server.resume();
    // A second failure would have opened the breaker.
    assert_eq!(found(&cache, &token(0)).await.origin(), Origin::Shared);
}

#[tokio::test]
async fn a_lookup_whose_caller_hangs_up_goes_on() {
    let server = RedisServer::start();
    let db = Db::with(&token(0), Row::new("app"));
    let other = db.cache().store(RedisStore::new(&server.url()).unwrap());
    other.build().unwrap().warm(&token(0)).await.unwrap();
    let proxy = FaultProxy::start(server.addr());
    let store = RedisStore::new(&format!("redis://{}", proxy.addr())).unwrap();
    let store = store.response_timeout(Duration::from_secs(30));
    let cache = db.cache().store(store.client_tracking(false));
    let cache = cache
        .max_staleness(Duration::from_secs(60))
        .build()
        .unwrap();
    cache.warm(&token(1)).await.unwrap();
    proxy.stall(Direction::ToClient);
    let lookup = start(&cache, &token(0));
    until(|| cache.in_flight() == 1).await;
    lookup.abort();
    assert!(lookup.await.unwrap_err().is_cancelled());
    proxy.heal();
    until(|| cache.stats().local_records == 1).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_replaced_and_affects_no_other_read() {
    let (server, cache) = world().await;
    let name = server.keys("api_token:token:*").pop().unwrap();
    server.command(&["DEL", &name]);
    server.command(&["RPUSH", &name, "x"]);
    let origins = |answers: &[(String, Origin)], origin| {
        let of = |(_, found): &&(String, Origin)| *found == origin;
        answers.iter().filter(of).count()
    };
    let answers = all(&cache).await;
    assert_eq!(origins(&answers, Origin::Loaded), 1);
    assert_eq!(origins(&answers, Origin::Shared), TOKENS - 1);
    let answers = all(&cache).await;
    assert_eq!(origins(&answers, Origin::Shared), TOKENS);
}

#[tokio::test]
async fn a_user_without_mget_is_answered_and_stops_sending_it() {
    let (server, cache) = world().await;
    server.command(&["ACL", "SETUSER", "default", "-mget"]).ok();
    let shared = |answers: &[(String, Origin)]| {
        let is_own =
            |(n, answer): (usize, &(String, Origin))| *answer == (token(n), Origin::Shared);
        answers.iter().enumerate().all(is_own)
    };
    assert!(shared(&all(&cache).await));
    assert!(!server.command(&["ACL", "LOG"]).array().is_empty());
    server.command(&["ACL", "LOG", "RESET"]).ok();
    assert!(shared(&all(&cache).await));
    let denied = server.command(&["ACL", "LOG"]).array();
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn an_error_that_passes_does_not_end_shared_reads() {
    let (server, _cache) = world().await;
    let proxy = FrameProxy::start(server.addr());
    let url = format!("redis://{}", proxy.addr());
    let cache = builder_of(&url, KeyLayout::digest()).build().unwrap();
    proxy.answer("MGET", "-LOADING Redis is loading the dataset in memory");
    all(&cache).await;
    assert!(proxy.received("MGET") > 0);
    proxy.answer_none();
    let before = server.command_count("mget");
    all(&cache).await;
    assert!(server.command_count("mget") > before);
}

/// Begins a lookup of the token, and blocks the thread until `until` receives. Returns whether it did.
async fn ask_and_block(cache: Cache, n: usize, until: Receiver<()>) -> bool {
    begin_and_block(async { drop(found(&cache, &token(n)).await) }, until).await
}

async fn begin_and_block(call: impl Future<Output = ()>, until: Receiver<()>) -> bool {
    let mut call = Box::pin(call);
    let mut poll = |context: &mut Context<'_>| Poll::Ready(call.as_mut().poll(context));
    let begun = poll_fn(&mut poll).await;
    assert!(begun.is_pending());
    let sent = until.recv_timeout(Duration::from_secs(20));
    call.await;
    sent.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reader_that_blocks_its_thread_delays_no_others() {
    let (_server, cache) = world().await;
    a_reader_blocks(&cache).await;
}

/// With stale-if-error a lookup reads the TTL too, and shares no command.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reader_of_a_ttl_that_blocks_its_thread_delays_no_others() {
    let (server, _) = world().await;
    let builder = builder_of(&server.url(), KeyLayout::digest());
    let cache = builder.stale_if_error(Duration::from_secs(60)).build();
    a_reader_blocks(&cache.unwrap()).await;
}

async fn a_reader_blocks(cache: &Cache) {
    for n in 0..20 {
        let (answered, is_answered) = channel();
        let blocks = tokio::spawn(ask_and_block(cache.clone(), n, is_answered));
        until(|| cache.in_flight() > 0).await;
        let other = found(cache, &token(n + 100)).await;
        assert_eq!(other.origin(), Origin::Shared);
        answered.send(()).unwrap();
        assert!(blocks.await.unwrap());
    }
}

/// In the Dify layout an invalidation holds the connection that everything shares.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_invalidation_that_blocks_its_thread_delays_no_others() {
    let (_server, cache) = world_of(KeyLayout::dify()).await;
    for n in 0..20 {
        let (answered, is_answered) = channel();
        let (begins, begun) = channel();
        let blocks = tokio::spawn({
            let cache = cache.clone();
            async move {
                let token = token(n);
                let invalidation = async {
                    let invalidation = cache.invalidate(&token).of_type("app");
                    begins.send(()).unwrap();
                    invalidation.await.unwrap();
                };
                begin_and_block(invalidation, is_answered).await
            }
        });
        until(|| begun.try_recv().is_ok()).await;
        let other = found(&cache, &token(n + 100)).await;
        assert_eq!(other.origin(), Origin::Shared);
        answered.send(()).unwrap();
        assert!(blocks.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_flush_that_a_blocked_thread_owes_delays_no_others() {
    let (server, cache) = world().await;
    server.pause();
    let lookup = |n| {
        let cache = cache.clone();
        tokio::spawn(async move { found(&cache, &token(n)).await.origin() })
    };
    let first = lookup(0);
    until(|| cache.in_flight() == 1).await;
    let (answered, is_answered) = channel();
    let blocks = tokio::spawn(ask_and_block(cache.clone(), 1, is_answered));
    until(|| cache.in_flight() == 2).await;
    let other = lookup(2);
    until(|| cache.in_flight() == 3).await;
    server.resume();
    assert_eq!(first.await.unwrap(), Origin::Shared);
    assert_eq!(other.await.unwrap(), Origin::Shared);
    answered.send(()).unwrap();
    assert!(blocks.await.unwrap());
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Drives the lookups only until some reads wait to be sent together.
fn with_reads_that_wait(cache: &Cache) -> Runtime {
    // Four lookups, and the task that is to send three of them, which yields first.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().event_interval(5).build().unwrap();
    runtime.block_on(async {
        for n in 0..4 {
            let cache = cache.clone();
            tokio::spawn(async move { found(&cache, &token(n)).await });
        }
        tokio::task::yield_now().await;
    });
    runtime
}

#[test]
fn pending_reads_of_an_ended_runtime_delay_no_others() {
    let driven = runtime();
    let (_server, cache) = driven.block_on(world());
    drop(with_reads_that_wait(&cache));
    let answers = driven.block_on(all(&cache));
    assert!(answers.iter().all(|(_, origin)| *origin == Origin::Shared));
}

#[test]
fn pending_reads_of_a_stalled_runtime_delay_no_others() {
    let driven = runtime();
    let (_server, cache) = driven.block_on(world());
    let _kept = with_reads_that_wait(&cache);
    driven.block_on(async {
        let start = Instant::now();
        while all(&cache)
            .await
            .iter()
            .any(|(_, origin)| *origin != Origin::Shared)
        {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "reads are no longer sent"
            );
        }
    });
}
