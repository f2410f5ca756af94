//! Builds the server from its parts, and prints how to use it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, TokenLoader as _};
use tower_api_token_sqlx::{ApiKeys, Database, Error};

use crate::canary::Canary;
use crate::config::{self, Config, Redis, StartError, TYPES};
use crate::live::Live;
use crate::metrics;
use crate::observer::Observer;
use crate::routes::{self, Shared};
use crate::seed::{self, Opened, Seeded};
use crate::serve::serve;
use crate::tables::{Tables, TextCount};

/// How long writing the last uses and closing the database may take, after requests were drained.
/// Closing waits for queries, which a database that hangs never answers.
///
/// Together with the default of 20 s for draining it is less than 30 s, after which orchestrators
/// usually kill a process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that is ready to run: its address is bound and its database migrated.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    state: Arc<Shared>,
    keys: ApiKeys,
    drain: Duration,
    client_timeout: Duration,
    metrics: PrometheusHandle,
    banner: String,
}

impl Server {
    /// Binds the address, opens the database, and fills it if it is empty.
    ///
    /// # Errors
    /// Returns an error that the operator has to fix, with the name of the variable. A Redis that does
    /// not answer is not an error: until it does, the database is queried.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        // First, so that no tokens are created, whose text nobody would see, if the address is in use.
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| StartError::of("LISTEN", error))?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::of("LISTEN", error))?;

        let Opened {
            keys,
            tables,
            seeded,
        } = open(&config).await?;
        // Before there is a cache: one of the wrong layout must not work off the outbox.
        if config.layout.needs_texts() {
            require_texts(&tables).await?;
        }
        let metrics = metrics::install()?;
        let recorder = LastUseRecorder::new(keys.last_use_sink())
            .interval(config.last_use_interval)
            .flush_interval(config.last_use_flush)
            .shutdown_timeout(CLOSE_TIMEOUT * 4 / 5);
        let cache = builder(&config, &keys).last_use(recorder).build();
        let cache = cache.map_err(config::refused_setting)?;
        keys.bind(&cache);
        let observer = match &config.redis {
            Some(_) => {
                let other = builder(&config, &keys).build();
                Some(Observer::new(other.map_err(config::refused_setting)?))
            }
            None => None,
        };

        let canary = match (&config.redis, config.canary) {
            (Some(redis), Some(every)) => {
                let store = redis.store().key_layout(config.layout.keys());
                let canary = Canary::new(&cache, store, every, config.max_staleness);
                Some(canary.map_err(config::refused_setting)?)
            }
            _ => None,
        };

        let tenant = tables.any_tenant().await.map_err(database_error)?;
        let banner = banner(&config, address, seeded.as_deref(), tenant.as_deref());

        let state = Arc::new(Shared {
            keys: keys.clone(),
            tables,
            cache,
            metrics: metrics.clone(),
            format: config.format,
            admin_digest: config.admin_token.digest(),
            redis: config.redis.as_ref().map(Redis::kind),
            live: Arc::new(Live::new()),
            observer,
            canary,
            client_timeout: config.client_timeout,
        });
        Ok(Self {
            listener,
            address,
            router: routes::router(Arc::clone(&state)),
            state,
            keys,
            drain: config.drain,
            client_timeout: config.client_timeout,
            metrics,
            banner,
        })
    }

    /// Returns the bound address, with the real port if port 0 was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns instructions for the user, which contain the tokens of a new database and a generated
    /// admin token.
    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// Serves until `shutdown` completes, then drains connections and last uses.
    ///
    /// Both have a time limit, so neither a client that never finishes nor a database that hangs keeps
    /// the process alive.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let live = tokio::spawn(routes::live::run(Arc::clone(&self.state)));
        let upkeep = tokio::spawn(metrics::keep_up(self.metrics));
        let canary = Arc::clone(&self.state);
        let canary = tokio::spawn(async move {
            if let Some(canary) = &canary.canary {
                canary.run().await;
            }
        });
        let (draining, begun) = tokio::sync::oneshot::channel();
        let serve = serve(self.listener, self.router, self.client_timeout, async {
            shutdown.await;
            tracing::info!("draining");
            self.state.live.close();
            // The receiver is gone only if serving ended by itself.
            let _ = draining.send(());
        });
        let too_late = async {
            match begun.await {
                Ok(()) => tokio::time::sleep(self.drain).await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = serve => {}
            () = too_late => tracing::warn!("dropping connections that are still open"),
        }
        live.abort();
        upkeep.abort();
        canary.abort();
        let close = async {
            let unwritten = self.keys.shutdown().await;
            if unwritten > 0 {
                tracing::warn!(unwritten, "last uses were not written and are lost");
            }
            self.keys.database().close().await;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
            tracing::warn!("dropping the connections of a database that does not answer");
        }
    }
}

/// Refuses a database without the text of every token: the Dify layout could not invalidate the others,
/// so that revoking them would have no effect.
async fn require_texts(tables: &Tables) -> Result<(), StartError> {
    let TextCount { tokens, texts } = tables.count_texts().await.map_err(database_error)?;
    if texts == tokens {
        return Ok(());
    }
    let missing = tokens - texts;
    Err(StartError::of(
        "KEY_LAYOUT",
        format!(
            "dify needs the text of every token, and the database, which was filled with KEY_LAYOUT=digest, \
             has only the digest of {missing} of its {tokens} tokens"
        ),
    ))
}

fn database_error(error: sqlx::Error) -> StartError {
    StartError::of("DATABASE_URL", error)
}

/// Opens the keys in the database of the configuration. The error is one line, which may be shown to the operator.
async fn open(config: &Config) -> Result<Opened, StartError> {
    let target = &config.database;
    let opened = async {
        let database = Database::connect(target.url()).await?;
        seed::open(database, &config.layout).await
    };
    opened.await.map_err(|error| {
        let reason = match &error {
            Error::Database(error) => config::reason(error),
            other => other.to_string(),
        };
        StartError::of("DATABASE_URL", format!("{target}: {reason}"))
    })
}

/// Returns an instance's settings, apart from its last uses.
fn builder(config: &Config, keys: &ApiKeys) -> ApiTokenCacheBuilder<()> {
    let (keys, delay) = (keys.loader(), config.load_delay);
    let loader = move |lookup| {
        let keys = keys.clone();
        async move {
            let record = keys.load(lookup).await;
            // After the query, never before: a delayed answer may be out of date when it arrives, which is the
            // race that the demo is to show.
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            record
        }
    };
    let mut builder = ApiTokenCache::builder(loader)
        .ttl(config.ttl)
        .negative_ttl(config.negative_ttl)
        .local_capacity(config.local_capacity)
        .max_staleness(config.max_staleness)
        .token_types(TYPES);
    if let Some(redis) = &config.redis {
        #[cfg(feature = "tls")]
        if redis.is_tls() {
            // The binary chooses the process's provider. This fails only if one is installed already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        builder = builder.store(redis.store().key_layout(config.layout.keys()));
    }
    builder
}

fn banner(
    config: &Config,
    address: SocketAddr,
    seeded: Option<&[Seeded]>,
    tenant: Option<&str>,
) -> String {
    let base = base_url(address);
    let admin = config.admin_token.generated().map_or_else(
        // The operator's own token is not shown; the shell expands a variable in double quotes.
        || "\"authorization: Bearer $ADMIN_TOKEN\"".to_owned(),
        |token| format!("'authorization: Bearer {token}'"),
    );
    let mut text = format!("database: {}\n", config.database);
    // Writing to a String cannot fail.
    let _ = match &config.redis {
        Some(redis) => writeln!(text, "store: {redis}"),
        None => writeln!(
            text,
            "store: in memory, for one instance only (set REDIS_URL to share it)"
        ),
    };
    let _ = writeln!(text, "key layout: {}", config.layout);
    let _ = writeln!(text, "token format: {}", config.format);
    if config.layout.needs_texts() {
        let holders = match &config.redis {
            Some(_) => "Redis and the database hold",
            None => "the database holds",
        };
        let _ = writeln!(
            text,
            "warning: {holders} the tokens' text, which the Dify layout needs"
        );
    }
    if let Some(token) = config.admin_token.generated() {
        let _ = writeln!(text, "admin token of this run: {token}");
    }
    let _ = match seeded {
        Some(seeded) => write!(text, "\n{}", first_steps(seeded, &base, &admin)),
        None => write!(text, "\n{}", next_steps(tenant, &base, &admin)),
    };
    text
}

/// Writes the instructions for a database that was empty.
fn first_steps(seeded: &[Seeded], base: &str, admin: &str) -> String {
    let mut text = "The database was empty. It now has two tenants with two tokens each, which are shown only now:\n".to_owned();
    for Seeded {
        id,
        tenant_id,
        token_type,
        text: token,
    } in seeded
    {
        let token = token.expose();
        let path = if *token_type == "app" {
            "whoami"
        } else {
            "datasets"
        };
        let _ = write!(
            text,
            "\n# {tenant_id}, {token_type}, {id}\ncurl -i -H 'authorization: Bearer {token}' {base}/v1/{path}\n"
        );
    }
    if let [first, ..] = seeded {
        let (id, tenant) = (&first.id, &first.tenant_id);
        let _ = write!(
            text,
            "\n# revoke the first\ncurl -i -X DELETE -H {admin} '{base}/admin/tokens/{id}?wait=true'\n\
             \n# suspend a tenant, and resume it\n\
             curl -i -X POST -H {admin} {base}/admin/tenants/{tenant}/suspend\n\
             curl -i -X POST -H {admin} {base}/admin/tenants/{tenant}/resume\n"
        );
        text.push_str(&create_token(tenant, base, admin));
    }
    text
}

/// Writes the instructions for a database that was not empty.
fn next_steps(tenant: Option<&str>, base: &str, admin: &str) -> String {
    let text =
        "The database is not empty; its tokens were shown when they were created.\n".to_owned();
    text + &create_token(tenant.unwrap_or("TENANT"), base, admin)
}

fn create_token(tenant: &str, base: &str, admin: &str) -> String {
    // An operator may have written any text into the table, so it is quoted for JSON and for the shell.
    let body = serde_json::json!({ "tenant_id": tenant, "token_type": "app" })
        .to_string()
        .replace('\'', r"'\''");
    format!("\n# create a token\ncurl -i -X POST -H {admin} -d '{body}' {base}/admin/tokens\n")
}

/// Returns a URL that works on this machine, even if the server listens on all addresses.
fn base_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}
