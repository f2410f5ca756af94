//! The operator: commits changes, and invalidates each until it is confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use test_support::Dice;
use tower_api_token::{ApiTokenCache, BoxError, Lookup, RedisStore, TokenRecord};

use super::fleet::Fleet;
use crate::chaos::books::{Shared, lock};
use crate::chaos::clock::now;
use crate::chaos::ledger::{Confirmed, Ledger, Row, Standing, Target};
use crate::chaos::settings::{BOUND, Mode, NEVER_CREATED, TENANTS, TOKEN_TYPE, TOKENS};
use crate::chaos::worker::invalidate;

/// The mean pause between two commits, in milliseconds.
const PAUSE: u64 = 25;

/// The maximum number of unconfirmed changes. Sentinels take ten seconds for a failover.
const AT_ONCE: usize = 100;

/// The operator's side of a run.
#[derive(Debug)]
pub(super) struct Operator {
    books: Shared,
    fleet: Arc<Fleet>,
    /// The URLs of Redis itself, and of a proxy.
    ways: [String; 2],
    /// An engine for each URL. In a run of [`Mode::Bounds`] each invalidation has a new engine instead, because
    /// an engine that has seen the longest bound does not need the registry any longer.
    engines: Option<[ApiTokenCache<u64>; 2]>,
    replicas: usize,
    unconfirmed: AtomicUsize,
    ended: AtomicBool,
}

impl Operator {
    pub(super) fn new(
        books: &Shared,
        fleet: &Arc<Fleet>,
        mode: Mode,
        ways: [String; 2],
        replicas: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            books: Arc::clone(books),
            fleet: Arc::clone(fleet),
            engines: (mode != Mode::Bounds).then(|| ways.each_ref().map(|way| engine(way))),
            ways,
            replicas,
            unconfirmed: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        })
    }

    /// Commits changes until it is stopped.
    pub(super) async fn work(self: Arc<Self>, seed: u64) {
        let mut dice = Dice::new(seed, 1);
        for change in 0.. {
            tokio::time::sleep(dice.millis(0, 2 * PAUSE)).await;
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            if self.unconfirmed() >= AT_ONCE {
                continue;
            }
            let target = {
                let mut books = lock(&self.books);
                commit(&mut books.ledger, &mut dice)
            };
            // Counted before it can end.
            self.unconfirmed.fetch_add(1, Ordering::SeqCst);
            let (this, dice) = (Arc::clone(&self), Dice::new(seed, 1_000 + change));
            tokio::spawn(async move {
                this.confirm(target, dice).await;
                this.unconfirmed.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    /// Stops further commits.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Returns the number of changes that are not confirmed yet.
    pub(super) fn unconfirmed(&self) -> usize {
        self.unconfirmed.load(Ordering::SeqCst)
    }

    /// Invalidates until `Ok`, as the protocol requires. Each attempt covers everything that was committed
    /// before it.
    async fn confirm(&self, target: Target, mut dice: Dice) {
        loop {
            let (wait, by_digest) = (dice.percent(50), dice.percent(50));
            let (version, started) = {
                let books = lock(&self.books);
                (books.ledger.newest(target), now())
            };
            let confirmed = if dice.percent(25) {
                let worker = dice.below(self.fleet.len());
                let about = (version, started);
                self.fleet
                    .invalidate(worker, target, about, by_digest, wait)
                    .await
            } else {
                let way = dice.below(self.ways.len());
                let engine = match &self.engines {
                    Some(engines) => engines[way].clone(),
                    None => engine(&self.ways[way]),
                };
                let replicas = self.replicas;
                let confirmed = invalidate(&engine, target, by_digest, wait, replicas).await;
                // After the return.
                let returned = now();
                if confirmed {
                    let confirmed = Confirmed {
                        version,
                        started,
                        returned,
                        waited: wait,
                        instance: None,
                    };
                    let mut books = lock(&self.books);
                    books.confirmed(target, confirmed);
                }
                confirmed
            };
            if confirmed {
                return;
            }
            {
                let mut books = lock(&self.books);
                books.invalidations.failed += 1;
            }
            tokio::time::sleep(dice.millis(20, 120)).await;
        }
    }
}

/// Builds an engine that only invalidates. Its settings are those of the workers, apart from longer bounds.
fn engine(url: &str) -> ApiTokenCache<u64> {
    let never =
        |_: Lookup| async { Err::<Option<TokenRecord<u64>>, BoxError>("nobody asks here".into()) };
    let store = RedisStore::new(url).expect("a good URL");
    ApiTokenCache::builder(never)
        .store(store)
        .token_types([TOKEN_TYPE])
        .max_staleness(BOUND)
        .build()
        .expect("good settings")
}

/// Commits a change that is possible in the current state.
fn commit(ledger: &mut Ledger, dice: &mut Dice) -> Target {
    if dice.percent(25) {
        let tenant = dice.below(TENANTS);
        let standing = match ledger.tenant(tenant).present() {
            Standing::Active if dice.percent(40) => Standing::Suspended,
            Standing::Suspended if dice.percent(60) => Standing::Active,
            same => same,
        };
        ledger.commit_tenant(tenant, standing);
        return Target::Tenant(tenant);
    }
    // Tokens that are often requested are changed more often, so that changes meet requests.
    let among = dice.of(&[TOKENS / 4, TOKENS - NEVER_CREATED]);
    let token = dice.below(among);
    let row = match ledger.token(token).present() {
        Row::Absent => Row::Good(any_tenant(dice)),
        Row::Good(tenant) => match dice.below(100) {
            0..60 => Row::Good(tenant),
            60..70 => Row::Good(any_tenant(dice)),
            _ => Row::Absent,
        },
    };
    ledger.commit_token(token, row);
    Target::Token(token)
}

fn any_tenant(dice: &mut Dice) -> Option<usize> {
    dice.percent(65).then(|| dice.below(TENANTS))
}
