//! Tests of a cluster behind one address, with a URL that does not say so: a cluster of one node, or a
//! "serverless" service. It rejects commands with keys of several slots.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::common::{Cache, Db, Row, ask, cached, found, is_invalid, redis_at, until};
use test_support::{FrameProxy, RedisServer, RoundTrips};
use tower_api_token::store::KeyLayout;
use tower_api_token::{Answer, Origin};

const TOKENS: usize = 24;

fn token(n: usize) -> String {
    format!("app-token-{n}")
}

/// Starts a cluster of one node.
fn server(slots: [u16; 2]) -> RedisServer {
    let server = RedisServer::start_node();
    let [first, last] = slots;
    server.add_slots(first, last);
    server
}

struct World {
    _server: RedisServer,
    wire: RoundTrips,
    db: Arc<Db>,
    cache: Cache,
}

impl World {
    async fn new() -> Self {
        Self::of(KeyLayout::digest()).await
    }

    async fn of(layout: KeyLayout) -> Self {
        Self::behind(server([0, 16_383]), layout).await
    }

    async fn behind(server: RedisServer, layout: KeyLayout) -> Self {
        let addr = server.addr();
        Self::at(addr, server, layout).await
    }

    async fn at(addr: SocketAddr, server: RedisServer, layout: KeyLayout) -> Self {
        let soundly = || {
            server
                .command(&["CLUSTER", "INFO"])
                .text()
                .contains("cluster_state:ok")
        };
        until(soundly).await;
        let db = Db::new();
        for n in 0..TOKENS {
            db.insert(&token(n), Row::new("app").of_tenant("t-1"));
        }
        let wire = RoundTrips::start(addr);
        let url = format!("redis://{}/", wire.addr());
        let builder = db
            .cache()
            .store(redis_at(&url).key_layout(layout))
            .token_types(["app"]);
        let cache = builder.local_capacity(0).build().unwrap();
        for n in 0..TOKENS {
            cached(&cache, &token(n)).await;
        }
        Self {
            _server: server,
            wire,
            db,
            cache,
        }
    }

    /// Returns the writes so far to tenants and the registry, in short.
    fn writes(&self) -> Vec<String> {
        let writes = self.wire.take().into_iter().map(|commands| {
            let of_requests = commands
                .iter()
                .filter(|command| !command.contains("fence:"));
            let short = of_requests.map(|command| match command.split_once(" api_token") {
                Some((name, key)) => {
                    let name = name.split(' ').next().unwrap_or_default();
                    let key = key.split(' ').next().unwrap_or_default();
                    format!("{name} {}", key.trim_start_matches(':'))
                }
                None => command.clone(),
            });
            short.collect::<Vec<_>>().join(", ")
        });
        writes.filter(|write| !write.is_empty()).collect()
    }
}

#[tokio::test]
async fn concurrent_lookups_are_answered_through_one_address() {
    let world = World::new().await;
    for _ in 0..2 {
        let start = |n| crate::common::start(&world.cache, &token(n));
        let asked: Vec<_> = (0..TOKENS).map(start).collect();
        for one in asked {
            let Ok(Answer::Valid(token)) = one.await.unwrap() else {
                panic!("the request is not answered");
            };
            assert_eq!(token.origin(), Origin::Shared);
        }
    }
    assert_eq!(world.db.loads(), TOKENS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_tenants_are_invalidated_through_one_address() {
    for layout in [
        KeyLayout::digest(),
        KeyLayout::peppered("new").previous_peppers(["old", ""]),
        KeyLayout::dify(),
    ] {
        let world = World::of(layout).await;
        world.cache.check_store().await.unwrap();
        world.cache.authenticate(&token(0)).await.unwrap();
        world.db.revoke(&token(0));
        world.cache.invalidate(&token(0)).await.unwrap();
        assert!(is_invalid(&world.cache, &token(0)).await);
        world.db.revoke(&token(1));
        world
            .cache
            .invalidate(&token(1))
            .wait_for_replicas(0)
            .await
            .unwrap();
        assert!(is_invalid(&world.cache, &token(1)).await);
        for replicated in [false, true] {
            world.db.suspend("t-1");
            let invalidation = world.cache.invalidate_tenant("t-1");
            match replicated {
                true => invalidation.wait_for_replicas(0).await.unwrap(),
                false => invalidation.await.unwrap(),
            };
            let answer = ask(&world.cache, &token(2)).await;
            assert!(matches!(answer, Ok(Answer::Denied(_))), "{answer:?}");
            world.db.resume("t-1");
            world.cache.invalidate_tenant("t-1").await.unwrap();
            found(&world.cache, &token(2)).await;
        }
    }
}

/// The server answers with another error than Redis' own for keys of several slots.
#[tokio::test]
async fn a_server_that_hides_its_mode_is_treated_as_a_cluster() {
    let server = server([0, 16_383]);
    let rights = ["token:*", "tokens", "tenant*", "bounds", "fence:heartbeat"];
    let rights = rights.map(|names| format!("~api_token:{names}"));
    let mut grant = vec!["ACL", "SETUSER", "default", "resetkeys"];
    grant.extend(rights.iter().map(String::as_str));
    server.command(&grant).ok();
    let world = World::behind(server, KeyLayout::digest()).await;
    world.writes();
    world.cache.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(world.writes(), ["DEL tenants", "DEL tenant:{t-1}"]);
}

/// Redis Software without the cluster API accepts some commands with keys of several slots, and no scripts.
#[tokio::test]
async fn a_proxy_that_takes_a_del_apart_is_treated_as_a_cluster() {
    let server = server([0, 16_383]);
    let proxy = FrameProxy::start(server.addr());
    proxy.answer("DEL api_token:fence:heartbeat:{1}", ":0");
    let world = World::at(proxy.addr(), server, KeyLayout::digest()).await;
    world.writes();
    world.cache.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(world.writes(), ["DEL tenants", "DEL tenant:{t-1}"]);
}

/// A proxy behind the address may send the commands of one write to several servers.
#[tokio::test]
async fn ordered_commands_are_sent_after_the_reply_to_the_one_before() {
    let world = World::new().await;
    world.writes();
    world.cache.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(world.writes(), ["DEL tenants", "DEL tenant:{t-1}"]);
    let invalidation = world.cache.invalidate(&token(0));
    invalidation.wait_for_all_instances().await.unwrap();
    let writes = world.writes();
    assert_eq!(writes.len(), 2, "{writes:?}");
    assert!(writes[0].starts_with("DEL token:{"), "{writes:?}");
    assert_eq!(writes[1], "SMEMBERS bounds");
    found(&world.cache, &token(0)).await;
    let writes = world.writes();
    let created = writes.iter().position(|write| write == "EVAL tenant:{t-1}");
    assert_eq!(writes[created.unwrap() + 1], "GET tenants", "{writes:?}");
}

#[tokio::test]
async fn a_tenants_steps_stay_in_order_with_replicas_and_dify() {
    for (layout, replicated) in [
        (KeyLayout::digest(), true),
        (KeyLayout::dify(), false),
        (KeyLayout::dify(), true),
    ] {
        let world = World::of(layout).await;
        world.wire.take();
        let invalidation = world.cache.invalidate_tenant("t-1");
        match replicated {
            true => invalidation.wait_for_replicas(0).await.unwrap(),
            false => invalidation.await.unwrap(),
        };
        let deletes = |write: &Vec<String>, end: &str| {
            let mut commands = write.iter();
            commands.any(|command| command.starts_with("DEL ") && command.ends_with(end))
        };
        let writes = world.wire.take();
        let first = |end| writes.iter().position(|write| deletes(write, end));
        let tenant = first("tenant:{t-1}").or(first("tenant:t-1"));
        let epoch = first("tenants");
        assert!(epoch.is_some() && epoch < tenant, "{writes:?}");
    }
}

#[tokio::test]
async fn one_node_of_a_larger_cluster_is_unhealthy() {
    let server = server([0, 8_000]);
    server
        .command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"])
        .ok();
    let soundly = || {
        server
            .command(&["CLUSTER", "INFO"])
            .text()
            .contains("cluster_state:ok")
    };
    until(soundly).await;
    let db = Db::with(&token(0), Row::new("app"));
    let builder = db.cache().store(redis_at(&server.url()));
    let cache = builder.local_capacity(0).build().unwrap();
    cache.check_store().await.unwrap_err();
    assert_eq!(found(&cache, &token(0)).await.origin(), Origin::Loaded);
}
