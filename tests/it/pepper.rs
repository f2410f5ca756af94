//! Tests the rotation of a pepper in a running fleet (wire.md): instances with the old and with the new
//! pepper share one Redis, ten thousand entries are filled again, and both sides revoke tokens.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use test_support::RedisServer;
use tokio::task::JoinSet;
use tower_api_token::store::KeyLayout;
use tower_api_token::{
    Answer, ApiTokenCache, Lookup, Origin, RedisStore, TokenDigest, TokenRecord,
};

const TOKENS: usize = 10_000;
/// The limit of concurrent loads of an instance.
const MAX_LOADS: usize = 8;
const CLIENTS: usize = 64;

fn token(n: usize) -> String {
    format!("app-{n:020}")
}

/// The revoked tokens, and the loads.
#[derive(Default)]
struct Database {
    revoked: Mutex<HashSet<String>>,
    loads: AtomicUsize,
}

/// An instance, and the largest number of its concurrent loads.
#[derive(Clone)]
struct Instance {
    cache: ApiTokenCache,
    most: Arc<AtomicUsize>,
}

impl Instance {
    fn start(database: &Arc<Database>, server: &RedisServer, layout: KeyLayout) -> Self {
        let (running, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let loads = (
            Arc::clone(database),
            Arc::clone(&running),
            Arc::clone(&most),
        );
        let loader = move |lookup: Lookup| {
            let (database, running, most) = loads.clone();
            async move {
                database.loads.fetch_add(1, Ordering::SeqCst);
                let at_once = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(at_once, Ordering::SeqCst);
                let revoked = {
                    let revoked = database.revoked.lock().unwrap();
                    revoked.contains(lookup.token().expose())
                };
                // Long enough for loads to overlap.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Infallible>((!revoked).then(|| TokenRecord::new("tok-1").token_type("app")))
            }
        };
        let patient = Duration::from_secs(10);
        let store = RedisStore::new(&server.url()).unwrap();
        let cache = ApiTokenCache::builder(loader)
            .store(
                store
                    .response_timeout(patient)
                    .connect_timeout(patient)
                    .key_layout(layout),
            )
            .token_types(["app"])
            .max_staleness(Duration::from_millis(200))
            .max_concurrent_loads(MAX_LOADS)
            .load_queue_timeout(patient)
            .build()
            .unwrap();
        Self { cache, most }
    }

    async fn ask(&self, n: usize) -> Answer {
        self.cache
            .authenticate_typed(&token(n), "app")
            .await
            .unwrap()
    }

    /// Looks up every token once, with many clients. Returns the answers' origins, `None` for an invalid token.
    async fn ask_all(&self) -> Vec<Option<Origin>> {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let instance = self.clone();
            clients.spawn(async move {
                let mut origins = Vec::new();
                for n in (client..TOKENS).step_by(CLIENTS) {
                    origins.push(instance.ask(n).await.valid().map(|token| token.origin()));
                }
                origins
            });
        }
        clients.join_all().await.into_iter().flatten().collect()
    }

    async fn accepts(&self, n: usize) -> bool {
        self.ask(n).await.valid().is_some()
    }
}

/// Commits a revocation, invalidates at `at`, and checks that no instance still accepts the token.
async fn revoke(database: Arc<Database>, at: Instance, fleet: Vec<Instance>, n: usize) {
    database.revoked.lock().unwrap().insert(token(n));
    at.cache
        .invalidate(&token(n))
        .wait_for_all_instances()
        .await
        .unwrap();
    for (place, instance) in fleet.iter().enumerate() {
        assert!(!instance.accepts(n).await, "{n} at instance {place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pepper_is_rotated_under_load_without_a_lost_revocation() {
    let server = RedisServer::start();
    let database = Arc::<Database>::default();
    let start = |current: &str, previous: &[&str]| {
        let previous = previous.iter().copied();
        Instance::start(
            &database,
            &server,
            KeyLayout::peppered(current).previous_peppers(previous),
        )
    };
    let loads = || database.loads.swap(0, Ordering::SeqCst);

    // The first step: all instances know both peppers.
    let old = [start("old", &["new"]), start("old", &["new"])];
    assert_eq!(old[0].ask_all().await.len(), TOKENS);
    old[1].ask_all().await;
    assert_eq!(loads(), TOKENS);

    // The second step: two new instances use the new pepper and get every request at once. The old ones run on.
    let new = [start("new", &["old"]), start("new", &["old"])];
    let fleet = [old.clone(), new.clone()].concat();
    let mut work = JoinSet::new();
    for instance in fleet.clone() {
        work.spawn(async move { drop(instance.ask_all().await) });
    }
    let revocations = 200;
    for n in 0..revocations {
        // Each instance in turn revokes, spread over the whole time.
        let at = fleet[n % fleet.len()].clone();
        let step = TOKENS / revocations;
        work.spawn(revoke(
            Arc::clone(&database),
            at,
            fleet.clone(),
            n * step + n % step,
        ));
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    // One load for each token, and one for each entry of a revoked token.
    let loaded = loads();
    assert!(
        (TOKENS..=TOKENS + 3 * revocations).contains(&loaded),
        "{loaded}"
    );
    for (place, instance) in fleet.iter().enumerate() {
        let most = instance.most.load(Ordering::SeqCst);
        assert!(most <= MAX_LOADS, "{most} at once in instance {place}");
    }
    let most = |instances: &[Instance]| {
        let most = instances.iter().map(|one| one.most.load(Ordering::SeqCst));
        most.max()
    };
    assert_eq!(most(&new), Some(MAX_LOADS), "the limit was reached");

    // The third step: all use the new pepper and have dropped the old one, which costs no load.
    let last = [start("new", &[]), start("new", &[])];
    let mut absent = 0;
    for instance in &last {
        let origins = instance.ask_all().await;
        absent += origins.iter().filter(|origin| origin.is_none()).count();
        assert!(!origins.contains(&Some(Origin::Loaded)));
    }
    assert_eq!((absent, loads()), (2 * revocations, 0));
    let at = last[0].clone();
    revoke(Arc::clone(&database), at, last.to_vec(), 5_001).await;

    // No entry is stored under the plain digest.
    let plain = format!("api_token:token:{{{}}}", TokenDigest::of(&token(0)));
    assert_eq!(server.get(&plain), None);
    assert!(server.keys("api_token:token:*").len() >= 2 * TOKENS - 2 * revocations);
}
