//! Flags and environment.
//!
//! All values are read as text and checked here, so that every complaint has one form: one line
//! that names the variable.

mod error;
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

pub use error::StartError;
pub use layout::Layout;
pub use redis::{Redis, RedisKind, refused_setting};
pub use secrets::AdminToken;
use variables::command;

use crate::db::Target;
use crate::format::Format;

const DAY: u64 = 24 * 60 * 60;

/// What the server was asked to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The Redis to share answers through; without it they stay in this process.
    pub redis: Option<Redis>,
    /// Where the database is.
    pub database: Target,
    /// How the cache's keys are made.
    pub layout: Layout,
    /// Which tokens are looked up at all.
    pub format: Format,
    /// How long a token is cached.
    pub ttl: Duration,
    /// How long a null is cached.
    pub negative_ttl: Duration,
    /// Entries of the local level; 0 switches it off.
    pub local_capacity: usize,
    /// How long a local entry may outlive an invalidation.
    pub max_staleness: Duration,
    /// For how long after a recorded use of a token others are not recorded.
    pub last_use_interval: Duration,
    /// How often recorded uses are written to the database.
    pub last_use_flush: Duration,
    /// How long each answer of the database is held back.
    pub load_delay: Duration,
    /// The bearer token for `/admin`.
    pub admin_token: AdminToken,
    /// How long requests under way may take after the signal to end.
    pub drain: Duration,
    /// How long a client may take to send a request, and a connection may be idle.
    pub client_timeout: Duration,
    /// Whether logs are JSON.
    pub log_json: bool,
    /// What is logged.
    pub log_filter: Targets,
    /// The OpenTelemetry collector that spans are sent to.
    pub otlp_endpoint: Option<String>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// To serve.
    Serve(Box<Config>),
    /// To print this text (help or version) and to end.
    Print(String),
}

impl Config {
    /// Reads the command line, and the environment where a flag is missing.
    ///
    /// # Errors
    /// An unknown flag, or a value that is not understood.
    pub fn read<I, T>(arguments: I) -> Result<Request, StartError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches = match command().try_get_matches_from(arguments) {
            Ok(matches) => matches,
            // Help and version come as errors too, but belong on standard output.
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
        let redis = Redis::read(self.optional("REDIS_URL")?, |file| self.optional(file))?;
        let layout = self.layout()?;
        let format = self.format(&layout)?;
        if layout != Layout::Digest
            && redis
                .as_ref()
                .is_some_and(|redis| redis.kind() == RedisKind::Cluster)
        {
            return Err(StartError::of(
                "REDIS_URL",
                "no cluster with KEY_LAYOUT=seed: that layout needs SCAN, which is refused on a cluster",
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
                    "not a level, or target=level, separated by commas",
                )
            })?,
            otlp_endpoint: self.collector()?,
        })
    }

    fn layout(&self) -> Result<Layout, StartError> {
        let prefix = self.optional("REDIS_KEY_PREFIX")?;
        match self.choice("KEY_LAYOUT", &["digest", "seed"])? {
            "seed" => Ok(Layout::seed(prefix)),
            _ => Layout::digest(prefix),
        }
    }

    /// The Python service's tokens have no format, and are what the layout seed is there for.
    fn format(&self, layout: &Layout) -> Result<Format, StartError> {
        const NAME: &str = "TOKEN_FORMAT";
        if self.optional(NAME)?.is_none() {
            return Ok(match layout {
                Layout::Digest => Format::Checked,
                Layout::Seed { .. } => Format::Any,
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
            let why = "this binary is built without it; build with --features otel";
            return Err(StartError::of(NAME, why));
        }
        // Not repeated: it may hold a password.
        if !endpoint.starts_with("http://") {
            return Err(StartError::of(NAME, "not an http:// URL"));
        }
        Ok(Some(endpoint.to_owned()))
    }

    /// The value, if it is set. Set but empty is a slip, and what it was meant to be is not ours to
    /// guess: an empty `REDIS_URL` could be a deployment that believes it shares its cache.
    fn optional(&self, name: &'static str) -> Result<Option<&str>, StartError> {
        let Some(value) = self.0.get_one::<OsString>(name) else {
            return Ok(None);
        };
        match OsStr::to_str(value) {
            None => Err(StartError::of(name, "not UTF-8")),
            Some("") => Err(StartError::of(name, "empty; unset it for the default")),
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
                let (least, most) = (range.start(), range.end());
                StartError::of(
                    name,
                    format!("{text:?} is not a whole number from {least} to {most}"),
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
                StartError::of(
                    name,
                    format!("{text:?} is unknown, expected {}", choices.join(" or ")),
                )
            })
    }
}
