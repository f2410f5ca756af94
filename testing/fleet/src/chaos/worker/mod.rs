//! A worker: a process with one engine, which executes the driver's orders until its input ends.

mod askers;
mod loader;
mod options;
mod reports;
mod say;

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_support::Dice;
use tokio::sync::{Barrier, mpsc};
use tokio::task::JoinSet;
use tower_api_token::{ApiTokenCache, TokenDigest};

pub use self::options::Options;
pub(crate) use self::options::{store, with_clock};
use self::reports::Reports;
use crate::chaos::clock::now;
use crate::chaos::ledger::Target;
use crate::chaos::settings::{TOKEN_TYPE, tenant_name, token_text};
use crate::chaos::wire::{Counted, Order, Report, Said};

/// The number of tasks that send requests in a worker.
const ASKERS: u64 = 24;

/// The number of such tasks in a worker without a local level, so that requests share calls.
const ASKERS_WITHOUT_LOCAL: u64 = 72;

/// Runs a worker until standard input ends.
pub fn work(options: &Options) -> ExitCode {
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let order = line
                .parse::<Order>()
                .expect("the driver's orders are valid");
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let (reports, writer) = Reports::start();
    runtime.block_on(obey(options, orders, reports));
    // Calls that still run hold no clones of the reports, so the writer ends.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let _ = writer.join();
    ExitCode::SUCCESS
}

async fn obey(options: &Options, mut orders: mpsc::UnboundedReceiver<Order>, reports: Reports) {
    let cache = options.cache();
    let ended = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    // In a run with faults the store may be unavailable. Tests that count wait for `Ready`.
    let _ = cache.check_store().await;
    reports.say(&Report::Ready);
    tasks.spawn(count_on(cache.clone(), reports.clone(), Arc::clone(&ended)));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Load => {
                let askers = if options.bound.is_zero() {
                    ASKERS_WITHOUT_LOCAL
                } else {
                    ASKERS
                };
                for asker in 0..askers {
                    tasks.spawn(askers::ask_on(
                        cache.clone(),
                        Dice::new(options.seed, asker),
                        reports.clone(),
                        Arc::clone(&ended),
                    ));
                }
            }
            Order::Herd { requests, token } => {
                let herd = herd(&cache, requests, token).await;
                reports.say(&herd);
            }
            Order::Invalidate {
                id,
                target,
                by_digest,
                wait,
            } => {
                let (cache, reports) = (cache.clone(), reports.clone());
                let replicas = options.replicas;
                tasks.spawn(async move {
                    let confirmed = invalidate(&cache, target, by_digest, wait, replicas).await;
                    reports.say(&if confirmed {
                        Report::Confirmed { id, at: now() }
                    } else {
                        Report::Failed { id }
                    });
                });
            }
        }
    }
    ended.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    reports.say(&Report::Counted(counted(&cache)));
}

/// Reports the engine's counters every second, so that a killed worker has reported most of them.
async fn count_on(cache: ApiTokenCache<u64>, reports: Reports, ended: Arc<AtomicBool>) {
    while !ended.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        reports.say(&Report::Counted(counted(&cache)));
    }
}

fn counted(cache: &ApiTokenCache<u64>) -> Counted {
    let stats = cache.stats();
    Counted {
        loads: stats.loads,
        joined: stats.joined,
        fills_refused: stats.fills_refused,
        corrupt: stats.corrupt,
        store_errors: stats.store_errors,
        refreshes: stats.refreshes,
    }
}

/// Sends concurrent requests: each task waits until the last one is ready.
async fn herd(cache: &ApiTokenCache<u64>, requests: usize, token: usize) -> Report {
    let ready = Arc::new(Barrier::new(requests));
    let mut tasks = JoinSet::new();
    for _ in 0..requests {
        let (cache, ready) = (cache.clone(), Arc::clone(&ready));
        tasks.spawn(async move {
            let text = token_text(token);
            ready.wait().await;
            say::said(&text, cache.authenticate_typed(&text, TOKEN_TYPE).await)
        });
    }
    let (mut found, mut absent, mut other) = (0, 0, 0);
    for said in tasks.join_all().await {
        match said {
            Said::Found(..) => found += 1,
            Said::Absent => absent += 1,
            _ => other += 1,
        }
    }
    Report::Herd {
        found,
        absent,
        other,
    }
}

/// Invalidates, and returns whether it was confirmed.
pub(crate) async fn invalidate(
    cache: &ApiTokenCache<u64>,
    target: Target,
    by_digest: bool,
    wait: bool,
    replicas: usize,
) -> bool {
    let mut invalidation = match target {
        Target::Token(index) if by_digest => {
            cache.invalidate_digest(TokenDigest::of(&token_text(index)))
        }
        Target::Token(index) => cache.invalidate(&token_text(index)),
        Target::Tenant(index) => cache.invalidate_tenant(&tenant_name(index)),
        Target::All => cache.invalidate_all(),
    };
    if replicas > 0 {
        invalidation = invalidation.wait_for_replicas(replicas);
    }
    if wait {
        invalidation = invalidation.wait_for_all_instances();
    }
    invalidation.await.is_ok()
}
