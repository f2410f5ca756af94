//! Faults of the database, without and with faults of Redis.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tower_api_token::ApiTokenCacheBuilder;

use super::Chosen;
use super::db::LOAD;
use super::world::World;

pub(crate) async fn breaks(chosen: &Chosen) {
    let fails = |world: &World| world.db.fails.store(true, SeqCst);
    let slow = |world: &World| world.db.takes.store(300, SeqCst);
    let heal = |world: &World| {
        world.db.fails.store(false, SeqCst);
        world.db.takes.store(LOAD, SeqCst);
    };
    let short = async |grace| {
        let ttl = Duration::from_secs(1);
        let more = |builder: ApiTokenCacheBuilder<()>| builder.ttl(ttl).stale_if_error(grace);
        World::with(&[], more).await
    };
    let none = Duration::ZERO;
    chosen
        .run("database fails for 2 s", async |name| {
            World::new().await.measure(name, 2, fails, heal).await;
        })
        .await;
    chosen
        .run("database slow (300 ms)", async |name| {
            World::new().await.measure(name, 2, slow, heal).await;
        })
        .await;
    // With a TTL so short that every entry expires during the fault.
    chosen
        .run("database fails for 2 s, ttl 1 s", async |name| {
            short(none).await.measure_expiring(name, fails, heal).await;
        })
        .await;
    chosen
        .run("the same with stale_if_error", async |name| {
            let world = short(Duration::from_secs(60)).await;
            world.measure_expiring(name, fails, heal).await;
        })
        .await;
    chosen
        .run("database slow (300 ms), ttl 1 s", async |name| {
            short(none).await.measure_expiring(name, slow, heal).await;
        })
        .await;
    chosen
        .run("both down", async |name| {
            let fault = |world: &World| {
                fails(world);
                world.server.kill();
            };
            let heal = |world: &World| {
                heal(world);
                world.server.restart();
            };
            World::new().await.measure(name, 3, fault, heal).await;
        })
        .await;
    chosen
        .run("Redis down, database slow (300 ms)", async |name| {
            let fault = |world: &World| {
                slow(world);
                world.server.kill();
            };
            let heal = |world: &World| {
                heal(world);
                world.server.restart();
            };
            World::new().await.measure(name, 3, fault, heal).await;
        })
        .await;
}
