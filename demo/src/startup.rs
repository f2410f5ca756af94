//! Puts the parts together and says how to use them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tower_api_token::ApiTokenCache;

use crate::config::{self, Config, Redis, StartError};
use crate::db::{Database, Kept, Seeded, TextCount};
use crate::last_use;
use crate::live::Live;
use crate::loader;
use crate::metrics;
use crate::outbox::Outbox;
use crate::routes::{self, Shared};
use crate::serve::serve;

/// How long the end may take when requests are drained, or are not: writing what is not written yet,
/// and closing the database, which waits for queries that a hanging database never answers.
///
/// With the 20 s that draining has by default, it is less than the 30 s after which orchestrators
/// commonly kill.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that is bound and migrated, and ready to run.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    state: Arc<Shared>,
    database: Database,
    cache: ApiTokenCache,
    outbox: Outbox,
    drain: Duration,
    patience: Duration,
    metrics: PrometheusHandle,
    banner: String,
}

impl Server {
    /// Binds the address, opens the database, and fills it if it is empty.
    ///
    /// # Errors
    /// What the operator has to put right, by the name of its variable. An absent Redis is none of
    /// that: the store connects when it can, and until then the database is asked.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        // First of all: if another instance has the address, no tokens may be made whose text
        // nobody would see.
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| StartError::of("LISTEN", error))?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::of("LISTEN", error))?;

        let described = config.database.to_string();
        let database = Database::open(config.database.clone())
            .await
            .map_err(|message| StartError::of("DATABASE_URL", format!("{described}: {message}")))?;
        let metrics = metrics::install()?;
        let cache = cache(&config, &database)?;

        let kept = config.layout.kept();
        let seeded = database
            .seed(kept)
            .await
            .map_err(|error| StartError::of("DATABASE_URL", error))?;
        if kept == Kept::Text {
            require_texts(&database).await?;
        }
        let tenant = database
            .any_tenant()
            .await
            .map_err(|error| StartError::of("DATABASE_URL", error))?;
        let banner = banner(&config, address, seeded.as_deref(), tenant.as_deref());

        let outbox = Outbox::new(database.clone(), cache.clone());
        let state = Arc::new(Shared {
            database: database.clone(),
            cache: cache.clone(),
            outbox: outbox.clone(),
            metrics: metrics.clone(),
            kept,
            format: config.format,
            admin_digest: config.admin_token.digest(),
            negative_ttl: config.negative_ttl,
            redis: config.redis.as_ref().map(Redis::kind),
            live: Live::new(),
            patience: config.client_timeout,
        });
        Ok(Self {
            listener,
            address,
            router: routes::router(Arc::clone(&state)),
            state,
            database,
            cache,
            outbox,
            drain: config.drain,
            patience: config.client_timeout,
            metrics,
            banner,
        })
    }

    /// The address that was bound: with port 0, the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a newcomer wants to read, tokens of a new database and a random admin token included.
    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// Serves until `shutdown` is ready, then drains connections and last uses, for a bounded
    /// time: neither a client that never finishes nor a database that hangs holds the process.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let outbox = tokio::spawn(self.outbox.run());
        let live = tokio::spawn(routes::live::run(Arc::clone(&self.state)));
        let upkeep = tokio::spawn(metrics::keep_up(self.metrics));
        let (draining, begun) = tokio::sync::oneshot::channel();
        let serve = serve(self.listener, self.router, self.patience, async {
            shutdown.await;
            tracing::info!("draining");
            self.state.live.close();
            // Nobody listens any more only if serving ended by itself.
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
            () = too_late => tracing::warn!("connections are still open and are dropped"),
        }
        // In the middle of whatever: its rows are in the database, for the next start or another
        // instance.
        outbox.abort();
        live.abort();
        upkeep.abort();
        let close = async {
            let unwritten = self.cache.shutdown().await;
            if unwritten > 0 {
                tracing::warn!(unwritten, "last uses could not be written and are lost");
            }
            self.database.close().await;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
            tracing::warn!("the database does not answer, and its connections are dropped");
        }
    }
}

/// A token whose text is not there could not be invalidated, and revoking it would promise what does
/// not happen.
async fn require_texts(database: &Database) -> Result<(), StartError> {
    let TextCount { tokens, texts } = database
        .count_texts()
        .await
        .map_err(|error| StartError::of("DATABASE_URL", error))?;
    if texts == tokens {
        return Ok(());
    }
    let lacking = tokens - texts;
    Err(StartError::of(
        "KEY_LAYOUT",
        format!(
            "seed needs the text of every token, and the database was filled with KEY_LAYOUT=digest \
             and holds digests only, for {lacking} of its {tokens} tokens"
        ),
    ))
}

fn cache(config: &Config, database: &Database) -> Result<ApiTokenCache, StartError> {
    let recorder = last_use::recorder(database.clone())
        .interval(config.last_use_interval)
        .flush_interval(config.last_use_flush)
        .shutdown_timeout(CLOSE_TIMEOUT * 4 / 5);
    let (database, delay) = (database.clone(), config.load_delay);
    let loader = move |lookup| loader::load(database.clone(), delay, lookup);
    let mut builder = ApiTokenCache::builder(loader)
        .key_layout(config.layout.keys())
        .last_use(recorder)
        .ttl(config.ttl)
        .negative_ttl(config.negative_ttl)
        .local_capacity(config.local_capacity)
        .max_staleness(config.max_staleness)
        .token_types(["app", "dataset"]);
    if let Some(redis) = &config.redis {
        if redis.is_tls() {
            // The process's own, to be chosen by the binary. It fails only if there is one already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        builder = builder.store(redis.store());
    }
    builder.build().map_err(config::refused_setting)
}

fn banner(
    config: &Config,
    address: SocketAddr,
    seeded: Option<&[Seeded]>,
    tenant: Option<&str>,
) -> String {
    let base = base_url(address);
    let admin = config.admin_token.generated().map_or_else(
        // The operator's own is not repeated; double quotes let the shell put it in.
        || "\"authorization: Bearer $ADMIN_TOKEN\"".to_owned(),
        |token| format!("'authorization: Bearer {token}'"),
    );
    let mut text = format!("database: {}\n", config.database);
    // Writing to a String cannot fail.
    let _ = match &config.redis {
        Some(redis) => writeln!(text, "store: {redis}"),
        None => writeln!(
            text,
            "store: in memory, for one instance only (REDIS_URL shares it)"
        ),
    };
    let _ = writeln!(text, "key layout: {}", config.layout);
    let _ = writeln!(text, "token format: {}", config.format);
    if config.layout.kept() == Kept::Text {
        let holders = match &config.redis {
            Some(_) => "Redis and the database hold",
            None => "the database holds",
        };
        let _ = writeln!(
            text,
            "warning: {holders} the tokens' text, as the layout seed needs it"
        );
    }
    if let Some(token) = config.admin_token.generated() {
        let _ = writeln!(text, "admin token, of this run: {token}");
    }
    let _ = match seeded {
        Some(seeded) => write!(text, "\n{}", first_steps(seeded, &base, &admin)),
        None => write!(text, "\n{}", next_steps(tenant, &base, &admin)),
    };
    text
}

/// For a database that was empty.
fn first_steps(seeded: &[Seeded], base: &str, admin: &str) -> String {
    let mut text = "The database was empty. It now has two tenants with two tokens each, shown only this once:\n".to_owned();
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
        text.push_str(&make_token(tenant, base, admin));
    }
    text
}

/// For a database that already has something in it.
fn next_steps(tenant: Option<&str>, base: &str, admin: &str) -> String {
    let text = "The database is not empty; its tokens were shown when they were made.\n".to_owned();
    text + &make_token(tenant.unwrap_or("TENANT"), base, admin)
}

fn make_token(tenant: &str, base: &str, admin: &str) -> String {
    // The id may be anything an operator wrote into the table: JSON for the server, then quotes for
    // the shell.
    let body = serde_json::json!({ "tenant_id": tenant, "type": "app" })
        .to_string()
        .replace('\'', r"'\''");
    format!("\n# make a token\ncurl -i -X POST -H {admin} -d '{body}' {base}/admin/tokens\n")
}

/// A URL that works from this machine, also if we listen on all addresses.
fn base_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}
