//! Where Redis is: one server, whatever master the sentinels name, or a cluster.

use std::sync::Arc;
use std::time::Duration;

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
use redis::ConnectionAddr;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use super::handshake::{Link, Opening, Target};
#[cfg(feature = "redis-sentinel")]
use super::sentinel::{self, Sentinels};
use crate::ConfigError;
use crate::store::StoreError;

/// Made from a URL; see [`RedisStore::connect`](super::RedisStore::connect).
#[derive(Clone)]
pub(super) enum Endpoint {
    Server(Server),
    #[cfg(feature = "redis-cluster")]
    Cluster(cluster::Seeds),
}

/// What one connection leads to.
#[derive(Clone)]
pub(super) enum Server {
    Single(Target),
    #[cfg(feature = "redis-sentinel")]
    Sentinel(Sentinels),
}

/// What every server of one URL is told of us, and how it is spoken to.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    /// `None`: RESP3, and RESP2 where that is refused.
    pub(super) protocol: Option<ProtocolVersion>,
    /// Whether those that the URL leads to are spoken to over TLS.
    #[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
    pub(super) encrypted: bool,
}

impl Endpoint {
    /// # Errors
    /// The text is no such URL, or of a kind that needs another feature. It is not repeated: it may
    /// hold a password.
    pub(super) fn parse(url: &str) -> Result<Self, ConfigError> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase().replacen("valkey", "redis", 1);
        if !scheme.ends_with("unix") && is_cut_short(rest) {
            return Err(ConfigError::new(
                "the Redis URL has an @ behind its hosts: in a password write / ? # @ as %2F %3F %23 %40",
            ));
        }
        if scheme.starts_with("rediss") && !cfg!(feature = "redis-rustls") {
            return Err(needs("TLS", "redis-rustls"));
        }
        match &*scheme {
            "redis" | "rediss" => Self::single(&scheme, rest, &["protocol"]),
            "unix" | "redis+unix" if cfg!(unix) => {
                Self::single(&scheme, rest, &["db", "user", "pass", "protocol"])
            }
            #[cfg(feature = "redis-sentinel")]
            "redis+sentinel" | "rediss+sentinel" => sentinel::parse(&scheme, rest)
                .map(Server::Sentinel)
                .map(Self::Server),
            #[cfg(feature = "redis-cluster")]
            "redis+cluster" | "rediss+cluster" => cluster::parse(&scheme, rest).map(Self::Cluster),
            #[cfg(not(feature = "redis-sentinel"))]
            "redis+sentinel" | "rediss+sentinel" => Err(needs("Redis Sentinel", "redis-sentinel")),
            #[cfg(not(feature = "redis-cluster"))]
            "redis+cluster" | "rediss+cluster" => Err(needs("Redis Cluster", "redis-cluster")),
            _ => Err(ConfigError::new(
                "a Redis URL begins with redis://, rediss://, unix://, redis+sentinel://, \
                 rediss+sentinel://, redis+cluster:// or rediss+cluster://",
            )),
        }
    }

    fn single(scheme: &str, rest: &str, known: &[&str]) -> Result<Self, ConfigError> {
        let query = Query::parse(rest, known)?;
        // What a socket's URL has in its query is read by the client's own parser.
        let rest = if scheme.ends_with("unix") {
            rest
        } else {
            query.before
        };
        let info = connection_info(&format!("{scheme}://{rest}"))?;
        let login = Login::of(&info, query.protocol()?);
        let target = Target::new(info.addr().clone(), login);
        Ok(Self::Server(Server::Single(target)))
    }

    /// What may be shown: addresses, and no password.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Server(Server::Single(target)) => target.shown(),
            #[cfg(feature = "redis-sentinel")]
            Self::Server(Server::Sentinel(sentinels)) => sentinels.shown(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(seeds) => seeds.shown(),
        }
    }

    /// Whether all of it is spoken to over TLS.
    #[cfg(feature = "redis-rustls")]
    pub(super) fn is_encrypted(&self) -> bool {
        match self {
            Self::Server(Server::Single(target)) => target.is_encrypted(),
            #[cfg(feature = "redis-sentinel")]
            Self::Server(Server::Sentinel(sentinels)) => sentinels.login.encrypted,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(seeds) => seeds.login.encrypted,
        }
    }
}

impl Server {
    /// Within the deadline of connecting.
    pub(super) async fn open(&self, opening: &Opening) -> Result<Link, StoreError> {
        let opened = match self {
            Self::Single(target) => target.clone().open_in_a_task(opening).await,
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinel(sentinels) => sentinels.open(opening).await,
        };
        match opened {
            // No command's: everybody who hears of it at once would be a failure to the breaker.
            Err(error) if error.is_timeout() => {
                Err(StoreError::not_connected(Some(Arc::new(error))))
            }
            opened => opened,
        }
    }
}

impl Login {
    fn of(info: &ConnectionInfo, protocol: Option<ProtocolVersion>) -> Self {
        let settings = info.redis_settings();
        Self {
            user: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            database: settings.db(),
            protocol,
            #[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
            encrypted: false,
        }
    }

    /// One of the servers.
    #[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
    pub(super) fn at(&self, host: &str, port: u16) -> Target {
        let host = host.to_owned();
        let addr = if self.encrypted {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        Target::new(addr, self.clone())
    }
}

/// How long a connection may take, and a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

fn needs(what: &str, feature: &str) -> ConfigError {
    ConfigError::new(format!(
        "{what} needs the feature {feature} of tower-api-token"
    ))
}

fn unreadable() -> ConfigError {
    ConfigError::new("the Redis URL cannot be read")
}

/// Whether what ends the authority (RFC 3986 section 3.2) stands in front of an @, as in a password
/// that is not escaped: what the password begins with would be taken for a host and shown.
fn is_cut_short(rest: &str) -> bool {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[end..].contains('@')
}

/// What follows the hosts of a URL. A parameter that is not known is refused: it was meant to do
/// something. So is a fragment, such as the `#insecure` of other clients.
pub(super) struct Query<'a> {
    /// What stands before it.
    pub(super) before: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    pub(super) fn parse(rest: &'a str, known: &[&str]) -> Result<Self, ConfigError> {
        if rest.contains('#') {
            return Err(ConfigError::new("a Redis URL has no #fragment"));
        }
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        let parameters: Vec<_> = parameters
            .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
            .collect();
        if parameters.iter().any(|(name, _)| !known.contains(name)) {
            let known = known.join(", ");
            return Err(ConfigError::new(format!(
                "the Redis URL has a parameter that is not known; this kind of URL has: {known}"
            )));
        }
        Ok(Self { before, parameters })
    }

    /// The last of this name, as it is written.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let mut parameters = self.parameters.iter().rev();
        parameters
            .find(|parameter| parameter.0 == name)
            .map(|parameter| parameter.1)
    }

    pub(super) fn protocol(&self) -> Result<Option<ProtocolVersion>, ConfigError> {
        match self.get("protocol") {
            None => Ok(None),
            Some("resp2" | "2") => Ok(Some(ProtocolVersion::RESP2)),
            Some("resp3" | "3") => Ok(Some(ProtocolVersion::RESP3)),
            Some(_) => Err(ConfigError::new(
                "the parameter protocol of a Redis URL is resp2 or resp3",
            )),
        }
    }
}

fn connection_info(url: &str) -> Result<ConnectionInfo, ConfigError> {
    url.into_connection_info().map_err(|_| unreadable())
}

/// Small commands are sent at once, and a peer that is gone without a word is found by the kernel
/// within seconds instead of a quarter of an hour.
pub(super) fn tcp_settings() -> TcpSettings {
    const PATIENCE: Duration = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(PATIENCE)
        .with_interval(PATIENCE);
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(PATIENCE);
    settings
}

/// `[user:password@]host:port,host:port[/path][?query]`, as the parts that the kinds with several hosts
/// need.
#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
pub(super) struct Hosts<'a> {
    encrypted: bool,
    credentials: Option<&'a str>,
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) path: Vec<&'a str>,
    pub(super) query: Query<'a>,
}

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
impl<'a> Hosts<'a> {
    pub(super) fn parse(
        scheme: &str,
        rest: &'a str,
        default_port: u16,
        known: &[&str],
    ) -> Result<Self, ConfigError> {
        let query = Query::parse(rest, known)?;
        let (authority, path) = query.before.split_once('/').unwrap_or((query.before, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let host = |host: &str| {
            // Through the client's own parser, which knows of IPv6 and of what is no host.
            let info = connection_info(&format!("redis://{host}"))?;
            match info.addr() {
                ConnectionAddr::Tcp(name, port) => {
                    let named = host.trim_end_matches(']').contains(':') && !host.ends_with(']');
                    Ok((name.clone(), if named { *port } else { default_port }))
                }
                _ => Err(unreadable()),
            }
        };
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        let path = path.split('/').filter(|part| !part.is_empty()).collect();
        Ok(Self {
            encrypted: scheme.starts_with("rediss"),
            credentials,
            hosts,
            path,
            query,
        })
    }

    /// What the data's servers are told.
    pub(super) fn login(&self, database: Option<&str>) -> Result<Login, ConfigError> {
        let credentials = self.credentials.unwrap_or_default();
        let mut login = login(credentials, database.unwrap_or_default())?;
        login.protocol = self.query.protocol()?;
        login.encrypted = self.encrypted;
        Ok(login)
    }

    /// What the sentinels are told: they have users of their own.
    #[cfg(feature = "redis-sentinel")]
    pub(super) fn sentinels_login(&self) -> Result<Login, ConfigError> {
        let user = self.query.get("sentinel_username").unwrap_or_default();
        let mut login = match self.query.get("sentinel_password") {
            Some(password) => login(&format!("{user}:{password}"), "")?,
            None if user.is_empty() => login("", "")?,
            None => {
                return Err(ConfigError::new(
                    "sentinel_username in a Redis URL needs sentinel_password",
                ));
            }
        };
        // Nothing of RESP3 is of use with them, and old ones have none.
        login.protocol = Some(ProtocolVersion::RESP2);
        login.encrypted = self.encrypted;
        Ok(login)
    }

    pub(super) fn shown(hosts: &[(String, u16)]) -> String {
        let shown: Vec<String> = hosts
            .iter()
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        shown.join(",")
    }
}

/// By way of the client's own parser, which decodes them.
#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
fn login(credentials: &str, database: &str) -> Result<Login, ConfigError> {
    let at = if credentials.is_empty() { "" } else { "@" };
    let rest = format!("{credentials}{at}host/{database}");
    if is_cut_short(&rest) {
        return Err(unreadable());
    }
    Ok(Login::of(
        &connection_info(&format!("redis://{rest}"))?,
        None,
    ))
}

#[cfg(feature = "redis-cluster")]
pub(super) mod cluster {
    use super::*;

    /// Some nodes of a cluster, to learn the others from, and what every node is told of us.
    #[derive(Clone)]
    pub(in super::super) struct Seeds {
        hosts: Vec<(String, u16)>,
        pub(super) login: Login,
    }

    pub(super) fn parse(scheme: &str, rest: &str) -> Result<Seeds, ConfigError> {
        let hosts = Hosts::parse(scheme, rest, 6379, &["protocol"])?;
        if !hosts.path.is_empty() {
            return Err(ConfigError::new("a cluster URL has no database"));
        }
        Ok(Seeds {
            login: hosts.login(None)?,
            hosts: hosts.hosts,
        })
    }

    impl Seeds {
        pub(super) fn shown(&self) -> String {
            Hosts::shown(&self.hosts)
        }

        pub(in super::super) fn addresses(&self) -> &[(String, u16)] {
            &self.hosts
        }

        /// One of the cluster's nodes.
        pub(in super::super) fn server(&self, host: &str, port: u16) -> Server {
            Server::Single(self.login.at(host, port))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_ends_the_authority_is_refused_and_not_shown() {
        let secrets = ["31337/word", "31337?word", "31337#word", "31337/w@rd"];
        let schemes = ["redis", "rediss", "redis+sentinel", "redis+cluster"];
        for (scheme, secret) in schemes
            .iter()
            .flat_map(|scheme| secrets.map(|it| (scheme, it)))
        {
            let url = format!("{scheme}://user:{secret}@host:6379/0");
            let error = match Endpoint::parse(&url) {
                Ok(endpoint) => panic!("{}", endpoint.shown()),
                Err(error) => error.to_string(),
            };
            assert!(!error.contains("31337"), "{error}");
        }
        let escaped = "redis://user:31337%2Fword@host:6379/0";
        let endpoint = Endpoint::parse(escaped).unwrap();
        assert_eq!(endpoint.shown(), "host:6379");
    }

    #[test]
    fn what_a_url_says_and_is_not_known_is_refused_and_not_shown() {
        for (url, words) in [
            ("redis://host?31337=1", "this kind of URL has: protocol"),
            ("redis://host/0?protocol=resp2&timeout=31337", "not known"),
            ("redis://host?protocol=31337", "resp2 or resp3"),
            ("unix:///socket?database=31337", "db, user, pass, protocol"),
            ("rediss://host/#31337", "fragment"),
            ("redis+sentinel://host/name?31337", "sentinel_password"),
            (
                "redis+sentinel://host/name?sentinel_username=31337",
                "needs sentinel_password",
            ),
            (
                "redis+sentinel://host/name?sentinel_password=31337/",
                "cannot be read",
            ),
            (
                "redis+cluster://host?db=31337",
                "this kind of URL has: protocol",
            ),
            ("redis+cluster://host/31337", "no database"),
            ("http://31337", "begins with"),
            ("31337", "begins with"),
        ] {
            let error = match Endpoint::parse(url) {
                Ok(endpoint) => panic!("{url} is {}", endpoint.shown()),
                Err(error) => error.to_string(),
            };
            // Without the feature that a kind of URL needs, that is said.
            if !error.contains("needs the feature") {
                assert!(error.contains(words), "{url}: {error}");
            }
            assert!(!error.contains("31337"), "{error}");
        }
    }
}
