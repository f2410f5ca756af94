//! What operations, the loader and the outbox share. It does not know the caches, whose loader holds it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tower_api_token::{BearerToken, BoxError, TokenDigest, TokenFormat};

use crate::clock::Clock;
use crate::database::pool::Database;
use crate::database::tables::Tables;
use crate::error::Error;
use crate::random;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long the outbox waits for one answer of the database or of the service's code: more than the 2 s for which a
/// query waits for a connection.
const LONGEST_STEP: Duration = Duration::from_secs(5);

/// Awaits all of these at the same time, and returns their results in the same order.
pub(crate) async fn join_all<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(Some).collect();
    let mut results: Vec<Option<T>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in running.iter_mut().zip(&mut results) {
            if let Some(Poll::Ready(done)) = future.as_mut().map(|it| it.as_mut().poll(context)) {
                (*future, *result) = (None, Some(done));
            }
        }
        if running.iter().all(Option::is_none) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Finds the text of a key by its digest.
pub(crate) type Texts = Arc<
    dyn Fn(TokenDigest) -> BoxFuture<'static, Result<Option<BearerToken>, BoxError>> + Send + Sync,
>;

/// Stores the text of a key.
pub(crate) type StoreText =
    Arc<dyn Fn(BearerToken) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

pub(crate) struct Core {
    pub(crate) database: Database,
    pub(crate) tables: Tables,
    pub(crate) clock: Clock,
    pub(crate) format: TokenFormat,
    /// By token type.
    pub(crate) formats: HashMap<String, TokenFormat>,
    pub(crate) id_prefix: String,
    pub(crate) suspended: Cow<'static, str>,
    pub(crate) texts: Option<Texts>,
    pub(crate) store_text: Option<StoreText>,
}

impl Core {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Awaits a step of the outbox, for as long as one may take. guard: K18
    ///
    /// # Errors
    /// Returns an error if it does not end in time.
    pub(crate) async fn step<T, E>(&self, step: impl Future<Output = Result<T, E>>) -> Result<T, E>
    where
        E: From<std::io::Error>,
    {
        tokio::select! {
            result = step => result,
            () = self.clock.sleep(LONGEST_STEP) => {
                let message = format!("no answer in {} s", LONGEST_STEP.as_secs());
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message).into())
            }
        }
    }

    pub(crate) fn sql(&self, statement: &str) -> String {
        self.tables.sql(statement)
    }

    pub(crate) fn key_id(&self, now: DateTime<Utc>) -> Result<String, Error> {
        random::id(&self.id_prefix, now)
    }

    /// Generates a text for a key of this type.
    pub(crate) fn generate(&self, token_type: Option<&str>) -> Result<BearerToken, Error> {
        let token = self.format_of(token_type).generate();
        token.map_err(|error| Error::Randomness(error.into()))
    }

    pub(crate) fn format_of(&self, token_type: Option<&str>) -> &TokenFormat {
        let format = token_type.and_then(|name| self.formats.get(name));
        format.unwrap_or(&self.format)
    }

    /// Stores the text of a key that is about to be committed, if the service keeps texts.
    pub(crate) async fn store_text(&self, token: &BearerToken) -> Result<(), Error> {
        match &self.store_text {
            Some(store) => store(token.clone()).await.map_err(Error::Text),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}
