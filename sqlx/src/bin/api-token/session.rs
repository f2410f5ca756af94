//! The database and the cache of a command.

use std::time::Duration;

use tower_api_token::store::KeyLayout;
use tower_api_token::{ApiTokenCache, RedisStore};
use tower_api_token_sqlx::{ApiKeys, ApiKeysBuilder, Database};

use crate::exit::Failure;
use crate::settings::{Layout, Settings};

/// An open database, with a cache if the command uses Redis.
pub(crate) struct Session {
    pub(crate) keys: ApiKeys,
    pub(crate) cache: Option<ApiTokenCache>,
    pub(crate) max_staleness: Duration,
}

impl Session {
    /// Opens the database without a cache.
    pub(crate) async fn without_redis(settings: &Settings) -> Result<Self, Failure> {
        let builder = builder(settings, open(settings).await?);
        let keys = builder.migrate(false).build().await?;
        Ok(Self {
            keys,
            cache: None,
            max_staleness: settings.max_staleness,
        })
    }

    /// Opens the database, with a cache if there is a Redis that can be asked about keys by their digests.
    pub(crate) async fn for_reading(settings: &Settings) -> Result<Self, Failure> {
        let mut session = Self::without_redis(settings).await?;
        if matches!(settings.layout, Layout::Digest { .. }) {
            session.cache = cache(settings, &session.keys)?;
        }
        Ok(session)
    }

    /// Opens the database for a change that has to be confirmed.
    pub(crate) async fn for_changes(settings: &Settings, no_redis: bool) -> Result<Self, Failure> {
        if no_redis {
            return Self::without_redis(settings).await;
        }
        let hint =
            "or give --no-redis, which leaves the confirmation to the instances of the service";
        if settings.redis_url.is_none() {
            let rule = "not set, so this command cannot invalidate what caches hold; set it as for the service,";
            return Err(Failure::usage(format!("REDIS_URL: {rule} {hint}")));
        }
        if matches!(settings.layout, Layout::Dify) {
            let rule = "dify: such keys hold texts of tokens, which the database does not have; use another layout,";
            return Err(Failure::usage(format!("KEY_LAYOUT: {rule} {hint}")));
        }
        Self::for_reading(settings).await
    }
}

/// Connects to a database that exists: a command other than `init` must not create an empty one where a name is misspelled.
async fn open(settings: &Settings) -> Result<Database, Failure> {
    #[cfg(feature = "sqlite")]
    if let Ok(options) = settings
        .database_url
        .parse::<sqlx::sqlite::SqliteConnectOptions>()
        && settings.database_url.starts_with("sqlite:")
        && !options.get_filename().exists()
    {
        let rule = "there is no such file; `api-token init` creates it";
        return Err(Failure::Failed(format!("DATABASE_URL: {rule}")));
    }
    Ok(Database::connect(&settings.database_url).await?)
}

/// Starts building keys with these settings.
pub(crate) fn builder(settings: &Settings, database: Database) -> ApiKeysBuilder {
    let mut builder = ApiKeys::builder(database)
        .format(settings.format.clone())
        // This process ends soon. It works the outbox itself while it waits.
        .outbox_interval(None);
    if let Some(schema) = &settings.schema {
        builder = builder.schema(schema);
    }
    if let Some(prefix) = &settings.table_prefix {
        builder = builder.table_prefix(prefix);
    }
    if let Some(prefix) = &settings.id_prefix {
        builder = builder.id_prefix(prefix);
    }
    builder
}

/// Builds a cache that asks Redis at each time and keeps nothing in memory.
fn cache(settings: &Settings, keys: &ApiKeys) -> Result<Option<ApiTokenCache>, Failure> {
    let Some(store) = store(settings)? else {
        return Ok(None);
    };
    let mut builder = keys
        .cache()
        .store(store)
        .max_staleness(settings.max_staleness);
    builder = builder.local_capacity(0).local_negative_capacity(0);
    if let Some(namespace) = &settings.namespace {
        builder = builder.namespace(namespace);
    }
    builder.build().map(Some).map_err(Failure::usage)
}

fn store(settings: &Settings) -> Result<Option<RedisStore>, Failure> {
    let Some(url) = &settings.redis_url else {
        return Ok(None);
    };
    let is_tls = url.starts_with("rediss:");
    if is_tls && !cfg!(feature = "cli-tls") {
        let rule = "rediss:// needs the crate feature cli-tls";
        return Err(Failure::usage(format!("REDIS_URL: {rule}")));
    }
    let store =
        RedisStore::new(url).map_err(|error| Failure::usage(format!("REDIS_URL: {error}")))?;
    let store = match &settings.layout {
        Layout::Digest { pepper, previous } => {
            let layout = KeyLayout::peppered(pepper.as_deref().unwrap_or_default());
            store.key_layout(layout.previous_peppers(previous))
        }
        Layout::Dify => store,
    };
    let certificates = &settings.certificates;
    #[cfg(feature = "cli-tls")]
    if is_tls {
        return crate::tls::with(store, certificates).map(Some);
    }
    let given = [
        &certificates.ca,
        &certificates.client,
        &certificates.client_key,
    ];
    if given.iter().any(|path| path.is_some()) {
        return Err(Failure::usage(
            "REDIS_CA_FILE and its like: need REDIS_URL=rediss://…",
        ));
    }
    Ok(Some(store))
}
