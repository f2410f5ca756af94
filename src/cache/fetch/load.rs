//! Calls the loader, and checks its answer before anything is cached.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::cache::engine::Engine;
use crate::cache::error::{Unavailable, UnavailableKind};
use crate::cache::ttl::Ttls;
use crate::clock::Tick;
use crate::loader::{DynLoader, Lookup};
use crate::metrics::Timer;
use crate::store::entry::{Entry, Generation, ShortGeneration, Value};
use crate::token::TokenRecord;
use crate::trace::{chain, in_span, limited};

/// A loader's answer that passed the checks of protocol.md section 4.
pub(crate) struct Checked<M>(Option<TokenRecord<M>>);

impl<M: Send + Sync + 'static> Checked<M> {
    fn of(row: Option<TokenRecord<M>>, lookup: &Lookup) -> Result<Self, UnavailableKind> {
        let other = |digest| digest != lookup.digest;
        if let Some(record) = &row
            && (record.id.is_empty() || record.digest.is_some_and(other))
        // guard: H27
        {
            return Err(UnavailableKind::LoaderMismatch);
        }
        Ok(Self(row)) // guard: T2
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the tenant that the answer depends on.
    pub(crate) fn tenant_id(&self) -> Option<&str> {
        self.0.as_ref()?.tenant_id.as_deref()
    }

    /// Returns the TTL, and the grace after it.
    pub(crate) fn ttl(&self, ttls: &Ttls, wall: DateTime<Utc>, dice: u32) -> (Duration, Duration) {
        match &self.0 {
            // guard: H28
            Some(record) if !record.is_denied() => {
                let ttl = ttls.of_record(record.expires_at, wall, dice);
                let grace = ttls.grace_of_record(record.expires_at, wall, ttl);
                (ttl, grace)
            }
            _ => (ttls.of_negative(dice), Duration::ZERO),
        }
    }

    /// Returns the value to store.
    pub(crate) fn into_value(
        self,
        all: Option<ShortGeneration>,
        generation: Option<Generation>,
        until: Tick,
        grace: Duration,
    ) -> Value<M> {
        match self.0 {
            Some(record) => {
                let entry = Entry::new(record, generation)
                    .under(all)
                    .until(until)
                    .with_grace(grace);
                Value::Found(Arc::new(entry))
            }
            None => {
                let entry = Entry::new((), generation).under(all).until(until);
                Value::Absent(Arc::new(entry))
            }
        }
    }
}

impl<M: Send + Sync + 'static> Engine<M> {
    /// Calls the loader once, until `deadline`.
    pub(crate) async fn load(
        &self,
        lookup: &Lookup,
        deadline: Tick,
    ) -> Result<Checked<M>, Unavailable> {
        self.counters.loads.add();
        let watch = Timer::start();
        let left = deadline.since(self.clock.now());
        let loader = Arc::clone(&self.loader);
        // A task of its own: a panic in it becomes an error, and does not end the call.
        let mut load = tokio::spawn(in_span(DynLoader::load(loader, lookup.clone())));
        let loaded = match tokio::time::timeout(left, &mut load).await {
            Err(_) => {
                load.abort();
                Err(Unavailable::new(UnavailableKind::LoaderTimedOut))
            }
            Ok(Err(_)) => Err(Unavailable::new(UnavailableKind::LoaderPanicked)),
            Ok(Ok(Err(error))) => Err(Unavailable::loader(error)),
            Ok(Ok(Ok(row))) => Checked::of(row, lookup).map_err(Unavailable::new),
        };
        self.metrics.loaded(watch, loaded.is_ok());
        if let Err(error) = &loaded {
            self.counters.load_failures.add();
            self.loader_failed
                .store(self.clock.now().0, Ordering::Relaxed);
            limited!(
                warn,
                "a token could not be loaded; answering unavailable",
                error = error.to_string()
            );
            limited!(debug, "the loader's error", error = chain(error));
        }
        loaded
    }
}
