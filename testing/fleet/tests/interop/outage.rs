//! An outage of Redis: both sides answer from the database, and invalidations are not confirmed.

use std::time::{Duration, Instant};

use crate::common::{APP, TOKEN, World, found, is_absent, record};
use fleet::interop::database::Row;
use fleet::interop::python::Version;
use serde_json::json;

#[tokio::test]
async fn both_sides_answer_without_redis_and_share_it_afterwards() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        found(&rust, TOKEN).await;
        world.redis.kill();
        assert_eq!(found(&rust, TOKEN).await.id(), "tok-1");
        assert!(is_absent(&rust, "unknown").await);
        let answered = python.fetch_loaded(TOKEN, APP, &record("py-1", TOKEN));
        assert_eq!(answered["id"], "py-1");
        assert!(rust.invalidate(TOKEN).await.is_err());
        assert!(rust.invalidate_tenant("t-1").await.is_err());
        let delete = json!({ "do": "delete", "token": TOKEN, "scope": "app" });
        assert!(python.try_run(&delete).is_err());

        world.redis.restart();
        // Our side does not answer from Redis until the failed invalidation is confirmed.
        let patience = Instant::now() + Duration::from_secs(60);
        while rust.invalidate(TOKEN).await.is_err() || rust.invalidate_tenant("t-1").await.is_err()
        {
            assert!(Instant::now() < patience, "it is not confirmed");
            tokio::task::yield_now().await;
        }
        python.fetch_loaded(TOKEN, APP, &record("py-2", TOKEN));
        while found(&rust, TOKEN).await.id() != "py-2" {
            assert!(Instant::now() < patience, "it does not come back");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn loss_of_all_keys_costs_loads_and_no_wrong_answer() {
    for version in Version::ALL {
        let world = World::with(Row::new("tok-1").of_tenant("t-1"));
        let (rust, mut python) = (world.rust(), world.python(version));
        found(&rust, TOKEN).await;
        world.database.revoke(TOKEN);
        world.redis.flushall();
        python.fetch_loaded(TOKEN, APP, &world.database.for_python(TOKEN));
        assert!(is_absent(&rust, TOKEN).await);
    }
}
