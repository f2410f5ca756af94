//! Tests of a cluster one of whose nodes fails: tokens on other nodes are not affected. Also tests
//! `wait_for_replicas`.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{
    Cache, Db, Points, Row, ask, cached, confirmed, entry, eventually, found, grant, is_invalid,
    nothing_was_denied, redis_at, until,
};
use test_support::{Direction, FaultProxy, Feature, RedisCluster, RedisServer, cluster_url};
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::store::KeyLayout;
use tower_api_token::test_util::SyncPoint;
use tower_api_token::{Answer, InvalidateErrorKind, Origin, RedisStore, TokenDigest};

const EPOCH: &str = "api_token:tenants";
const BOUNDS: &str = "api_token:bounds";

struct World {
    cluster: RedisCluster,
    db: Arc<Db>,
    cache: Cache,
    url: String,
    tokens: Vec<String>,
}

impl World {
    /// Creates a cluster with many cached tokens. None has a tenant, so that each depends on one node only.
    async fn new(store: impl FnOnce(RedisStore) -> RedisStore) -> Self {
        // The node timeout is so long that no failover starts by itself.
        let whole = ["--cluster-require-full-coverage", "no"];
        let cluster = RedisCluster::start_with(Duration::from_secs(600), &whole);
        let db = Db::new();
        let tokens: Vec<String> = (0..120).map(|n| format!("app-token-{n}")).collect();
        for token in &tokens {
            db.insert(token, Row::new("app"));
        }
        let url = cluster.url();
        let world = Self {
            cluster,
            cache: Self::cache(&db, &url, store),
            db,
            url,
            tokens,
        };
        for token in &world.tokens {
            cached(&world.cache, token).await;
        }
        world
    }

    fn cache(db: &Arc<Db>, url: &str, store: impl FnOnce(RedisStore) -> RedisStore) -> Cache {
        let patient = RedisStore::new(url)
            .unwrap()
            .response_timeout(Duration::from_secs(5))
            .connect_timeout(Duration::from_secs(5));
        let builder = db.cache().store(store(patient)).local_capacity(0);
        builder.token_types(["app"]).build().unwrap()
    }

    /// Returns the tokens whose entries are on `master`, and the others.
    fn partition(&self, master: usize) -> (Vec<&String>, Vec<&String>) {
        let here = |token: &&String| self.cluster.master_for(&entry(token)) == master;
        self.tokens.iter().partition(here)
    }

    /// Returns an unknown token whose entry belongs to a master for which `is` holds.
    fn token_of(&self, is: impl Fn(usize) -> bool) -> String {
        let mut tokens = (0..).map(|n| format!("app-new-{n}"));
        let there = |token: &String| is(self.cluster.master_for(&entry(token)));
        tokens.find(there).unwrap()
    }

    /// Returns a master that holds neither the epoch nor the registry.
    fn bystander(&self) -> usize {
        let needed = [EPOCH, BOUNDS].map(|key| self.cluster.master_for(key));
        let masters = self.cluster.masters();
        masters
            .into_iter()
            .find(|node| !needed.contains(node))
            .unwrap()
    }

    /// Returns the slot of a master's heartbeat, and another master.
    fn heartbeat(&self, node: usize) -> (u16, usize) {
        let mut tags = (0..).map(|n: u32| n.to_string());
        let tag = tags.find(|tag| self.cluster.master_for(tag) == node);
        let mut others = self.cluster.masters().into_iter();
        let other = others.find(|other| *other != node);
        (self.cluster.slot_for(&tag.unwrap()), other.unwrap())
    }

    fn replica(&self, master: usize) -> usize {
        self.cluster.replicas_of(master)[0]
    }

    /// Returns the slot of an entry, its master, and another master.
    fn slot_and_masters(&self, entry: &str) -> (u16, usize, usize) {
        let from = self.cluster.master_for(entry);
        let mut others = self.cluster.masters().into_iter();
        let to = others.find(|node| *node != from);
        (self.cluster.slot_for(entry), from, to.unwrap())
    }
}

/// Returns whether the replica has acknowledged everything that the master has written.
fn is_replicated(master: &RedisServer) -> bool {
    let info = master.command(&["INFO", "replication"]).text();
    let after = |name: &str| {
        let rest = info.split_once(name)?.1;
        rest.split([',', '\r']).next()?.parse::<u64>().ok()
    };
    after(",offset=").is_some() && after(",offset=") == after("master_repl_offset:")
}

/// Returns how many commands a node has answered with the error `code`.
fn error_count(node: &RedisServer, code: &str) -> u64 {
    let info = node.command(&["INFO", "errorstats"]).text();
    let name = format!("errorstat_{code}:count=");
    let count = info.split_once(&name).and_then(|(_, rest)| {
        let mut digits = rest.split(|c: char| !c.is_ascii_digit());
        digits.next()?.parse().ok()
    });
    count.unwrap_or(0)
}

/// Returns the innermost source of an error.
fn cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_master_delays_only_requests_for_its_own_keys() {
    let world = World::new(|store| {
        // Once open, the breaker stays open until the test ends.
        store
            .response_timeout(Duration::from_millis(500))
            .circuit_breaker(5, Duration::from_secs(600))
    })
    .await;
    let victim = world.bystander();
    let (frozen, healthy) = world.partition(victim);
    assert!(frozen.len() >= 5 && healthy.len() >= 5);
    let gets = world.cluster.node(victim).command_count("get");
    world.cluster.node(victim).pause();
    let five = frozen
        .iter()
        .take(5)
        .map(|token| crate::common::start(&world.cache, token));
    let five: Vec<_> = five.collect();
    for _ in 0..5 {
        for token in &healthy {
            assert_eq!(found(&world.cache, token).await.origin(), Origin::Shared);
        }
    }
    for one in five {
        let Ok(Answer::Valid(token)) = one.await.unwrap() else {
            panic!("an outage of Redis reaches the caller");
        };
        assert_eq!(token.origin(), Origin::Loaded);
    }
    for _ in 0..5 {
        for token in &healthy {
            assert_eq!(found(&world.cache, token).await.origin(), Origin::Shared);
        }
        for token in &frozen {
            assert_eq!(found(&world.cache, token).await.origin(), Origin::Loaded);
        }
    }
    world.cluster.node(victim).resume();
    // It now runs the commands that it was sent: those of one timeout.
    let sent = world.cluster.node(victim).command_count("get") - gets;
    assert_eq!(sent, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_epoch_master_does_not_keep_what_others_hold_from_the_cache() {
    let world = World::new(|store| store).await;
    let master_for = |name: &str| world.cluster.master_for(name);
    // Where the epoch alone is on the node that is frozen.
    let mut namespaces = (0..).map(|n| format!("keys_{n}"));
    let alone = |namespace: &String| {
        let of = |what: &str| master_for(&format!("{namespace}:{what}"));
        !["tokens", "bounds"].map(of).contains(&of("tenants"))
    };
    let namespace = namespaces.find(alone).unwrap();
    let of_epoch = master_for(&format!("{namespace}:tenants"));
    let token = world.token_of(|node| node != of_epoch);
    world.db.insert(&token, Row::new("app"));
    let store = redis_at(&world.url).response_timeout(Duration::from_millis(500));
    let builder = world.db.cache().namespace(&namespace).local_capacity(0);
    let cache = builder.store(store).token_types(["app"]).build().unwrap();
    world.cluster.node(of_epoch).pause();
    found(&cache, &token).await;
    assert_eq!(found(&cache, &token).await.origin(), Origin::Shared);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_registry_master_does_not_stop_reads_elsewhere() {
    let world = World::new(|store| store).await;
    let of_registry = world.cluster.master_for(BOUNDS);
    let (_, healthy) = world.partition(of_registry);
    world.cluster.node(of_registry).pause();
    // This instance has not registered its bound yet.
    let store = redis_at(&world.url).circuit_breaker(1, Duration::from_secs(600));
    let fresh = world.db.cache().store(store).token_types(["app"]);
    let fresh = fresh.build().unwrap();
    for token in healthy {
        assert_eq!(found(&fresh, token).await.origin(), Origin::Shared);
        // Entries under a bound that is not registered are not kept.
        assert_eq!(crate::common::local_entries(&fresh), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_failover_a_frozen_masters_slots_are_cached_again() {
    let world = World::new(|store| store.response_timeout(Duration::from_millis(500))).await;
    let victim = world.bystander();
    let (frozen, healthy) = world.partition(victim);
    world.cluster.node(victim).pause();
    found(&world.cache, frozen[0]).await;
    let heir = world.replica(victim);
    world
        .cluster
        .node(heir)
        .command(&["CLUSTER", "FAILOVER", "TAKEOVER"])
        .ok();
    for token in frozen.iter().chain(&healthy) {
        cached(&world.cache, token).await;
    }
    world.db.revoke(frozen[0]);
    world.cache.invalidate(frozen[0]).await.unwrap();
    assert!(is_invalid(&world.cache, frozen[0]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_is_confirmed_by_the_heir_of_a_frozen_master() {
    let timeout = Duration::from_millis(500);
    let world = World::new(|store| store.response_timeout(timeout).connect_timeout(timeout)).await;
    let victim = world.bystander();
    let (frozen, _) = world.partition(victim);
    let heir = world.cluster.node(world.replica(victim));
    world.cluster.node(victim).pause();
    heir.command(&["CLUSTER", "FAILOVER", "TAKEOVER"]).ok();
    world.db.revoke(frozen[0]);
    // One attempt: the slots that are known here are those of before.
    world.cache.invalidate(frozen[0]).await.unwrap();
    assert!(is_invalid(&world.cache, frozen[0]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_dify_layout_tokens_can_be_revoked_and_tenants_cannot() {
    let world = World::new(|store| store.key_layout(KeyLayout::dify())).await;
    let token = &world.tokens[0];
    assert_eq!(found(&world.cache, token).await.origin(), Origin::Shared);
    world.db.revoke(token);
    world.cache.invalidate(token).await.unwrap();
    assert!(is_invalid(&world.cache, token).await);
    let error = world.cache.invalidate_tenant("t-1").await.unwrap_err();
    assert_eq!(error.kind(), InvalidateErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_a_migrating_slot_is_cached_and_can_be_revoked() {
    let world = World::new(|store| store).await;
    let token = &world.tokens[0];
    let (slot, from, to) = world.slot_and_masters(&entry(token));
    world.cluster.begin_migration(slot, from, to);
    world.cluster.migrate_keys(slot, from, to);
    let questions = || -> u64 {
        let nodes = world.cluster.nodes().iter();
        nodes.map(|node| node.command_count("cluster|slots")).sum()
    };
    let (before, start) = (questions(), Instant::now());
    // Longer than the pause between two reads of the slot map.
    while start.elapsed() < Duration::from_millis(500) {
        assert_eq!(found(&world.cache, token).await.origin(), Origin::Shared);
    }
    world.db.revoke(token);
    world.cache.invalidate(token).await.unwrap();
    assert!(is_invalid(&world.cache, token).await);
    assert_eq!(questions(), before, "its owner is the same");
    world.cluster.end_migration(slot, from, to);
    assert!(is_invalid(&world.cache, token).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stays_usable_when_its_heartbeat_slot_has_moved() {
    let world = World::new(|store| store).await;
    let node = world.bystander();
    let (slot, to) = world.heartbeat(node);
    world.cluster.migrate_slot(slot, node, to);
    // More errors than would end the connection, twice.
    until(|| error_count(world.cluster.node(node), "MOVED") >= 4).await;
    let (here, _) = world.partition(node);
    for token in here {
        assert_eq!(found(&world.cache, token).await.origin(), Origin::Shared);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stays_usable_while_its_heartbeat_slot_migrates() {
    let world = World::new(|store| store).await;
    let node = world.bystander();
    let (slot, to) = world.heartbeat(node);
    world.cluster.begin_migration(slot, node, to);
    // More errors than would end the connection, twice.
    until(|| error_count(world.cluster.node(node), "ASK") >= 4).await;
    let (here, _) = world.partition(node);
    for token in &here {
        assert_eq!(found(&world.cache, token).await.origin(), Origin::Shared);
        world.cache.invalidate(token).await.unwrap();
    }
    world.cache.check_store().await.unwrap();
    // The first fence is in that slot too.
    world
        .cache
        .invalidate(here[0])
        .wait_for_replicas(1)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirection_without_a_host_names_the_host_that_sent_it() {
    if Feature::EndpointType.is_missing() {
        return;
    }
    let world = World::new(|store| store).await;
    for node in world.cluster.nodes() {
        let endpoint = ["cluster-preferred-endpoint-type", "unknown-endpoint"];
        node.command(&[&["CONFIG", "SET"][..], &endpoint].concat())
            .ok();
    }
    let cache = World::cache(&world.db, &world.url, |store| store);
    let token = &world.tokens[0];
    let (slot, from, to) = world.slot_and_masters(&entry(token));
    assert_eq!(found(&cache, token).await.origin(), Origin::Shared);
    world.cluster.begin_migration(slot, from, to);
    world.cluster.migrate_keys(slot, from, to);
    assert_eq!(found(&cache, token).await.origin(), Origin::Shared);
    world.db.revoke(token);
    cache.invalidate(token).await.unwrap();
    assert!(is_invalid(&cache, token).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_a_hostname_are_found_by_their_address() {
    if Feature::EndpointType.is_missing() {
        return;
    }
    let world = World::new(|store| store).await;
    for node in world.cluster.nodes() {
        let endpoint = ["cluster-preferred-endpoint-type", "hostname"];
        node.command(&[&["CONFIG", "SET"][..], &endpoint].concat())
            .ok();
    }
    let cache = World::cache(&world.db, &world.url, |store| store);
    for token in &world.tokens {
        assert_eq!(found(&cache, token).await.origin(), Origin::Shared);
    }
    // A redirection does not say where to.
    let token = &world.tokens[0];
    let (slot, from, to) = world.slot_and_masters(&entry(token));
    world.cluster.migrate_slot(slot, from, to);
    world.db.revoke(token);
    cache.invalidate(token).await.unwrap();
    assert!(is_invalid(&cache, token).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_slot_map_does_not_replace_a_complete_one() {
    let world = World::new(|store| store).await;
    // It knows as much as a node that is new to the cluster, and is the first to answer.
    let new = RedisServer::start_node();
    new.add_slots(0, 99);
    let far = FaultProxy::start(world.cluster.node(0).addr());
    far.delay(Direction::Both, Duration::from_millis(200));
    let url = cluster_url(&[new.addr(), far.addr()]);
    let cache = World::cache(&world.db, &url, |store| store);
    for token in &world.tokens {
        assert_eq!(found(&cache, token).await.origin(), Origin::Shared);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_needs_two_more_rights_than_one_server() {
    let world = World::new(|store| store).await;
    for node in world.cluster.nodes() {
        grant(node, &["+cluster|slots", "+asking"]);
    }
    let url = world.url.replace("://", "://api:secret@");
    let cache = World::cache(&world.db, &url, |store| store);
    let token = &world.tokens[0];
    let (slot, from, to) = world.slot_and_masters(&entry(token));
    cache.check_store().await.unwrap();
    cache.invalidate(token).wait_for_replicas(1).await.unwrap();
    world.cluster.begin_migration(slot, from, to);
    found(&cache, token).await;
    assert_eq!(found(&cache, token).await.origin(), Origin::Shared);
    cache.invalidate(token).await.unwrap();
    cache
        .invalidate_tenant("t-1")
        .wait_for_replicas(1)
        .await
        .unwrap();
    for node in world.cluster.nodes() {
        nothing_was_denied(node);
    }
}

/// Returns how often a node read from its connections, and how many commands it ran.
fn read_by(node: &RedisServer) -> (u64, u64) {
    let info = node.command(&["INFO", "stats"]).text();
    let figure = |name: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    (
        figure("total_reads_processed:"),
        figure("total_commands_processed:"),
    )
}

// One thread, so that all commands are queued before the first connection writes.
#[tokio::test]
async fn concurrent_lookups_share_a_nodes_writes_across_slots() {
    let world = World::new(|store| store).await;
    let masters = world.cluster.masters();
    let figures = || {
        masters
            .iter()
            .map(|node| read_by(world.cluster.node(*node)))
    };
    let before: Vec<_> = figures().collect();
    let start = |token: &String| crate::common::start(&world.cache, token);
    let asked: Vec<_> = world.tokens.iter().map(start).collect();
    for one in asked {
        assert!(matches!(one.await.unwrap(), Ok(Answer::Valid(_))));
    }
    for ((reads, commands), (reads_before, commands_before)) in figures().zip(before) {
        let (reads, commands) = (reads - reads_before, commands - commands_before);
        assert!(commands > 20, "{commands}");
        assert!(reads * 4 < commands, "{commands} commands in {reads} reads");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_of_the_tokens_slot_confirms_an_invalidation() {
    let world = World::new(|store| store).await;
    for token in world.tokens.iter().take(10) {
        let entry = entry(token);
        let replica = world
            .cluster
            .node(world.replica(world.cluster.master_for(&entry)));
        world.db.revoke(token);
        world
            .cache
            .invalidate(token)
            .wait_for_replicas(1)
            .await
            .unwrap();
        assert!(!replica.keys("api_token:token:*").contains(&entry));
        assert_eq!(replica.keys("api_token:fence:durable:*").len(), 1);
        assert!(is_invalid(&world.cache, token).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_replica_a_deletion_is_done_but_not_confirmed() {
    let world = World::new(|store| store).await;
    let token = &world.tokens[0];
    let entry = entry(token);
    let master = world.cluster.master_for(&entry);
    let unknown = world.token_of(|node| node == master);
    let replica = world.replica(master);
    until(|| is_replicated(world.cluster.node(master))).await;
    let master_node = world.cluster.node(master);
    assert_eq!(master_node.connected_replicas(), 1);
    world.cluster.node(replica).pause();
    world.db.revoke(token);
    // The first deletion removes nothing, and so would not be replicated.
    for token in [&unknown, token] {
        let done = world.cache.invalidate(token).wait_for_replicas(1).await;
        let error = done.expect_err(&master_node.replication());
        // On a busy machine the last of the three attempts may time out.
        let expected = ["too few replicas acknowledged in time", "timed out"];
        assert!(expected.contains(&cause(&error).as_str()), "{error:?}");
        assert!(error.is_retryable());
    }
    assert_eq!(world.cluster.node(master).get(&entry), None);
    let (_, elsewhere) = world.partition(master);
    world
        .cache
        .invalidate(elsewhere[0])
        .wait_for_replicas(1)
        .await
        .unwrap();
    // A confirmed deletion survives the loss of the master.
    world.cluster.node(replica).resume();
    confirmed(async || {
        world
            .cache
            .invalidate(token)
            .wait_for_replicas(1)
            .await
            .is_ok()
    })
    .await;
    world.cluster.node(master).kill();
    assert_eq!(world.cluster.failover(master), replica);
    assert!(is_invalid(&world.cache, token).await);
    assert!(!world.cluster.keys("api_token:token:*").contains(&entry));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_for_replicas_gives_up_on_a_frozen_master() {
    let short = Duration::from_millis(500);
    let world = World::new(|store| store.response_timeout(short).connect_timeout(short)).await;
    let token = &world.tokens[0];
    world
        .cluster
        .node(world.cluster.master_for(&entry(token)))
        .pause();
    let start = Instant::now();
    let error = world
        .cache
        .invalidate(token)
        .wait_for_replicas(1)
        .await
        .unwrap_err();
    assert!(error.is_retryable());
    // Three attempts, each with a new connection. Without a limit a frozen peer costs a minute.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_epochs_deletion_is_replicated_before_the_tenants() {
    let world = World::new(|store| store).await;
    let of_epoch = world.cluster.master_for(EPOCH);
    let name = |tenant: &str| format!("api_token:tenant:{{{tenant}}}");
    let tenant = (0..)
        .map(|n| format!("t-{n}"))
        .find(|tenant| world.cluster.master_for(&name(tenant)) != of_epoch)
        .unwrap();
    let of_tenant = world.cluster.node(world.cluster.master_for(&name(&tenant)));
    let token = "app-token-of-the-tenant";
    world.db.insert(token, Row::new("app").of_tenant(&tenant));
    cached(&world.cache, token).await;
    let epoch = world.cluster.node(of_epoch);
    let replica = world.cluster.node(world.replica(of_epoch));
    assert_eq!(epoch.connected_replicas(), 1);
    replica.pause();
    world.db.suspend(&tenant);
    let done = world
        .cache
        .invalidate_tenant(&tenant)
        .wait_for_replicas(1)
        .await;
    let error = done.expect_err(&epoch.replication());
    assert_eq!(cause(&error), "too few replicas acknowledged in time");
    assert!(of_tenant.get(&name(&tenant)).is_some(), "E first");
    replica.resume();
    let invalidate = || world.cache.invalidate_tenant(&tenant).wait_for_replicas(1);
    confirmed(async || invalidate().await.is_ok()).await;
    for node in [of_tenant, world.cluster.node(of_epoch)] {
        assert!(!node.keys("api_token:fence:durable:*").is_empty());
    }
    assert!(matches!(
        ask(&world.cache, token).await,
        Ok(Answer::Denied(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_lacks_a_master_is_unhealthy() {
    let short = Duration::from_millis(500);
    let world = World::new(|store| store.response_timeout(short)).await;
    world.cache.check_store().await.unwrap();
    for frozen in [true, false] {
        let victim = world.cluster.node(world.bystander());
        if frozen {
            victim.pause();
            world.cache.check_store().await.unwrap_err();
            victim.resume();
        } else {
            victim.kill();
            world.cache.check_store().await.unwrap_err();
            victim.restart_from_file();
        }
        let is_healthy = async || world.cache.check_store().await.is_ok();
        eventually("the cluster is not healthy again", is_healthy).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_is_read_after_the_reply_to_the_deletion() {
    let world = World::new(|store| store).await;
    let victim = world.bystander();
    let (frozen, healthy) = world.partition(victim);
    let builder = world.db.cache().store(redis_at(&world.url));
    let cache = builder.local_capacity(0).build().unwrap();
    // All connections are open, and the bound is registered.
    for token in healthy.iter().chain(&frozen).chain(&healthy) {
        found(&cache, token).await;
    }
    let of_registry = world.cluster.master_for("api_token:bounds");
    let read = || world.cluster.node(of_registry).command_count("smembers");
    let before = read();
    world.cluster.node(victim).pause();
    let invalidation = tokio::spawn(
        cache
            .invalidate(frozen[0])
            .wait_for_all_instances()
            .into_future(),
    );
    // More than enough time for commands that were sent with the deletion.
    for token in healthy.iter().chain(&healthy) {
        assert_eq!(found(&cache, token).await.origin(), Origin::Shared);
    }
    assert_eq!(read(), before);
    world.cluster.node(victim).resume();
    invalidation.await.unwrap().unwrap();
    assert!(read() > before);
}

/// An acquire that was redirected to the slot's new node is given back on that node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_a_redirected_acquire_takes_late_is_given_back() {
    let world = World::new(|store| store).await;
    let token = world.token_of(|_| true);
    world.db.insert(&token, Row::new("app"));
    let points = Points::default();
    let store = redis_at(&world.url).response_timeout(Duration::from_millis(500));
    let builder = world.db.cache().store(store).token_types(["app"]);
    let builder = builder.load_timeout(Duration::from_secs(3_600));
    let builder = builder.local_capacity(0).sync_points(points.sync_points());
    let cache = builder.build().unwrap();
    let (slot, from, to) = world.slot_and_masters(&entry(&token));
    let target = world.cluster.node(to);
    // Opens the connections to all nodes.
    for token in &world.tokens {
        found(&cache, token).await;
    }
    let gate = points.at(SyncPoint::Read);
    gate.close();
    let before = gate.arrivals();
    let asked = crate::common::start(&cache, &token);
    gate.reached(before + 1).await;
    world.cluster.begin_migration(slot, from, to);
    let evals = target.command_count("eval");
    target.pause();
    gate.open();
    let Ok(Answer::Valid(answer)) = asked.await.unwrap() else {
        panic!("the request is not answered");
    };
    assert_eq!(answer.origin(), Origin::Loaded);
    target.resume();
    until(|| target.command_count("eval") > evals).await;
    let gone = async || !target.keys("api_token:token:*").contains(&entry(&token));
    eventually("the lease is left behind", gone).await;
}

/// One batch has last uses for all masters, and one frozen master delays none of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_master_delays_only_its_own_last_uses() {
    let world = World::new(|store| store).await;
    let victim = world.bystander();
    let of = |token: &&String| {
        let name = format!("api_token:used:{{{}}}", TokenDigest::of(token));
        world.cluster.master_for(&name) == victim
    };
    let (frozen, healthy): (Vec<_>, Vec<_>) = world.tokens.iter().partition(of);
    assert!(frozen.len() >= 5 && healthy.len() >= 5);
    let store = RedisStore::new(&world.url).unwrap();
    let store = store.response_timeout(Duration::from_millis(500));
    let recorder = LastUseRecorder::store_only().shutdown_timeout(Duration::from_secs(60));
    let builder = world.db.cache().store(store).token_types(["app"]);
    let cache = builder.last_use(recorder).build().unwrap();
    for token in &world.tokens {
        found(&cache, token).await;
    }
    world.cluster.node(victim).pause();
    let ending = tokio::spawn({
        let cache = cache.clone();
        async move { cache.shutdown().await }
    });
    let written = || usize::try_from(cache.stats().last_uses_written).unwrap();
    // A busy machine may need more than one attempt.
    until(|| cache.stats().last_uses_failures > 0 && written() >= healthy.len()).await;
    assert_eq!(written(), healthy.len());
    world.cluster.node(victim).resume();
    assert_eq!(ending.await.unwrap(), 0);
    assert_eq!(world.cluster.keys("api_token:used:*").len(), 120);
    let asked = world.tokens.iter();
    let asked = asked.map(|token| TokenDigest::of(token));
    let read = world.cache.last_uses(asked).await.unwrap();
    assert!(read.len() == 120 && read.iter().all(Option::is_some));
}
