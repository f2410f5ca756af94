//! Faults of one Redis.

use std::time::Duration;

use test_support::{Direction, RedisServer};

use super::Chosen;
use super::db::Db;
use super::world::{World, measure};

pub(crate) async fn breaks(chosen: &Chosen) {
    let run = async |name, fault: fn(&World), heal: fn(&World)| {
        let measured = async |name| World::new().await.measure(name, 3, fault, heal).await;
        chosen.run(name, measured).await;
    };
    chosen
        .run("down at start, up later", async |name| {
            let server = RedisServer::start();
            server.kill();
            let db = Db::new();
            let cache = db.cache(&server.url());
            let hold = Duration::from_secs(3);
            let heal = async || server.restart();
            measure(name, (&cache, &db), hold, async || (), heal).await;
        })
        .await;
    run(
        "killed, restarted empty",
        |world| world.server.kill(),
        |world| world.server.restart(),
    )
    .await;
    run(
        "killed, restarted from its file",
        |world| {
            world.server.command(&["SAVE"]).ok();
            world.server.kill();
        },
        |world| world.server.restart_from_file(),
    )
    .await;
    run(
        "SIGSTOP for 3 s",
        |world| world.server.pause(),
        |world| world.server.resume(),
    )
    .await;
    run(
        "accepts, never answers",
        |world| {
            world.proxy.cut();
            world.proxy.heal();
            world.proxy.black_hole_new();
        },
        |world| world.proxy.heal(),
    )
    .await;
    run(
        "requests get lost, replies do not",
        |world| world.proxy.stall(Direction::ToServer),
        |world| world.proxy.heal(),
    )
    .await;
    run(
        "replies get lost, requests do not",
        |world| world.proxy.stall(Direction::ToClient),
        |world| world.proxy.heal(),
    )
    .await;
    run(
        "slow by 200 ms",
        |world| {
            let by = Duration::from_millis(200);
            world.proxy.delay(Direction::ToClient, by);
        },
        |world| world.proxy.heal(),
    )
    .await;
    chosen
        .run("slow by 200 ms, tokens of no tenant", async |name| {
            let world = World::without_tenants().await;
            let by = Duration::from_millis(200);
            let fault = |world: &World| world.proxy.delay(Direction::ToClient, by);
            let heal = |world: &World| world.proxy.heal();
            world.measure(name, 3, fault, heal).await;
        })
        .await;
    run("FLUSHALL", |world| world.server.flushall(), |_| ()).await;
}

pub(crate) async fn refuses(chosen: &Chosen) {
    let full = |world: &World| world.set("maxmemory", "1");
    let roomy = |world: &World| world.set("maxmemory", "0");
    chosen
        .run("maxmemory, tokens cached", async |name| {
            World::new().await.measure(name, 3, full, roomy).await;
        })
        .await;
    chosen
        .run("maxmemory, nothing cached", async |name| {
            let fault = |world: &World| {
                full(world);
                world.server.flushall();
            };
            World::new().await.measure(name, 3, fault, roomy).await;
        })
        .await;
    chosen
        .run("read-only", async |name| {
            let nobody = test_support::free_port().to_string();
            let fault = |world: &World| {
                let of_nobody = ["REPLICAOF", "127.0.0.1", &nobody];
                world.server.command(&of_nobody).ok();
            };
            let heal = |world: &World| {
                world.server.command(&["REPLICAOF", "NO", "ONE"]).ok();
            };
            World::new().await.measure(name, 3, fault, heal).await;
        })
        .await;
    chosen
        .run("restarted from a large file (LOADING)", async |name| {
            // Slowed down by settings for tests.
            let slowly = ["--key-load-delay", "600"];
            let often = ["--loading-process-events-interval-bytes", "1024"];
            let debug = ["--enable-debug-command", "yes"];
            let args: Vec<&str> = [slowly, often, debug].concat();
            let world = World::with(&args, |builder| builder).await;
            let populate = ["DEBUG", "POPULATE", "5000", "other", "200"];
            world.server.command(&populate).ok();
            let restart = |world: &World| world.server.save_and_restart();
            world.measure(name, 1, restart, |_| ()).await;
        })
        .await;
    chosen
        .run("wrong password, then right", async |name| {
            let world = World::new().await;
            let client = redis::Client::open(world.server.url()).expect("a client");
            let connection = client.get_multiplexed_async_connection().await;
            let connection = connection.expect("a connection");
            let tell = async |words: &[&str]| {
                let mut command = redis::cmd(words[0]);
                for word in &words[1..] {
                    command.arg(word);
                }
                let told = command.query_async::<()>(&mut connection.clone()).await;
                told.expect("told");
            };
            let fault = async || {
                tell(&["CONFIG", "SET", "requirepass", "secret"]).await;
                tell(&["AUTH", "secret"]).await;
                world.proxy.cut();
                world.proxy.heal();
            };
            let heal = async || tell(&["CONFIG", "SET", "requirepass", ""]).await;
            let hold = Duration::from_secs(3);
            measure(name, (&world.cache, &world.db), hold, fault, heal).await;
        })
        .await;
}
