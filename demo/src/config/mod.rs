//! Command-line flags and environment variables.
//!
//! All values are read as text and checked here, so that every error has the same form: one line
//! that names the variable.

mod database;
mod error;
mod format;
mod layout;
mod redis;
mod secrets;
mod variables;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::ArgMatches;
use tracing_subscriber::filter::Targets;

pub use database::Target;
pub(crate) use database::reason;
pub use error::StartError;
pub use format::Format;
pub(crate) use format::{TYPES, of_type};
pub use layout::Layout;
pub use redis::{Redis, RedisKind, refused_setting};
pub use secrets::AdminToken;
use variables::command;

const DAY: u64 = 24 * 60 * 60;
const CLIENT_TRACKING: &str = "CLIENT_TRACKING";
const HEARTBEAT_INTERVAL: &str = "HEARTBEAT_INTERVAL_MS";

/// The server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The Redis that instances share; `None` for a store in this process's memory.
    pub redis: Option<Redis>,
    /// The database.
    pub database: Target,
    /// The layout of the cache's keys.
    pub layout: Layout,
    /// Which tokens are looked up.
    pub format: Format,
    /// How long a token is cached.
    pub ttl: Duration,
    /// How long an unknown or denied token is cached.
    pub negative_ttl: Duration,
    /// Entries of the local level; 0 turns it off.
    pub local_capacity: usize,
    /// How long an instance may serve an answer from its local level after another one invalidated it.
    pub max_staleness: Duration,
    /// The minimum time between two recorded uses of one token.
    pub last_use_interval: Duration,
    /// How often recorded uses are written to the database.
    pub last_use_flush: Duration,
    /// How often the canary measures a revocation; `None` turns it off. Without Redis there is none.
    pub canary: Option<Duration>,
    /// How long each answer of the database is delayed.
    pub load_delay: Duration,
    /// The bearer token for `/admin`.
    pub admin_token: AdminToken,
    /// How long open requests may take after the signal to stop.
    pub drain: Duration,
    /// How long a client may take to send a request, and a connection may be idle.
    pub client_timeout: Duration,
    /// Whether logs are JSON.
    pub log_json: bool,
    /// The filter of the logs.
    pub log_filter: Targets,
    /// The OpenTelemetry collector that receives spans.
    pub otlp_endpoint: Option<String>,
}

/// The task that the command line gives.
#[derive(Debug)]
pub enum Request {
    /// The server is to run.
    Serve(Box<Config>),
    /// This text (help or version) is to be printed.
    Print(String),
}

impl Config {
    /// Reads the command line, and the environment for flags that are missing.
    ///
    /// # Errors
    /// Returns an error for an unknown flag and for an invalid value.
    pub fn read<I, T>(arguments: I) -> Result<Request, StartError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches = match command().try_get_matches_from(arguments) {
            Ok(matches) => matches,
            // Help and version are errors too, but belong on standard output.
            Err(error) if !error.use_stderr() => return Ok(Request::Print(error.to_string())),
            Err(error) => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                return Err(StartError::other(
                    line.strip_prefix("error: ").unwrap_or(line),
                ));
            }
        };
        Values(matches)
            .config()
            .map(|config| Request::Serve(Box::new(config)))
    }
}

struct Values(ArgMatches);

impl Values {
    fn config(&self) -> Result<Config, StartError> {
        let listen = self.text("LISTEN")?;
        let listen = listen.parse().map_err(|_| {
            StartError::of(
                "LISTEN",
                "not an address with a port, such as 127.0.0.1:3000",
            )
        })?;
        let log_filter = self.text("RUST_LOG")?;
        let redis = self.redis()?;
        let layout = self.layout()?;
        let format = self.format(&layout)?;
        if layout != Layout::Digest
            && redis
                .as_ref()
                .is_some_and(|redis| redis.kind() == RedisKind::Cluster)
        {
            return Err(StartError::of(
                "REDIS_URL",
                "a cluster does not work with KEY_LAYOUT=dify, which needs SCAN over all keys",
            ));
        }
        Ok(Config {
            listen,
            redis,
            database: Target::parse(self.text("DATABASE_URL")?)
                .map_err(|message| StartError::of("DATABASE_URL", message))?,
            layout,
            format,
            ttl: Duration::from_secs(self.number("TTL_SECONDS", 1..=30 * DAY)?),
            negative_ttl: Duration::from_secs(self.number("NEGATIVE_TTL_SECONDS", 1..=DAY)?),
            local_capacity: usize::try_from(self.number("LOCAL_CAPACITY", 0..=100_000_000)?)
                .map_err(|_| StartError::of("LOCAL_CAPACITY", "too large for this machine"))?,
            max_staleness: Duration::from_millis(self.number("MAX_STALENESS_MS", 10..=3_600_000)?),
            last_use_interval: Duration::from_secs(
                self.number("LAST_USE_INTERVAL_SECONDS", 1..=3600)?,
            ),
            last_use_flush: Duration::from_secs(self.number("LAST_USE_FLUSH_SECONDS", 1..=3600)?),
            canary: match self.number("CANARY_SECONDS", 0..=3600)? {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            load_delay: Duration::from_millis(self.number("LOAD_DELAY_MS", 0..=60_000)?),
            admin_token: match self.optional("ADMIN_TOKEN")? {
                Some(text) => AdminToken::given(text)?,
                None => AdminToken::random()?,
            },
            drain: Duration::from_secs(self.number("DRAIN_SECONDS", 0..=3600)?),
            client_timeout: Duration::from_secs(self.number("CLIENT_TIMEOUT_SECONDS", 1..=3600)?),
            log_json: self.choice("LOG_FORMAT", &["text", "json"])? == "json",
            log_filter: log_filter.parse().map_err(|_| {
                StartError::of(
                    "RUST_LOG",
                    "not a comma-separated list of levels or target=level",
                )
            })?,
            otlp_endpoint: self.collector()?,
        })
    }

    fn redis(&self) -> Result<Option<Redis>, StartError> {
        let redis = Redis::read(self.optional("REDIS_URL")?, |file| self.optional(file))?;
        for variable in [CLIENT_TRACKING, HEARTBEAT_INTERVAL] {
            if redis.is_none() && self.optional(variable)?.is_some() {
                return Err(StartError::of(variable, "needs REDIS_URL"));
            }
        }
        let Some(mut redis) = redis else {
            return Ok(None);
        };
        if self.optional(CLIENT_TRACKING)?.is_some() {
            let is_on = self.choice(CLIENT_TRACKING, &["on", "off"])? == "on";
            redis = redis.client_tracking(is_on);
        }
        if self.optional(HEARTBEAT_INTERVAL)?.is_some() {
            let interval = Duration::from_millis(self.number(HEARTBEAT_INTERVAL, 25..=60_000)?);
            redis = redis.heartbeat_interval(interval);
        }
        Ok(Some(redis))
    }

    fn layout(&self) -> Result<Layout, StartError> {
        let prefix = self.optional("REDIS_KEY_PREFIX")?;
        match self.choice("KEY_LAYOUT", &["digest", "dify"])? {
            "dify" => Ok(Layout::dify(prefix)),
            _ => Layout::digest(prefix),
        }
    }

    /// Defaults to any format with the Dify layout, because Dify's tokens have no checksum.
    fn format(&self, layout: &Layout) -> Result<Format, StartError> {
        const NAME: &str = "TOKEN_FORMAT";
        if self.optional(NAME)?.is_none() {
            return Ok(match layout {
                Layout::Digest => Format::Checked,
                Layout::Dify { .. } => Format::Any,
            });
        }
        Ok(match self.choice(NAME, &["checked", "any"])? {
            "checked" => Format::Checked,
            _ => Format::Any,
        })
    }

    fn collector(&self) -> Result<Option<String>, StartError> {
        const NAME: &str = "OTLP_ENDPOINT";
        let Some(endpoint) = self.optional(NAME)? else {
            return Ok(None);
        };
        if !cfg!(feature = "otel") {
            let why = "needs a binary that is built with --features otel";
            return Err(StartError::of(NAME, why));
        }
        // The error does not contain the value, which may hold a password.
        if !endpoint.starts_with("http://") {
            return Err(StartError::of(NAME, "not an http:// URL"));
        }
        Ok(Some(endpoint.to_owned()))
    }

    /// Returns the value, if it is set. An empty value is an error: the server would otherwise run
    /// with a store in memory where an empty `REDIS_URL` was meant to name a shared one.
    fn optional(&self, name: &'static str) -> Result<Option<&str>, StartError> {
        let Some(value) = self.0.get_one::<OsString>(name) else {
            return Ok(None);
        };
        match OsStr::to_str(value) {
            None => Err(StartError::of(name, "not UTF-8")),
            Some("") => Err(StartError::of(name, "empty; unset it to get the default")),
            Some(text) => Ok(Some(text)),
        }
    }

    fn text(&self, name: &'static str) -> Result<&str, StartError> {
        self.optional(name)?
            .ok_or_else(|| StartError::of(name, "not set"))
    }

    fn number(&self, name: &'static str, range: RangeInclusive<u64>) -> Result<u64, StartError> {
        let text = self.text(name)?;
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (min, max) = (range.start(), range.end());
                StartError::of(
                    name,
                    format!("{text:?} is not a whole number from {min} to {max}"),
                )
            })
    }

    fn choice(
        &self,
        name: &'static str,
        choices: &[&'static str],
    ) -> Result<&'static str, StartError> {
        let text = self.text(name)?;
        choices
            .iter()
            .copied()
            .find(|choice| *choice == text)
            .ok_or_else(|| {
                StartError::of(name, format!("{text:?} is not {}", choices.join(" or ")))
            })
    }
}
