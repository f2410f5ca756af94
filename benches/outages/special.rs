//! Faults under other loads than the one of the table.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use test_support::{Direction, RedisServer};
use tokio::time::{Instant, sleep};

use super::Chosen;
use super::db::{Db, LOAD};
use super::load::{End, Load, RATE, Request, burst};
use super::row::{errors, ms, percentile};
use super::world::World;

pub(crate) async fn run(chosen: &Chosen) {
    chosen
        .run("one token at 500 requests/s, slow by 20 ms", async |name| {
            let world = World::without_tenants().await;
            let by = Duration::from_millis(20);
            world.proxy.delay(Direction::ToClient, by);
            let load = Load::of(1, &world.cache, RATE);
            sleep(Duration::from_secs(3)).await;
            let looked = load.requests.len();
            world.proxy.heal();
            let requests = load.stop().await;
            let took: Vec<Duration> = requests.iter().map(Request::took).collect();
            println!(
                "{name}: {looked} answers in 3 s, p50 {}, p99 {}, longest {}",
                ms(percentile(took.clone(), 50)),
                ms(percentile(took.clone(), 99)),
                ms(percentile(took, 100)),
            );
        })
        .await;
    chosen
        .run("frozen at 2,000 requests/s", async |name| {
            let world = World::new().await;
            let load = Load::start(&world.cache, 2_000);
            sleep(Duration::from_secs(1)).await;
            let broke = Instant::now();
            world.server.pause();
            sleep(Duration::from_secs(4)).await;
            world.server.resume();
            let healed = Instant::now();
            sleep(Duration::from_secs(1)).await;
            let requests = load.stop().await;
            let p = |percent, from: Instant, to: Instant| {
                let among = requests.iter().filter(|one| one.due >= from && one.due < to);
                ms(percentile(among.map(Request::took).collect(), percent))
            };
            let noticed = broke + Duration::from_secs(1);
            let over = Duration::from_millis(50);
            let slow = requests.iter().filter(|one| one.took() > over);
            println!(
                "{name}: p99 {} before; p99 {} in the first second; p50 {}, p99 {} from then to the \
                 end; longest {}; {} of {} requests took more than 50 ms; errors {}; most loads {}",
                p(99, broke - Duration::from_secs(1), broke),
                p(99, broke, noticed),
                p(50, noticed, healed),
                p(99, noticed, healed),
                p(100, broke, healed),
                slow.count(),
                requests.len(),
                errors(&requests),
                world.db.most.load(SeqCst),
            );
            assert!(!requests.iter().any(|one| matches!(one.end, End::Wrong)));
        })
        .await;
    chosen
        .run("5,000 distinct tokens with Redis down", async |name| {
            for takes in [LOAD, 20] {
                let server = RedisServer::start();
                server.kill();
                let db = Db::new();
                db.takes.store(takes, SeqCst);
                let cache = db.cache(&server.url());
                let requests = burst(&cache, 5_000).await;
                let most = db.most.load(SeqCst);
                let loads = db.loads.load(SeqCst);
                let longest = requests.iter().map(Request::took).max();
                println!(
                    "{name}, a load takes {takes} ms: {most} loads at most at once, {loads} in all, \
                     longest {}, errors {}",
                    ms(longest.unwrap_or_default()),
                    errors(&requests),
                );
                assert!(most <= 50, "{most} loads at once");
                assert!(!requests.iter().any(|one| matches!(one.end, End::Wrong)));
            }
        })
        .await;
}
