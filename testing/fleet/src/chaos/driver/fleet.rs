//! The workers, each behind a proxy of its own.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use test_support::FaultProxy;
use tokio::sync::oneshot;

use super::plan::Plan;
use super::redis::{Redis, Wire};
use crate::chaos::books::{Shared, lock};
use crate::chaos::clock::Stamp;
use crate::chaos::instance::Instance;
use crate::chaos::ledger::{Confirmed, Covered, Target};
use crate::chaos::process::Process;
use crate::chaos::settings::{Mode, longer_bound};
use crate::chaos::wire::{Order, Report};
use crate::chaos::worker::Options;

/// All workers of a run.
#[derive(Debug)]
pub(super) struct Fleet {
    plan: Plan,
    database: SocketAddr,
    replicas: usize,
    books: Shared,
    places: Vec<Place>,
    instances: AtomicU64,
    orders: AtomicU64,
}

/// A place for a worker. When one dies, the next takes its place.
#[derive(Debug)]
struct Place {
    wire: Wire,
    bound: Duration,
    worker: Mutex<Option<Arc<Worker>>>,
}

#[derive(Debug)]
struct Worker {
    process: Process,
    pending: Pending,
}

/// The invalidations that a worker was ordered to call; `None` when it has ended.
type Pending = Arc<Mutex<Option<HashMap<u64, Waiting>>>>;

/// An invalidation that was ordered.
#[derive(Debug)]
struct Waiting {
    covered: Covered,
    started: Stamp,
    waited: bool,
    all: bool,
    by_generation: bool,
    done: oneshot::Sender<bool>,
}

impl Fleet {
    /// The last worker has no local level, so the stricter rule applies to all of its answers.
    pub(super) fn start(
        plan: &Plan,
        redis: &Redis,
        database: SocketAddr,
        books: &Shared,
    ) -> io::Result<Self> {
        let bound = |index| {
            if index > 0 && index + 1 == plan.workers {
                Duration::ZERO
            } else if plan.mode == Mode::Bounds && index % 2 == 0 {
                longer_bound(index)
            } else {
                plan.mode.bound()
            }
        };
        let place = |index| Place {
            wire: redis.wire(),
            bound: bound(index),
            worker: Mutex::new(None),
        };
        let fleet = Self {
            plan: plan.clone(),
            database,
            replicas: redis.replicas(),
            books: Arc::clone(books),
            places: (0..plan.workers).map(place).collect(),
            instances: AtomicU64::new(0),
            orders: AtomicU64::new(0),
        };
        for index in 0..plan.workers {
            fleet.employ(index)?;
        }
        Ok(fleet)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn proxy(&self, index: usize) -> Option<&FaultProxy> {
        self.places[index].wire.proxy.as_ref()
    }

    /// Returns the staleness bound of every worker in this place.
    pub(super) fn bound(&self, index: usize) -> Duration {
        self.places[index].bound
    }

    /// Starts a worker in this place.
    pub(super) fn employ(&self, index: usize) -> io::Result<()> {
        let place = &self.places[index];
        let rate = self.plan.mode.rate(index);
        let instance = Instance {
            id: self.instances.fetch_add(1, Ordering::Relaxed),
            // By the oracle's clock.
            bound: rate.real(place.bound),
        };
        let options = Options {
            redis: place.wire.url.clone(),
            database: self.database,
            seed: self.plan.seed ^ instance.id,
            bound: place.bound,
            replicas: self.replicas,
            patient: false,
            tracking: self.plan.tracking.of(instance.id),
            dify: self.plan.mode == Mode::Dify,
            rate,
        };
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let clerk = Clerk {
            instance,
            books: Arc::clone(&self.books),
            pending: Arc::clone(&pending),
        };
        let program = self.plan.program_of(index);
        let process = Process::start(program, &options, move |report| clerk.take(report))?;
        process.order(Order::Load)?;
        let worker = Worker { process, pending };
        *lock(&place.worker) = Some(Arc::new(worker));
        Ok(())
    }

    pub(super) fn stop(&self, index: usize) {
        if let Some(worker) = self.worker(index) {
            worker.process.stop();
        }
    }

    pub(super) fn go_on(&self, index: usize) {
        if let Some(worker) = self.worker(index) {
            worker.process.go_on();
        }
    }

    /// Kills the worker.
    pub(super) fn kill(&self, index: usize) {
        let dying = lock(&self.places[index].worker).take();
        if let Some(worker) = dying {
            worker.process.kill();
        }
    }

    /// Lets every worker finish.
    pub(super) fn finish(&self) {
        for place in &self.places {
            let last = lock(&place.worker).take();
            if let Some(worker) = last {
                worker.process.finish();
            }
        }
    }

    /// Orders an invalidation by a worker's own engine. Returns whether it was confirmed, which is false if the
    /// worker dies before it reports that.
    pub(super) async fn invalidate(
        &self,
        index: usize,
        target: Target,
        (covered, started): (Covered, Stamp),
        by_digest: bool,
        wait: bool,
    ) -> bool {
        let Some(worker) = self.worker(index) else {
            return false;
        };
        let id = self.orders.fetch_add(1, Ordering::Relaxed);
        let (done, answer) = oneshot::channel();
        let waiting = Waiting {
            covered,
            started,
            waited: wait,
            all: target == Target::All,
            by_generation: target == Target::All && self.plan.mode != Mode::Dify,
            done,
        };
        match lock(&worker.pending).as_mut() {
            Some(pending) => pending.insert(id, waiting),
            None => return false,
        };
        let order = Order::Invalidate {
            id,
            target,
            by_digest,
            wait,
        };
        if worker.process.order(order).is_err() {
            return false;
        }
        drop(worker);
        answer.await.unwrap_or(false)
    }

    fn worker(&self, index: usize) -> Option<Arc<Worker>> {
        lock(&self.places[index].worker).clone()
    }
}

/// Processes a worker's reports.
struct Clerk {
    instance: Instance,
    books: Shared,
    pending: Pending,
}

impl Clerk {
    fn take(&self, report: Report) {
        let mut books = lock(&self.books);
        match report {
            Report::Answered(answered) => books.answered(self.instance, &answered),
            Report::Counted(counted) => {
                books.counted.insert(self.instance.id, counted);
            }
            Report::Confirmed { id, at } => {
                // Recorded before the next report is read, because later answers are judged by it.
                if let Some(waiting) = self.waiting(id) {
                    let confirmed = Confirmed {
                        started: waiting.started,
                        returned: at,
                        waited: waiting.waited,
                        all: waiting.all,
                        by_generation: waiting.by_generation,
                        instance: Some(self.instance.id),
                    };
                    books.confirmed(&waiting.covered, confirmed);
                    let _ = waiting.done.send(true);
                }
            }
            Report::Failed { id } => {
                if let Some(waiting) = self.waiting(id) {
                    let _ = waiting.done.send(false);
                }
            }
            Report::Ready | Report::Herd { .. } => {}
        }
    }

    fn waiting(&self, id: u64) -> Option<Waiting> {
        lock(&self.pending).as_mut()?.remove(&id)
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        // Tells callers that still wait that no more reports follow.
        lock(&self.pending).take();
    }
}
