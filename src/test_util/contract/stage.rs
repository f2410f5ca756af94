//! A cache whose invalidations can be watched, refused and interrupted.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

use crate::cache::engine::Engine;
use crate::cache::error::Unavailable;
use crate::cache::{Answer, ApiTokenCache, ApiTokenCacheBuilder, SyncPoint, SyncPoints};
use crate::clock::ManualClock;
use crate::error::BoxError;
use crate::metrics::Origin;
use crate::token::BearerToken;
use crate::util::lock;

/// Where the answer came from, if the token is accepted.
pub(super) type Accepted = Result<Option<Origin>, Unavailable>;

pub(super) struct Stage<M> {
    pub(super) cache: ApiTokenCache<M>,
    script: Arc<Script<M>>,
}

/// What happens at an invalidation.
struct Script<M> {
    engine: Mutex<Weak<Engine<M>>>,
    /// Whether it never begins.
    crashes: AtomicBool,
    crashed: Notify,
    /// Whether it is refused.
    fails: Arc<AtomicBool>,
    confirmed: AtomicUsize,
    /// The token that is asked for as soon as it is confirmed, and the answer.
    asks: Mutex<Option<BearerToken>>,
    answer: Mutex<Option<Accepted>>,
}

impl<M: Send + Sync + 'static> Script<M> {
    async fn reach(self: Arc<Self>, point: SyncPoint) {
        match point {
            SyncPoint::BeforeInvalidation if self.crashes.load(Ordering::SeqCst) => {
                self.crashed.notify_one();
                pending().await
            }
            SyncPoint::Invalidated => {
                self.confirmed.fetch_add(1, Ordering::SeqCst);
                let asks = lock(&self.asks).clone();
                let engine = lock(&self.engine).upgrade();
                if let (Some(token), Some(engine)) = (asks, engine) {
                    let answer = ask(&ApiTokenCache { engine }, &token).await;
                    *lock(&self.answer) = Some(answer);
                }
            }
            _ => {}
        }
    }
}

/// Asks the cache for the token, whatever its type.
async fn ask<M: Send + Sync + 'static>(cache: &ApiTokenCache<M>, token: &BearerToken) -> Accepted {
    for token_type in cache.engine.types_in_keys() {
        let answer = match token_type {
            Some(token_type) => {
                cache
                    .authenticate_typed(token.expose(), &token_type)
                    .await?
            }
            None => cache.authenticate(token.expose()).await?,
        };
        if let Answer::Valid(token) = answer {
            return Ok(Some(token.origin()));
        }
    }
    Ok(None)
}

impl<M: Send + Sync + 'static> Stage<M> {
    pub(super) fn new(builder: ApiTokenCacheBuilder<M>) -> Self {
        let fails = Arc::new(AtomicBool::new(false));
        let script = Arc::new(Script {
            engine: Mutex::default(),
            crashes: AtomicBool::new(false),
            crashed: Notify::new(),
            fails: Arc::clone(&fails),
            confirmed: AtomicUsize::new(0),
            asks: Mutex::default(),
            answer: Mutex::default(),
        });
        let hook = Arc::clone(&script);
        let points = SyncPoints::new(move |point| Arc::clone(&hook).reach(point));
        let builder = builder.clock(ManualClock::new());
        let cache = builder.sync_points(points.with_faults(fails)).build();
        let cache = cache.expect("the builder's settings are valid");
        *lock(&script.engine) = Arc::downgrade(&cache.engine);
        Self { cache, script }
    }

    pub(super) async fn accepts(&self, token: &BearerToken) -> Accepted {
        ask(&self.cache, token).await
    }

    /// Calls the loader, past the cache. Returns whether the token is accepted by what it says.
    pub(super) async fn loader_accepts(&self, token: &BearerToken) -> Result<bool, BoxError> {
        let engine = &self.cache.engine;
        for token_type in engine.types_in_keys() {
            let lookup = engine.lookup(token.clone(), token_type.as_deref());
            let loaded = Arc::clone(&engine.loader).load(lookup).await?;
            if loaded.is_some_and(|record| !record.is_denied()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses invalidations from here on, or no longer.
    pub(super) fn refuse(&self, fails: bool) {
        self.script.fails.store(fails, Ordering::SeqCst);
    }

    /// Lets no invalidation begin until `end_crash`, as if the process had ended before.
    pub(super) fn begin_crash(&self) {
        self.script.crashes.store(true, Ordering::SeqCst);
    }

    pub(super) async fn crashed(&self) {
        self.script.crashed.notified().await;
    }

    pub(super) fn end_crash(&self) {
        self.script.crashes.store(false, Ordering::SeqCst);
    }

    /// Returns how many invalidations were confirmed.
    pub(super) fn confirmed(&self) -> usize {
        self.script.confirmed.load(Ordering::SeqCst)
    }

    /// Asks for `token` as soon as an invalidation is confirmed, as another request could.
    pub(super) fn ask_at_invalidation(&self, token: Option<&BearerToken>) {
        *lock(&self.script.asks) = token.cloned();
        *lock(&self.script.answer) = None;
    }

    pub(super) fn answer_at_invalidation(&self) -> Option<Accepted> {
        lock(&self.script.answer).take()
    }
}
