//! The settings of [`ApiKeys`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tower_api_token::{BearerToken, BoxError, TokenDigest, TokenFormat};

use crate::clock::Clock;
use crate::core::{Core, StoreText, Texts};
use crate::database::pool::Database;
use crate::database::tables::{DEFAULT_PREFIX, Tables};
use crate::error::Error;
use crate::keys::ApiKeys;
use crate::outbox::bound::Wait;

/// Builds [`ApiKeys`]; see [`ApiKeys::builder`].
///
/// Every setter has a default. Setters accept any value; [`build`](Self::build) checks them all.
#[must_use]
pub struct ApiKeysBuilder {
    database: Database,
    schema: Option<String>,
    table_prefix: String,
    migrate: bool,
    format: TokenFormat,
    formats: HashMap<String, TokenFormat>,
    id_prefix: String,
    suspended: Cow<'static, str>,
    texts: Option<Texts>,
    store_text: Option<StoreText>,
    outbox: Option<Duration>,
    replicas: Option<usize>,
    clock: Clock,
}

impl ApiKeys {
    /// Connects to the database that `url` names, and creates or changes its tables, with the default settings.
    ///
    /// # Errors
    /// Returns an error if `url` is invalid or the database fails; see [`Database::connect`].
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(Database::connect(url).await?).build().await
    }

    /// Starts building keys in this database: a pool of sqlx's, or a [`Database`].
    ///
    /// A pool of yours for PostgreSQL behind PgBouncer needs `extra_float_digits(None)`. One for SQLite needs a
    /// `busy_timeout`, if several processes write.
    pub fn builder(database: impl Into<Database>) -> ApiKeysBuilder {
        ApiKeysBuilder::new(database.into())
    }
}

impl ApiKeysBuilder {
    fn new(database: Database) -> Self {
        Self {
            database,
            schema: None,
            table_prefix: DEFAULT_PREFIX.to_owned(),
            migrate: true,
            format: TokenFormat::from_static("api_"),
            formats: HashMap::new(),
            id_prefix: "key_".to_owned(),
            suspended: Cow::Borrowed("tenant suspended"),
            texts: None,
            store_text: None,
            outbox: Some(Duration::from_secs(1)),
            replicas: None,
            clock: Clock::default(),
        }
    }

    /// Sets the format of new keys.
    ///
    /// Defaults to the prefix `api_`. Choose one of your own, so that a scanner which finds a key in a repository knows
    /// whose it is, and give the layer the [same format](tower_api_token::ApiTokenLayerBuilder::token_format), so that it
    /// rejects others without a lookup.
    pub fn format(mut self, format: TokenFormat) -> Self {
        self.format = format;
        self
    }

    /// Sets the format of new keys of this token type. Defaults to [`format`](Self::format).
    pub fn format_of(mut self, token_type: impl Into<String>, format: TokenFormat) -> Self {
        self.formats.insert(token_type.into(), format);
        self
    }

    /// Sets the PostgreSQL schema of the tables, which is created if it is missing.
    ///
    /// Defaults to the first of the connection's `search_path`, usually `public`.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Sets what the names of all tables and indexes begin with. Defaults to `api_token_`.
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.table_prefix = prefix.into();
        self
    }

    /// Sets whether [`build`](Self::build) creates and changes the tables.
    ///
    /// Defaults to `true`. Set it to `false` if the service's own user may not, or if your migrator runs the files of
    /// this crate's directory `migrations`.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets what the ids of new keys begin with: 1 to 40 letters, digits, `-` and `_`. Defaults to `key_`.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.id_prefix = prefix.into();
        self
    }

    /// Sets the text of the 403 to a key of a suspended tenant. Defaults to `tenant suspended`.
    pub fn suspension_message(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.suspended = text.into();
        self
    }

    /// Sets how often the background task looks for invalidations that are not confirmed. `None` turns it off, for a
    /// process that ends soon, such as a command; [`ApiKeys::work_outbox`] does the work once.
    ///
    /// Defaults to 1 second: what another instance left undone when it was killed is then in force about as soon as any
    /// revocation that does not wait for [all instances](crate::Change::wait_for_all_instances).
    pub fn outbox_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.outbox = interval.into();
        self
    }

    /// Sets how many Redis replicas have to acknowledge what the outbox repeats; see
    /// [`Invalidation::wait_for_replicas`](tower_api_token::Invalidation::wait_for_replicas).
    ///
    /// Defaults to none, whatever a change itself [waits for](crate::Change::wait_for_replicas): its row does not have
    /// the number. A service that waits for replicas in its changes sets the same here.
    pub fn outbox_replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Sets how the text of a key is found by its digest, for the layout that is shared with Dify alone: its keys in Redis
    /// hold the text, which these tables do not have.
    ///
    /// Defaults to none: keys are invalidated by their digest, as every other layout can.
    pub fn texts<F, Fut>(mut self, find: F) -> Self
    where
        F: Fn(TokenDigest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<BearerToken>, BoxError>> + Send + 'static,
    {
        self.texts = Some(Arc::new(move |digest| Box::pin(find(digest))));
        self
    }

    /// Sets how the text of a new key is stored, where [`texts`](Self::texts) finds it.
    ///
    /// It is called before the commit of a key that is issued, is the successor of a rotation, or is imported through the
    /// administration's router. If it fails, nothing is changed. A text whose commit fails remains, so it may be stored
    /// again.
    pub fn store_texts<F, Fut>(mut self, store: F) -> Self
    where
        F: Fn(BearerToken) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.store_text = Some(Arc::new(move |token| Box::pin(store(token))));
        self
    }

    /// Sets the clock, for tests.
    #[cfg(feature = "test-util")]
    pub fn clock(mut self, clock: tower_api_token::test_util::ManualClock) -> Self {
        self.clock = Clock::Manual(clock);
        self
    }

    /// Builds the keys, and migrates the tables.
    ///
    /// # Errors
    /// Returns an error if a setting is invalid or if the database fails.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub async fn build(self) -> Result<ApiKeys, Error> {
        let tables = Tables::new(self.schema, self.table_prefix)?;
        if !is_id_prefix(&self.id_prefix) {
            let rule = "not 1 to 40 of A-Z a-z 0-9 - _";
            return Err(Error::invalid("id_prefix", rule));
        }
        if self.outbox.is_some_and(|interval| interval.is_zero()) {
            return Err(Error::invalid("outbox_interval", "zero"));
        }
        match &self.database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(pool) => {
                if tables.schema().is_some() {
                    return Err(Error::invalid("schema", "SQLite has none"));
                }
                if self.migrate {
                    crate::database::sqlite::migrate(pool, &tables).await?;
                }
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(pool) => {
                if self.migrate {
                    crate::database::postgres::migrate(pool, &tables).await?;
                }
            }
        }
        let core = Core {
            database: self.database,
            tables,
            clock: self.clock,
            format: self.format,
            formats: self.formats,
            id_prefix: self.id_prefix,
            suspended: self.suspended,
            texts: self.texts,
            store_text: self.store_text,
        };
        let wait = Wait {
            replicas: self.replicas,
            ..Wait::default()
        };
        Ok(ApiKeys::new(Arc::new(core), self.outbox, wait))
    }
}

/// Returns whether ids that begin with this need no escape in paths and logs.
fn is_id_prefix(prefix: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=40).contains(&prefix.len()) && prefix.bytes().all(is_plain)
}

impl fmt::Debug for ApiKeysBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeysBuilder")
            .field("schema", &self.schema)
            .field("table_prefix", &self.table_prefix)
            .field("migrate", &self.migrate)
            .finish_non_exhaustive()
    }
}
