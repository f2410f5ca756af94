//! Requests at a fixed rate, and their results.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tower_api_token::{Answer, ApiTokenCache, Origin, UnavailableKind};

use super::db::token;

/// The number of tokens, which are requested in turn.
pub(crate) const TOKENS: usize = 200;
/// Requests per second.
pub(crate) const RATE: u64 = 500;
/// How long all answers have to come from Redis before it counts as recovered, and the limit of that wait.
pub(crate) const QUIET: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(15);

/// The result of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Answered(Origin),
    Unavailable(UnavailableKind),
    /// A 401, a 403 or another token's identity, which must never happen.
    Wrong,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// When it was due, so that delays of a busy machine are counted too.
    pub(crate) due: Instant,
    pub(crate) done: Instant,
    pub(crate) end: End,
}

impl Request {
    pub(crate) fn took(&self) -> Duration {
        self.done - self.due
    }

    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.end, End::Answered(Origin::Shared))
    }
}

async fn ask(cache: ApiTokenCache, token: String, due: Instant) -> Request {
    let end = match cache.authenticate_typed(&token, "app").await {
        Ok(Answer::Valid(found)) if found.id() == token => End::Answered(found.origin()),
        Ok(_) => End::Wrong,
        Err(error) => End::Unavailable(error.kind()),
    };
    let done = Instant::now();
    Request { due, done, end }
}

/// Requests at a fixed rate, which do not wait for earlier ones.
pub(crate) struct Load {
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    driver: JoinHandle<()>,
    seen: Vec<Request>,
}

impl Load {
    pub(crate) fn start(cache: &ApiTokenCache, rate: u64) -> Self {
        Self::of(TOKENS, cache, rate)
    }

    pub(crate) fn of(tokens: usize, cache: &ApiTokenCache, rate: u64) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let cache = cache.clone();
        let driver = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_micros(1_000_000 / rate));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for n in 0.. {
                let due = ticks.tick().await;
                let (sender, cache) = (sender.clone(), cache.clone());
                tokio::spawn(async move {
                    let _ = sender.send(ask(cache, token(n % tokens), due).await);
                });
            }
        });
        Self {
            requests,
            driver,
            seen: Vec::new(),
        }
    }

    pub(crate) fn look(&mut self) -> &[Request] {
        while let Ok(request) = self.requests.try_recv() {
            self.seen.push(request);
        }
        &self.seen
    }

    /// Waits until all answers have come from Redis for a while.
    pub(crate) async fn until_shared(&mut self) {
        let start = Instant::now();
        loop {
            sleep(Duration::from_millis(50)).await;
            let since = Instant::now() - QUIET;
            let mut recent = self.look().iter().filter(|one| one.done > since);
            if start.elapsed() > QUIET && recent.all(Request::is_shared) {
                return;
            }
            if start.elapsed() > PATIENCE {
                println!("  not healed within {PATIENCE:?}");
                return;
            }
        }
    }

    /// Returns every request, after waiting for open ones: none may hang.
    pub(crate) async fn stop(mut self) -> Vec<Request> {
        self.driver.abort();
        let rest = async {
            while let Some(request) = self.requests.recv().await {
                self.seen.push(request);
            }
        };
        let hung = timeout(PATIENCE, rest).await.is_err();
        assert!(!hung, "a request hangs");
        self.seen
    }
}

pub(crate) fn burst(cache: &ApiTokenCache, count: usize) -> impl Future<Output = Vec<Request>> {
    let due = Instant::now();
    let tasks: JoinSet<Request> = (0..count)
        .map(|n| ask(cache.clone(), token(n), due))
        .collect();
    tasks.join_all()
}
