//! What operations, the loader and the outbox share. It does not know the caches, whose loader holds it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tower_api_token::{BearerToken, BoxError, TokenDigest, TokenFormat};

use crate::clock::Clock;
use crate::database::pool::Database;
use crate::database::tables::Tables;
use crate::error::Error;
use crate::random;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
