//! The checker's types. Loom runs a model once for each interleaving of its threads, and for each value that a load may
//! return by the rules of memory orders.
//!
//! Loom has no counterpart of some types. Here each of their operations is one step of an atomic variable of loom, followed
//! by the operation itself.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::sync::Condvar;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, atomic};
use tokio::time::Instant;

/// Runs `model` once for each interleaving.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_within(None, model);
}

/// Runs `model` once for each interleaving with at most `preemptions` switches away from a thread that could go on.
/// `INTERLEAVINGS_SECONDS` is a time instead, within which all interleavings are explored, or as many as can be.
pub(crate) fn explore_up_to(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    explore_within(Some(preemptions), model);
}

fn explore_within(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let seconds = std::env::var("INTERLEAVINGS_SECONDS").ok();
    let longest = seconds.map(|it| Duration::from_secs(it.parse().expect("a number of seconds")));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.preemption_bound = preemptions.filter(|_| longest.is_none());
    builder.max_duration = longest;
    // Loom looks at the time once in so many.
    builder.checkpoint_interval = 100;
    let runs = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (counted, began) = (Arc::clone(&runs), std::time::Instant::now());
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let is_over = longest.is_some_and(|longest| began.elapsed() >= longest);
    let extent = match (preemptions, longest) {
        (_, Some(_)) if is_over => "as many as there was time for",
        (Some(_), None) => "with few preemptions",
        _ => "all",
    };
    println!("{} interleavings, {extent}", runs.load(Ordering::Relaxed));
}

/// One lock and one counter for all keys.
pub(crate) const fn number_of(_: usize) -> usize {
    1
}

/// A place in the order of all operations on one object.
#[derive(Debug, Default)]
struct Step(AtomicUsize);

impl Step {
    /// A read and write, which never returns an old value.
    fn take(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// `arc_swap`'s, with the orders that it promises: a load acquires what the store released.
#[derive(Debug)]
pub(crate) struct ArcSwapOption<T> {
    all: std::sync::Mutex<Vec<Option<Arc<T>>>>,
    present: AtomicUsize,
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self {
            all: std::sync::Mutex::new(vec![None]),
            present: AtomicUsize::new(0),
        }
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        let present = self.present.load(Ordering::Acquire);
        self.all.lock().unwrap()[present].clone()
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        self.load_full()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        let next = {
            let mut all = self.all.lock().unwrap();
            all.push(value);
            all.len() - 1
        };
        self.present.swap(next, Ordering::AcqRel);
    }
}

/// The standard library's.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            is_set: AtomicBool::new(false),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::Acquire);
        self.value.get().filter(|_| is_set)
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let set = self.value.set(value);
        self.is_set.store(true, Ordering::Release);
        set
    }
}

/// Tokio's. Its own atomic variables are one step.
#[derive(Debug)]
pub(crate) struct Notify {
    inner: tokio::sync::Notify,
    step: Step,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self {
            inner: tokio::sync::Notify::new(),
            step: Step::default(),
        }
    }

    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.step.take();
        self.inner.notified()
    }

    pub(crate) fn notify_waiters(&self) {
        self.step.take();
        self.inner.notify_waiters();
    }
}

/// Tokio's, where time stands still: a future that is not due is waited for, and one that is due is not.
pub(crate) async fn timeout_at<F: Future>(due: Instant, future: F) -> Result<F::Output, ()> {
    if Instant::now() >= due {
        return Err(());
    }
    Ok(future.await)
}

/// Runs the task in a thread of its own.
pub(crate) fn spawn_stealable(task: impl Future<Output = ()> + Send + 'static) {
    loom::thread::spawn(|| block_on(task));
}

/// Polls a future until it is ready. Unlike that of loom, its waker takes no step of loom when it is cloned or dropped,
/// which tokio does under a lock.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        parker.park();
    }
}

#[derive(Default)]
struct Parker {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Parker {
    fn park(&self) {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !*is_woken {
            is_woken = self.woken.wait(is_woken).unwrap();
        }
        *is_woken = false;
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock().unwrap() = true;
        self.woken.notify_one();
    }
}
