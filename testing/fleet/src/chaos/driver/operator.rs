//! The operator: commits changes, and invalidates each until it is confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use test_support::Dice;
use tower_api_token::{ApiTokenCache, BoxError, Lookup, TokenRecord};

use super::fleet::Fleet;
use crate::chaos::books::{Shared, lock};
use crate::chaos::clock::now;
use crate::chaos::ledger::{Confirmed, Ledger, Row, Standing, Target};
use crate::chaos::settings::{Mode, NEVER_CREATED, TENANTS, TOKEN_TYPE, TOKENS};
use crate::chaos::worker::{invalidate, store, with_clock};

/// The mean pause between two commits, in milliseconds.
const PAUSE: u64 = 25;

/// Every so many changes are invalidated as everything.
const ALL: u64 = 200;

/// The maximum number of unconfirmed changes. Sentinels take ten seconds for a failover.
const AT_ONCE: usize = 100;

/// The operator's side of a run.
#[derive(Debug)]
pub(super) struct Operator {
    books: Shared,
    fleet: Arc<Fleet>,
    mode: Mode,
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
            mode,
            engines: (mode != Mode::Bounds).then(|| ways.each_ref().map(|way| engine(way, mode))),
            ways,
            replicas,
            unconfirmed: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        })
    }

    /// Commits changes until it is stopped.
    pub(super) async fn work(self: Arc<Self>, seed: u64) {
        let mut dice = Dice::new(seed, 1);
        for change in 0_u64.. {
            tokio::time::sleep(dice.millis(0, 2 * PAUSE)).await;
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            if self.unconfirmed() >= AT_ONCE {
                continue;
            }
            let target = {
                let mut books = lock(&self.books);
                match change % ALL {
                    // Early, so that a short run has one too. A former release's entries are not reached.
                    50 if self.mode != Mode::Releases => commit_many(&mut books.ledger, &mut dice),
                    _ => commit(&mut books.ledger, &mut dice),
                }
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
            // The Dify layout has no digests.
            let by_digest = by_digest && self.mode != Mode::Dify;
            let (covered, started) = {
                let books = lock(&self.books);
                (books.ledger.covered(target), now())
            };
            let confirmed = if dice.percent(25) {
                let worker = dice.below(self.fleet.len());
                let about = (covered, started);
                self.fleet
                    .invalidate(worker, target, about, by_digest, wait)
                    .await
            } else {
                let way = dice.below(self.ways.len());
                let engine = match &self.engines {
                    Some(engines) => engines[way].clone(),
                    None => engine(&self.ways[way], self.mode),
                };
                let replicas = self.replicas;
                let confirmed = invalidate(&engine, target, by_digest, wait, replicas).await;
                // After the return.
                let returned = now();
                if confirmed {
                    let confirmed = Confirmed {
                        started,
                        returned,
                        waited: wait,
                        all: target == Target::All,
                        by_generation: target == Target::All && self.mode != Mode::Dify,
                        instance: None,
                    };
                    let mut books = lock(&self.books);
                    books.confirmed(&covered, confirmed);
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
fn engine(url: &str, mode: Mode) -> ApiTokenCache<u64> {
    let never =
        |_: Lookup| async { Err::<Option<TokenRecord<u64>>, BoxError>("nobody asks here".into()) };
    with_clock(ApiTokenCache::builder(never), mode.operators_rate())
        .store(store(url, mode == Mode::Dify))
        .token_types([TOKEN_TYPE])
        .max_staleness(mode.bound())
        .build()
        .expect("good settings")
}

/// Commits several changes.
fn commit_many(ledger: &mut Ledger, dice: &mut Dice) -> Target {
    for _ in 0..10 {
        commit(ledger, dice);
    }
    Target::All
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
