//! Counts the round trips to Redis that a lookup costs, on the wire, and checks their commands.
//!
//! Commands that are sent once per connection, per minute or after an invalidation have tests of their own. In
//! the other tests they are sent before the count begins.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Builder, Cache, Db, Row, found, is_invalid, redis, redis_at};
use test_support::{RedisServer, RoundTrips};
use tower_api_token::Origin;
use tower_api_token::test_util::ManualClock;

const TOKEN: &str = "app-0123456789abcdef";
/// A token of the same tenant, if there is one.
const SIBLING: &str = "app-fedcba9876543210";
/// A token without a tenant.
const OTHER: &str = "app-00000000deadbeef";
const UNKNOWN: &str = "app-unknown";
const TENANT: &str = "t-1";
/// The default staleness bound.
const BOUND: Duration = Duration::from_secs(1);

/// R1 and R2, for a value that is valid by itself.
const READ: [&str; 1] = ["GET entry"];
/// The same while the generation of all entries is not known.
const READ_BOTH: [&str; 1] = ["MGET entry A"];
/// The tenant's generation, for a value that is valid only with it.
const TENANT_OF_VALUE: [&str; 2] = ["GET T", "PTTL T"];
/// R4, over an empty key or in place of a value that is not valid.
const ACQUIRE: [&str; 3] = ["EVAL entry", "GET E", "GET A"];
/// The generation of all entries, for a value that is valid only with it.
const ALL_OF_VALUE: [&str; 2] = ["GET A", "PTTL A"];
/// The tenant's generation, for a record that was just loaded.
const TENANT_OF_LOAD: [&str; 2] = ["EVAL T", "GET E"];
/// R6.
const FILL: [&str; 1] = ["EVAL entry"];

struct World {
    server: RedisServer,
    wire: RoundTrips,
    db: Arc<Db>,
    clock: ManualClock,
}

impl World {
    /// Creates two tokens with or without a tenant, and another token without one.
    fn new(tenant: Option<&str>) -> Self {
        let mut row = Row::new("app");
        row.tenant = tenant.map(str::to_owned);
        let db = Db::with(TOKEN, row.clone());
        db.insert(SIBLING, row);
        db.insert(OTHER, Row::new("app"));
        let server = RedisServer::start();
        Self {
            wire: RoundTrips::start(server.addr()),
            server,
            db,
            clock: ManualClock::new(),
        }
    }

    fn builder(&self) -> Builder {
        self.db
            .cache()
            .clock(self.clock.clone())
            .token_types(["app"])
    }

    /// Creates the instance whose round trips are counted, which has sent everything that is sent only once.
    async fn instance(&self) -> Cache {
        self.warm(self.builder()).await
    }

    async fn warm(&self, builder: Builder) -> Cache {
        let url = format!("redis://{}/", self.wire.addr());
        let cache = builder.store(redis_at(&url)).build().unwrap();
        found(&cache, OTHER).await;
        cache
    }

    /// Creates another instance, which fills Redis.
    fn another(&self) -> Cache {
        self.builder().store(redis(&self.server)).build().unwrap()
    }

    /// Looks up a token, checks the answer's origin, and returns the round trips of the lookup.
    async fn of(&self, cache: &Cache, token: &str, origin: Origin) -> Vec<Vec<String>> {
        self.trips();
        assert_eq!(found(cache, token).await.origin(), origin);
        self.trips()
    }

    /// Returns the round trips so far: the names of their commands, and the kinds of their keys.
    fn trips(&self) -> Vec<Vec<String>> {
        let name = |command: &String| {
            let mut words = command.split_whitespace();
            let name = words.next().unwrap_or_default();
            let keys = words.filter_map(|word| word.strip_prefix("api_token:"));
            let about = |key: &str| match key {
                "tenants" => "E".to_owned(),
                "bounds" => "bounds".to_owned(),
                "tokens" => "A".to_owned(),
                key if key.starts_with("token:{") => "entry".to_owned(),
                key if key.starts_with("tenant:{") => "T".to_owned(),
                key => key.to_owned(),
            };
            let about: Vec<String> = keys.map(about).collect();
            format!("{name} {}", about.join(" "))
        };
        let trips = self.wire.take().into_iter().map(|commands| {
            // The supervisor's heartbeats depend on time.
            let of_requests = commands
                .iter()
                .filter(|command| !command.contains("fence:heartbeat"));
            of_requests.map(name).collect::<Vec<_>>()
        });
        trips.filter(|commands| !commands.is_empty()).collect()
    }
}

fn trips<const N: usize>(expected: [&[&str]; N]) -> Vec<Vec<String>> {
    let owned = |commands: &&[&str]| commands.iter().map(|&command| command.to_owned()).collect();
    expected.iter().map(owned).collect()
}

#[tokio::test]
async fn a_local_hit_costs_none() {
    for tenant in [None, Some(TENANT)] {
        let world = World::new(tenant);
        let cache = world.instance().await;
        found(&cache, TOKEN).await;
        assert_eq!(world.of(&cache, TOKEN, Origin::Local).await, trips([]));
    }
}

#[tokio::test]
async fn a_hit_without_a_tenant_costs_one() {
    let world = World::new(None);
    let cache = world.instance().await;
    found(&world.another(), TOKEN).await;
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Shared).await,
        trips([&READ])
    );
}

#[tokio::test]
async fn a_hit_with_a_known_tenant_costs_one() {
    let world = World::new(Some(TENANT));
    let cache = world.instance().await;
    found(&cache, SIBLING).await;
    found(&world.another(), TOKEN).await;
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Shared).await,
        trips([&READ])
    );
}

#[tokio::test]
async fn a_hit_with_an_unknown_tenant_costs_two() {
    let world = World::new(Some(TENANT));
    let cache = world.instance().await;
    found(&world.another(), TOKEN).await;
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Shared).await,
        trips([&READ, &TENANT_OF_VALUE])
    );
    // From now on the tenant is known.
    found(&world.another(), SIBLING).await;
    assert_eq!(
        world.of(&cache, SIBLING, Origin::Shared).await,
        trips([&READ])
    );
}

#[tokio::test]
async fn without_a_local_level_no_tenant_is_known() {
    let world = World::new(Some(TENANT));
    let cache = world.warm(world.builder().local_capacity(0)).await;
    found(&cache, TOKEN).await;
    for _ in 0..2 {
        assert_eq!(
            world.of(&cache, TOKEN, Origin::Shared).await,
            trips([&READ_BOTH, &TENANT_OF_VALUE])
        );
    }
}

#[tokio::test]
async fn a_miss_without_a_tenant_costs_three() {
    let world = World::new(None);
    let cache = world.instance().await;
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Loaded).await,
        trips([&READ, &ACQUIRE, &FILL])
    );
}

#[tokio::test]
async fn a_miss_with_a_known_tenant_costs_three() {
    let world = World::new(Some(TENANT));
    let cache = world.instance().await;
    found(&cache, SIBLING).await;
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Loaded).await,
        trips([&READ, &ACQUIRE, &FILL])
    );
}

#[tokio::test]
async fn a_miss_with_an_unknown_tenant_costs_four() {
    // It makes no difference whether Redis has the generation.
    for known in [false, true] {
        let world = World::new(Some(TENANT));
        let cache = world.instance().await;
        if known {
            found(&world.another(), SIBLING).await;
        }
        assert_eq!(
            world.of(&cache, TOKEN, Origin::Loaded).await,
            trips([&READ, &ACQUIRE, &TENANT_OF_LOAD, &FILL])
        );
    }
}

#[tokio::test]
async fn a_negative_entry_costs_three_and_another_instance_one() {
    let world = World::new(None);
    let cache = world.instance().await;
    world.trips();
    assert!(is_invalid(&cache, UNKNOWN).await);
    assert_eq!(world.trips(), trips([&READ, &ACQUIRE, &FILL]));
    assert!(is_invalid(&cache, UNKNOWN).await);
    assert_eq!(world.trips(), trips([]));

    let second = world.instance().await;
    world.trips();
    assert!(is_invalid(&second, UNKNOWN).await);
    assert_eq!(world.trips(), trips([&READ]));
}

#[tokio::test]
async fn a_hit_while_the_generation_of_all_is_not_known_costs_one() {
    let world = World::new(None);
    let cache = world.instance().await;
    found(&world.another(), TOKEN).await;
    found(&world.another(), SIBLING).await;
    world.clock.advance(BOUND);
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Shared).await,
        trips([&READ_BOTH])
    );
    assert_eq!(
        world.of(&cache, SIBLING, Origin::Shared).await,
        trips([&READ])
    );
}

#[tokio::test]
async fn a_miss_after_a_tenants_invalidation_creates_both_generations() {
    let world = World::new(Some(TENANT));
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    found(&cache, SIBLING).await;
    world.another().invalidate_tenant(TENANT).await.unwrap();
    world.clock.advance(BOUND);
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Loaded).await,
        trips([
            &READ_BOTH,
            &TENANT_OF_VALUE,
            &["EVAL T"],
            &ACQUIRE,
            &["EVAL E"],
            &FILL
        ])
    );
    // The tenant's other tokens find both.
    assert_eq!(
        world.of(&cache, SIBLING, Origin::Loaded).await,
        trips([&READ, &TENANT_OF_VALUE, &ACQUIRE, &FILL])
    );
}

#[tokio::test]
async fn an_instance_registers_its_bound_once_a_minute() {
    let world = World::new(None);
    let cache = world.instance().await;
    found(&world.another(), TOKEN).await;
    world.clock.advance(Duration::from_secs(60));
    // And the TTL of the generation of all entries is renewed, if it is time.
    let register: &[&str] = &["SADD bounds", "SMEMBERS bounds", "GET A", "PTTL A"];
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Shared).await,
        trips([register, &READ_BOTH])
    );
    assert_eq!(
        world.of(&cache, SIBLING, Origin::Loaded).await,
        trips([&READ, &ACQUIRE, &FILL])
    );
}

#[tokio::test]
async fn the_first_miss_in_an_empty_redis_creates_the_epoch_and_the_generation_of_all() {
    let world = World::new(None);
    let cache = world.instance().await;
    world.server.flushall();
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Loaded).await,
        trips([
            &READ,
            &ACQUIRE,
            &["EVAL E"],
            &ALL_OF_VALUE,
            &["EVAL A"],
            &FILL
        ])
    );
}

#[tokio::test]
async fn stale_if_error_costs_no_round_trip() {
    let world = World::new(None);
    let lenient = |builder: Builder| builder.stale_if_error(Duration::from_secs(60));
    let cache = world.warm(lenient(world.builder())).await;
    let read: &[&str] = &["GET entry", "PTTL entry"];
    assert_eq!(
        world.of(&cache, TOKEN, Origin::Loaded).await,
        trips([read, &ACQUIRE, &FILL])
    );
    let second = world.warm(lenient(world.builder())).await;
    assert_eq!(
        world.of(&second, TOKEN, Origin::Shared).await,
        trips([read])
    );
}
