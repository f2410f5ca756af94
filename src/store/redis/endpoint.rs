//! The kind of Redis that a URL leads to.

#[cfg(feature = "redis-cluster")]
use super::cluster::seeds::Seeds;
use super::transport::handshake::Target;
use super::transport::login::Login;
#[cfg(feature = "redis-sentinel")]
use super::transport::sentinel::Sentinels;
use super::transport::server::Server;
use super::transport::url::{Query, connection_info, is_cut_short};
use crate::error::ConfigError;

/// A parsed URL; see [`RedisStore::new`](super::store::RedisStore::new).
#[derive(Clone)]
pub(super) enum Endpoint {
    Server(Server),
    #[cfg(feature = "redis-cluster")]
    Cluster(Seeds),
}

impl Endpoint {
    /// # Errors
    /// Returns an error if `url` is malformed or needs a disabled crate feature. The error does not repeat
    /// `url`, which may hold a password.
    pub(super) fn parse(url: &str) -> Result<Self, ConfigError> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase().replacen("valkey", "redis", 1);
        if !scheme.ends_with("unix") && is_cut_short(rest) {
            return Err(ConfigError::new(
                "the Redis URL has an @ after its hosts: in a password write / ? # @ as %2F %3F %23 %40",
            ));
        }
        if scheme.starts_with("rediss") && !cfg!(feature = "redis-rustls") {
            return Err(needs("TLS", "redis-rustls"));
        }
        match &*scheme {
            "redis" | "rediss" => single(&scheme, rest, &["protocol"]),
            "unix" | "redis+unix" if cfg!(unix) => {
                single(&scheme, rest, &["db", "user", "pass", "protocol"])
            }
            #[cfg(feature = "redis-sentinel")]
            "redis+sentinel" | "rediss+sentinel" => {
                let sentinels = Sentinels::parse(&scheme, rest)?;
                Ok(Self::Server(Server::Sentinel(sentinels)))
            }
            #[cfg(feature = "redis-cluster")]
            "redis+cluster" | "rediss+cluster" => Seeds::parse(&scheme, rest).map(Self::Cluster),
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

    /// Returns whether all of its servers are connected to over TLS.
    #[cfg(feature = "redis-rustls")]
    pub(super) fn is_encrypted(&self) -> bool {
        match self {
            Self::Server(server) => server.is_encrypted(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(seeds) => seeds.is_encrypted(),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        match self {
            Self::Server(_) => false,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => true,
        }
    }

    /// Returns the addresses, without a password.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Server(server) => server.shown(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(seeds) => seeds.shown(),
        }
    }
}

fn single(scheme: &str, rest: &str, known: &[&str]) -> Result<Endpoint, ConfigError> {
    let query = Query::parse(rest, known)?;
    // redis-rs' parser reads the query of a socket's URL.
    let rest = if scheme.ends_with("unix") {
        rest
    } else {
        query.before
    };
    let info = connection_info(&format!("{scheme}://{rest}"))?;
    let login = Login::new(&info, query.protocol()?);
    let target = Target::new(info.addr().clone(), login);
    Ok(Endpoint::Server(Server::Single(target)))
}

fn needs(what: &str, feature: &str) -> ConfigError {
    ConfigError::new(format!(
        "{what} needs the feature {feature} of tower-api-token"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unescaped_password_is_refused_and_not_shown() {
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

    #[cfg(all(
        feature = "redis-rustls",
        feature = "redis-sentinel",
        feature = "redis-cluster"
    ))]
    #[test]
    fn a_url_says_which_servers_are_connected_to_and_whether_over_tls() {
        for (rest, servers) in [
            ("://user:31337@host", "host:6379"),
            ("+cluster://:31337@a,b:7000", "a:6379,b:7000"),
            ("+sentinel://user:31337@a:1,b/name", "name of a:1,b:26379"),
            ("+sentinel://host/name/3", "name of host:26379"),
        ] {
            for (scheme, encrypted) in [("redis", false), ("rediss", true)] {
                let endpoint = Endpoint::parse(&format!("{scheme}{rest}")).unwrap();
                assert_eq!(endpoint.shown(), servers);
                assert_eq!(endpoint.is_encrypted(), encrypted, "{scheme}{rest}");
            }
        }
    }

    #[test]
    fn unknown_parts_of_a_url_are_refused_and_not_shown() {
        for (url, words) in [
            ("redis://host?31337=1", "this kind of URL has: protocol"),
            (
                "redis://host/0?protocol=resp2&timeout=31337",
                "unknown parameter",
            ),
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
                "cannot be parsed",
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
