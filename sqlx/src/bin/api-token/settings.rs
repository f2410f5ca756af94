//! Settings, which are environment variables: those of the service, so that both have the same.
//!
//! No flag names a URL or a pepper: other users of the machine can read the arguments of a process.

use std::env::{self, VarError};
use std::time::Duration;

use tower_api_token::TokenFormat;

use crate::exit::Failure;

/// Each variable with its meaning, for the help and the manual.
pub(crate) const VARIABLES: [(&str, &str); 16] = [
    (
        "DATABASE_URL",
        "The service's database: sqlite://FILE or postgres://USER@HOST/DATABASE. Required.",
    ),
    (
        "REDIS_URL",
        "The Redis that all instances share: redis://…, rediss://… (feature cli-tls), unix://…, redis+sentinel://HOSTS/MASTER or redis+cluster://HOSTS. Without it, changes need --no-redis.",
    ),
    (
        "REDIS_CA_FILE",
        "With rediss://: a PEM file of the certificate authorities to trust. Default: the system's.",
    ),
    (
        "REDIS_CLIENT_CERT_FILE",
        "With rediss://: a PEM file of the client certificate.",
    ),
    (
        "REDIS_CLIENT_KEY_FILE",
        "With rediss://: a PEM file of the client certificate's key.",
    ),
    (
        "CACHE_NAMESPACE",
        "The cache's namespace. Default: api_token.",
    ),
    (
        "KEY_LAYOUT",
        "The layout of the cache's keys in Redis: digest or dify. With dify, keys are created by the service alone, and changes need --no-redis. Default: digest.",
    ),
    (
        "KEY_PEPPER",
        "The pepper of the cache's keys in Redis. Default: none.",
    ),
    (
        "KEY_PREVIOUS_PEPPERS",
        "The previous peppers, separated by commas. Default: none.",
    ),
    (
        "MAX_STALENESS_MS",
        "The service's longest max_staleness, from 10 to 3600000. Default: 1000.",
    ),
    ("TOKEN_PREFIX", "What new keys begin with. Default: api_."),
    (
        "TOKEN_FORMAT",
        "Which tokens the service looks up: checked (prefix and checksum) or any. Default: checked.",
    ),
    (
        "KEY_ID_PREFIX",
        "What ids of new keys begin with. Default: key_.",
    ),
    (
        "TABLE_PREFIX",
        "What the names of the tables begin with. Default: api_token_.",
    ),
    (
        "DATABASE_SCHEMA",
        "The PostgreSQL schema of the tables. Default: the first of the search path.",
    ),
    (
        "USER",
        "Who makes a change, for the audit table, unless --actor says so.",
    ),
];

/// What the environment says.
pub(crate) struct Settings {
    pub(crate) database_url: String,
    pub(crate) schema: Option<String>,
    pub(crate) table_prefix: Option<String>,
    pub(crate) id_prefix: Option<String>,
    pub(crate) format: TokenFormat,
    /// Whether the service rejects tokens of another format without a lookup.
    pub(crate) is_format_checked: bool,
    pub(crate) max_staleness: Duration,
    pub(crate) namespace: Option<String>,
    pub(crate) layout: Layout,
    pub(crate) redis_url: Option<String>,
    pub(crate) certificates: Certificates,
}

/// The layout of the cache's keys.
pub(crate) enum Layout {
    Digest {
        pepper: Option<String>,
        previous: Vec<String>,
    },
    Dify,
}

/// Paths of PEM files.
pub(crate) struct Certificates {
    pub(crate) ca: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) client_key: Option<String>,
}

impl Settings {
    /// Reads the environment.
    pub(crate) fn read() -> Result<Self, Failure> {
        let prefix = optional("TOKEN_PREFIX")?;
        let prefix = prefix.as_deref().unwrap_or("api_");
        let format = TokenFormat::new(prefix)
            .map_err(|error| Failure::usage(format!("TOKEN_PREFIX: {error}")))?;
        Ok(Self {
            database_url: optional("DATABASE_URL")?
                .ok_or_else(|| Failure::usage("DATABASE_URL: not set"))?,
            schema: optional("DATABASE_SCHEMA")?,
            table_prefix: optional("TABLE_PREFIX")?,
            id_prefix: optional("KEY_ID_PREFIX")?,
            format,
            is_format_checked: choice("TOKEN_FORMAT", ["checked", "any"])? == "checked",
            max_staleness: max_staleness()?,
            namespace: optional("CACHE_NAMESPACE")?,
            layout: layout()?,
            redis_url: optional("REDIS_URL")?,
            certificates: Certificates {
                ca: optional("REDIS_CA_FILE")?,
                client: optional("REDIS_CLIENT_CERT_FILE")?,
                client_key: optional("REDIS_CLIENT_KEY_FILE")?,
            },
        })
    }
}

/// Returns who makes a change, unless an argument says so.
pub(crate) fn user() -> Option<String> {
    let of = |name| env::var(name).ok().filter(|user| !user.is_empty());
    of("USER").or_else(|| of("LOGNAME"))
}

fn layout() -> Result<Layout, Failure> {
    let pepper = optional("KEY_PEPPER")?;
    let previous = optional("KEY_PREVIOUS_PEPPERS")?;
    if choice("KEY_LAYOUT", ["digest", "dify"])? == "digest" {
        let previous = previous.iter().flat_map(|all| all.split(','));
        let previous = previous.map(str::to_owned).collect();
        return Ok(Layout::Digest { pepper, previous });
    }
    if pepper.is_some() || previous.is_some() {
        return Err(Failure::usage("KEY_PEPPER: needs KEY_LAYOUT=digest"));
    }
    Ok(Layout::Dify)
}

fn max_staleness() -> Result<Duration, Failure> {
    const NAME: &str = "MAX_STALENESS_MS";
    let Some(text) = optional(NAME)? else {
        return Ok(Duration::from_secs(1));
    };
    let millis = text.parse().ok().filter(|it| (10..=3_600_000).contains(it));
    let rule = || Failure::usage(format!("{NAME}: not a whole number from 10 to 3600000"));
    millis.map(Duration::from_millis).ok_or_else(rule)
}

/// Returns one of two values, of which the first is the default.
fn choice(name: &str, choices: [&'static str; 2]) -> Result<&'static str, Failure> {
    let Some(text) = optional(name)? else {
        return Ok(choices[0]);
    };
    let found = choices.into_iter().find(|choice| *choice == text);
    found.ok_or_else(|| Failure::usage(format!("{name}: not {}", choices.join(" or "))))
}

/// Returns the value, if it is set. An empty value is an error: an empty `REDIS_URL` was meant to name one. No error
/// has the value, which may be a password.
fn optional(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(text) if text.is_empty() => {
            let rule = "empty; unset it to get the default";
            Err(Failure::usage(format!("{name}: {rule}")))
        }
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Failure::usage(format!("{name}: not UTF-8"))),
    }
}
