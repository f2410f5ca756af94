//! Faults of deployments that recover by themselves: sentinels and clusters.

use std::time::Duration;

use test_support::{RedisCluster, RedisSentinel};

use super::Chosen;
use super::db::Db;
use super::world::{measure, prime};

/// Kills masters. The fault lasts until the deployment has recovered.
pub(crate) async fn lose_masters(chosen: &Chosen) {
    chosen
        .run("sentinel: master killed", async |name| {
            let set = RedisSentinel::start();
            let db = Db::new();
            let cache = db.cache(&set.url());
            prime(&cache).await;
            set.wait_until_replicated();
            let old = set.master();
            let heal = async || {
                set.wait_for_failover(old);
            };
            let hold = Duration::from_secs(2);
            measure(name, (&cache, &db), hold, async || old.kill(), heal).await;
        })
        .await;
    let on_cluster = async |name, hold, fault: fn(&RedisCluster)| {
        let measured = async |name| {
            let cluster = RedisCluster::start();
            let db = Db::new();
            let cache = db.cache(&cluster.url());
            prime(&cache).await;
            cluster.wait_until_replicated();
            let hold = Duration::from_secs(hold);
            let heal = async || cluster.wait_until_ok();
            measure(name, (&cache, &db), hold, async || fault(&cluster), heal).await;
        };
        chosen.run(name, measured).await;
    };
    on_cluster("cluster: a master killed", 2, |cluster| {
        cluster.node(cluster.masters()[0]).kill();
    })
    .await;
    on_cluster("cluster: a master frozen", 2, |cluster| {
        cluster.node(cluster.masters()[0]).pause();
    })
    .await;
    on_cluster("cluster: 20 slots moved", 1, |cluster| {
        for entry in cluster.keys("api_token:token:*").iter().take(20) {
            let from = cluster.master_for(entry);
            let others = cluster.masters().into_iter();
            let to = others.into_iter().find(|node| *node != from);
            let slot = cluster.slot_for(entry);
            cluster.migrate_slot(slot, from, to.expect("another"));
        }
    })
    .await;
}
