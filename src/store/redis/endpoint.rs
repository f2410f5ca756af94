//! Where Redis is: one server, whatever master the sentinels name, or a cluster.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisResult,
};

#[cfg(any(
    feature = "redis-rustls",
    feature = "redis-sentinel",
    feature = "redis-cluster"
))]
use redis::ConnectionAddr;

use crate::ConfigError;

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
    Single(Client),
    #[cfg(feature = "redis-sentinel")]
    Sentinel(sentinel::Sentinels),
}

impl Endpoint {
    /// # Errors
    /// The text is no such URL, or of a kind that needs another feature. It is not repeated: it may
    /// hold a password.
    pub(super) fn parse(url: &str, tls: &Tls) -> Result<Self, ConfigError> {
        let parts = url.split_once("://").unwrap_or_default();
        if !parts.0.ends_with("unix") && is_cut_short(parts.1) {
            return Err(ConfigError::new(
                "the Redis URL has an @ behind its hosts: in a password write / ? # as %2F %3F %23",
            ));
        }
        match parts.0 {
            "redis" => Self::single(url, tls),
            "unix" | "redis+unix" if cfg!(unix) => Self::single(url, tls),
            "rediss" if cfg!(feature = "redis-rustls") => Self::single(url, tls),
            #[cfg(feature = "redis-sentinel")]
            "redis+sentinel" => sentinel::parse(parts.1)
                .map(Server::Sentinel)
                .map(Self::Server),
            #[cfg(feature = "redis-cluster")]
            "redis+cluster" => cluster::parse(parts.1).map(Self::Cluster),
            "rediss" => Err(needs("TLS", "redis-rustls")),
            #[cfg(not(feature = "redis-sentinel"))]
            "redis+sentinel" => Err(needs("Redis Sentinel", "redis-sentinel")),
            #[cfg(not(feature = "redis-cluster"))]
            "redis+cluster" => Err(needs("Redis Cluster", "redis-cluster")),
            _ => Err(ConfigError::new(
                "a Redis URL begins with redis://, rediss://, unix://, redis+sentinel:// or \
                 redis+cluster://",
            )),
        }
    }

    fn single(url: &str, tls: &Tls) -> Result<Self, ConfigError> {
        let info = connection_info(url)?;
        #[cfg(feature = "redis-rustls")]
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            let client = tls.client(info)?;
            return Ok(Self::Server(Server::Single(client)));
        }
        let _ = tls;
        let client =
            Client::open(info).map_err(|_| ConfigError::new("the Redis URL cannot be used"))?;
        Ok(Self::Server(Server::Single(client)))
    }

    /// What may be shown: addresses, and no password.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Server(Server::Single(client)) => client.get_connection_info().addr().to_string(),
            #[cfg(feature = "redis-sentinel")]
            Self::Server(Server::Sentinel(sentinels)) => sentinels.shown(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(seeds) => seeds.shown(),
        }
    }
}

impl Server {
    pub(super) async fn open(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        match self {
            Self::Single(client) => {
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await
            }
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinel(sentinels) => sentinels.open(config).await,
        }
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

fn connection_info(url: &str) -> Result<ConnectionInfo, ConfigError> {
    let info = url.into_connection_info().map_err(|_| unreadable())?;
    // RESP3 tells of a closed connection at once, and not at the next command.
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    Ok(info
        .set_tcp_settings(tcp_settings())
        .set_redis_settings(settings))
}

/// Small commands are sent at once, and a peer that is gone without a word is found by the kernel
/// within seconds instead of a quarter of an hour.
fn tcp_settings() -> TcpSettings {
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

/// `[user:password@]host:port,host:port[/path]`, as the parts that the kinds with several hosts need.
#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
struct Hosts<'a> {
    credentials: Option<&'a str>,
    hosts: Vec<(String, u16)>,
    path: Vec<&'a str>,
}

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
impl<'a> Hosts<'a> {
    fn parse(rest: &'a str, default_port: u16) -> Result<Self, ConfigError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
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
            credentials,
            hosts,
            path,
        })
    }

    /// The settings of a data connection, by way of the client's own parser.
    fn settings(&self, database: Option<&str>) -> Result<redis::RedisConnectionInfo, ConfigError> {
        let credentials = self
            .credentials
            .map(|text| format!("{text}@"))
            .unwrap_or_default();
        let database = database.map(|text| format!("/{text}")).unwrap_or_default();
        let info = connection_info(&format!("redis://{credentials}host{database}"))?;
        Ok(info.redis_settings().clone())
    }

    fn shown(hosts: &[(String, u16)]) -> String {
        let shown: Vec<String> = hosts
            .iter()
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        shown.join(",")
    }
}

#[cfg(feature = "redis-sentinel")]
pub(super) mod sentinel {
    use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};

    use super::*;

    /// Sentinels, and the name of the master that they watch.
    #[derive(Clone)]
    pub(in super::super) struct Sentinels {
        hosts: Vec<(String, u16)>,
        master: String,
        settings: redis::RedisConnectionInfo,
    }

    pub(super) fn parse(rest: &str) -> Result<Sentinels, ConfigError> {
        let hosts = Hosts::parse(rest, 26379)?;
        let (master, database) = match hosts.path[..] {
            [master] => (master, None),
            [master, database] => (master, Some(database)),
            _ => {
                return Err(ConfigError::new(
                    "a sentinel URL ends with /master-name[/database]",
                ));
            }
        };
        Ok(Sentinels {
            settings: hosts.settings(database)?,
            master: master.to_owned(),
            hosts: hosts.hosts,
        })
    }

    impl Sentinels {
        pub(super) fn shown(&self) -> String {
            format!("{} of {}", self.master, Hosts::shown(&self.hosts))
        }

        /// To whoever is master now: the sentinels are asked anew at each connection.
        pub(super) async fn open(
            &self,
            config: &AsyncConnectionConfig,
        ) -> RedisResult<MultiplexedConnection> {
            self.client()?
                .get_async_connection_with_config(config)
                .await
        }

        fn client(&self) -> RedisResult<SentinelClient> {
            let address = |(host, port): &(String, u16)| ConnectionAddr::Tcp(host.clone(), *port);
            let builder = SentinelClientBuilder::new(
                self.hosts.iter().map(address),
                self.master.clone(),
                SentinelServerType::Master,
            )?;
            let mut builder = builder
                .set_client_to_redis_protocol(ProtocolVersion::RESP3)
                .set_client_to_redis_tcp_settings(tcp_settings())
                .set_client_to_sentinel_tcp_settings(tcp_settings())
                .set_client_to_redis_db(self.settings.db());
            if let Some(username) = self.settings.username() {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = self.settings.password() {
                builder = builder.set_client_to_redis_password(password);
            }
            builder.build()
        }
    }
}

#[cfg(feature = "redis-cluster")]
pub(super) mod cluster {
    use super::*;

    /// Some nodes of a cluster, to learn the others from, and what every node is told of us.
    #[derive(Clone)]
    pub(in super::super) struct Seeds {
        hosts: Vec<(String, u16)>,
        settings: redis::RedisConnectionInfo,
    }

    pub(super) fn parse(rest: &str) -> Result<Seeds, ConfigError> {
        let hosts = Hosts::parse(rest, 6379)?;
        if !hosts.path.is_empty() {
            return Err(ConfigError::new("a cluster URL has no database"));
        }
        Ok(Seeds {
            settings: hosts.settings(None)?,
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
        pub(in super::super) fn server(&self, host: &str, port: u16) -> RedisResult<Server> {
            let info = (host, port)
                .into_connection_info()?
                .set_tcp_settings(tcp_settings())
                .set_redis_settings(self.settings.clone());
            Client::open(info).map(Server::Single)
        }
    }
}

/// What TLS needs beyond the URL.
#[derive(Clone, Default)]
pub(super) struct Tls {
    #[cfg(feature = "redis-rustls")]
    pub(super) root_certificates: Option<Vec<u8>>,
    #[cfg(feature = "redis-rustls")]
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

#[cfg(feature = "redis-rustls")]
impl Tls {
    fn client(&self, info: ConnectionInfo) -> Result<Client, ConfigError> {
        // The client would take a text without any for an empty list, and trust nobody.
        let any = |pem: &[u8]| {
            pem.windows(27)
                .any(|at| at == b"-----BEGIN CERTIFICATE-----")
        };
        let certificates = self.client.iter().map(|(certificate, _)| certificate);
        if !certificates
            .chain(&self.root_certificates)
            .all(|pem| any(pem))
        {
            return Err(ConfigError::new(
                "the certificates for Redis are not in PEM",
            ));
        }
        let certificates = redis::TlsCertificates {
            client_tls: self
                .client
                .as_ref()
                .map(|(certificate, key)| redis::ClientTlsConfig {
                    client_cert: certificate.clone(),
                    client_key: key.clone(),
                }),
            root_cert: self.root_certificates.clone(),
        };
        Client::build_with_tls(info, certificates)
            .map_err(|_| ConfigError::new("the certificates for Redis cannot be used"))
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
            let error = match Endpoint::parse(&url, &Tls::default()) {
                Ok(endpoint) => panic!("{}", endpoint.shown()),
                Err(error) => error.to_string(),
            };
            assert!(!error.contains("31337"), "{error}");
        }
        let escaped = "redis://user:31337%2Fword@host:6379/0";
        let endpoint = Endpoint::parse(escaped, &Tls::default()).unwrap();
        assert_eq!(endpoint.shown(), "host:6379");
    }
}
