//! The Redis server, and the certificates for TLS.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "tls")]
use tower_api_token::store::RedisTls;
use tower_api_token::{ConfigError, RedisStore};

use super::StartError;

const CA: &str = "REDIS_CA_FILE";
const CLIENT_CERT: &str = "REDIS_CLIENT_CERT_FILE";
const CLIENT_KEY: &str = "REDIS_CLIENT_KEY_FILE";

/// Converts an error of the cache's builder, and names the variable that causes it.
pub fn refused_setting(error: ConfigError) -> StartError {
    match error.setting() {
        "ca_certificate" => StartError::of(CA, error),
        "identity" => StartError::of(CLIENT_CERT, format!("{error}, with {CLIENT_KEY}")),
        _ => StartError::other(error),
    }
}

/// The values of `REDIS_URL` and of the variables that name its certificates.
#[derive(Clone, Debug)]
pub struct Redis {
    url: RedisUrl,
    store: RedisStore,
}

impl Redis {
    /// Reads the variables. `file` returns the path in a variable, if it is set.
    pub(super) fn read<'a>(
        url: Option<&str>,
        file: impl Fn(&'static str) -> Result<Option<&'a str>, StartError>,
    ) -> Result<Option<Self>, StartError> {
        let url = url.map(RedisUrl::parse).transpose()?;
        let tls = url.as_ref().is_some_and(RedisUrl::is_tls);
        for variable in [CA, CLIENT_CERT, CLIENT_KEY] {
            if !tls && file(variable)?.is_some() {
                let message = "needs REDIS_URL=rediss://…";
                return Err(StartError::of(variable, message));
            }
        }
        let Some(url) = url else { return Ok(None) };
        if tls && !cfg!(feature = "tls") {
            let why = "rediss:// needs a binary that is built with --features tls";
            return Err(StartError::of("REDIS_URL", why));
        }
        let store =
            RedisStore::new(url.expose()).map_err(|error| StartError::of("REDIS_URL", error))?;
        #[cfg(feature = "tls")]
        let store = match tls {
            true => store.tls(certificates(file)?),
            false => store,
        };
        Ok(Some(Self { url, store }))
    }

    pub(super) fn client_tracking(mut self, is_on: bool) -> Self {
        self.store = self.store.client_tracking(is_on);
        self
    }

    pub(super) fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.store = self.store.heartbeat_interval(interval);
        self
    }

    /// Returns the store, which connects when it is first used.
    pub fn store(&self) -> RedisStore {
        self.store.clone()
    }

    /// Returns the kind of deployment that the URL names.
    pub fn kind(&self) -> RedisKind {
        self.url.kind
    }

    /// Returns whether connections use TLS, which needs a crypto provider.
    pub fn is_tls(&self) -> bool {
        self.url.is_tls()
    }
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            RedisKind::Single if self.is_tls() => write!(f, "Redis over TLS, {}", self.url),
            RedisKind::Single => write!(f, "Redis, {}", self.url),
            RedisKind::Sentinel => write!(f, "Redis Sentinel, {}", self.url),
            RedisKind::Cluster => write!(f, "Redis Cluster, {}", self.url),
        }
    }
}

/// Returns the certificates that the variables name.
#[cfg(feature = "tls")]
fn certificates<'a>(
    file: impl Fn(&'static str) -> Result<Option<&'a str>, StartError>,
) -> Result<RedisTls, StartError> {
    let mut certificates = RedisTls::new();
    if let Some(ca) = read_file(CA, file(CA)?)? {
        certificates = certificates.ca_certificate(ca);
    }
    let certificate = read_file(CLIENT_CERT, file(CLIENT_CERT)?)?;
    let key = read_file(CLIENT_KEY, file(CLIENT_KEY)?)?;
    match (certificate, key) {
        (None, None) => Ok(certificates),
        (Some(certificate), Some(key)) => Ok(certificates.identity(certificate, key)),
        (Some(_), None) => Err(StartError::of(CLIENT_CERT, format!("needs {CLIENT_KEY}"))),
        (None, Some(_)) => Err(StartError::of(CLIENT_KEY, format!("needs {CLIENT_CERT}"))),
    }
}

#[cfg(feature = "tls")]
fn read_file(variable: &'static str, path: Option<&str>) -> Result<Option<Vec<u8>>, StartError> {
    path.map(std::fs::read)
        .transpose()
        .map_err(|error| StartError::of(variable, format!("cannot be read: {error}")))
}

/// The kind of Redis deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisKind {
    /// The URL names one server.
    Single,
    /// The URL names sentinels, which name the master.
    Sentinel,
    /// The URL names nodes of a cluster.
    Cluster,
}

impl fmt::Display for RedisKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}

/// A Redis URL. `Display` and `Debug` show its hosts only, because it may hold a password.
#[derive(Clone)]
struct RedisUrl {
    text: String,
    kind: RedisKind,
}

impl RedisUrl {
    fn parse(text: &str) -> Result<Self, StartError> {
        let kind = match scheme(text) {
            "redis" | "rediss" | "unix" | "redis+unix" => RedisKind::Single,
            "redis+sentinel" => RedisKind::Sentinel,
            "redis+cluster" => RedisKind::Cluster,
            _ => {
                return Err(StartError::of(
                    "REDIS_URL",
                    "not a URL that begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
                ));
            }
        };
        let text = text.to_owned();
        Ok(Self { text, kind })
    }

    fn expose(&self) -> &str {
        &self.text
    }

    fn is_tls(&self) -> bool {
        scheme(&self.text) == "rediss"
    }
}

fn scheme(url: &str) -> &str {
    url.split_once("://").map_or("", |(scheme, _)| scheme)
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        if scheme(&self.text).ends_with("unix") {
            // The query may hold a password.
            return f.write_str(rest.split(['?', '#']).next().unwrap_or_default());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // An `@` after the authority: what looks like a host may be a password that contains a slash.
        if rest[authority.len()..].contains('@') {
            return f.write_str("at an address that is not shown");
        }
        f.write_str(authority.rsplit('@').next().unwrap_or_default())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}
