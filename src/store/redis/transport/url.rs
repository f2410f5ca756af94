//! The parts of a Redis URL. No error repeats a part of it, which may be a password.

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
use redis::ConnectionAddr;
use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
use super::login::Login;
use crate::error::ConfigError;

/// Parses a URL by redis-rs, which decodes its credentials.
pub(crate) fn connection_info(url: &str) -> Result<ConnectionInfo, ConfigError> {
    url.into_connection_info().map_err(|_| unreadable())
}

fn unreadable() -> ConfigError {
    ConfigError::new("the Redis URL cannot be parsed")
}

/// Returns whether the authority (RFC 3986 section 3.2) ends before an @, as by a password that is not
/// escaped: the beginning of the password would be taken for a host, and shown.
pub(crate) fn is_cut_short(rest: &str) -> bool {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[end..].contains('@')
}

/// The query of a URL. Unknown parameters are an error, because they were meant to have an effect. So is
/// a fragment, such as the `#insecure` of other clients.
pub(crate) struct Query<'a> {
    /// The part of the URL before the query.
    pub(crate) before: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    pub(crate) fn parse(rest: &'a str, known: &[&str]) -> Result<Self, ConfigError> {
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
                "the Redis URL has an unknown parameter; this kind of URL has: {known}"
            )));
        }
        Ok(Self { before, parameters })
    }

    /// Returns the last parameter of this name, not decoded.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let mut parameters = self.parameters.iter().rev();
        parameters
            .find(|parameter| parameter.0 == name)
            .map(|parameter| parameter.1)
    }

    pub(crate) fn protocol(&self) -> Result<Option<ProtocolVersion>, ConfigError> {
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

/// A URL with several hosts: `[user:password@]host:port,host:port[/path][?query]`.
#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
pub(crate) struct Hosts<'a> {
    encrypted: bool,
    credentials: Option<&'a str>,
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) path: Vec<&'a str>,
    pub(crate) query: Query<'a>,
}

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
impl<'a> Hosts<'a> {
    pub(crate) fn parse(
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
            // redis-rs' parser handles IPv6 addresses and rejects invalid hosts.
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

    /// Returns the login for the servers that hold data.
    pub(crate) fn login(&self, database: Option<&str>) -> Result<Login, ConfigError> {
        let credentials = self.credentials.unwrap_or_default();
        let mut login = login(credentials, database.unwrap_or_default())?;
        login.protocol = self.query.protocol()?;
        login.encrypted = self.encrypted;
        Ok(login)
    }

    /// Returns the login for the sentinels, which have their own users.
    #[cfg(feature = "redis-sentinel")]
    pub(crate) fn sentinels_login(&self) -> Result<Login, ConfigError> {
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
        // Nothing in RESP3 is useful with sentinels, and old ones do not have it.
        login.protocol = Some(ProtocolVersion::RESP2);
        login.encrypted = self.encrypted;
        Ok(login)
    }

    pub(crate) fn shown(hosts: &[(String, u16)]) -> String {
        let shown: Vec<String> = hosts
            .iter()
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        shown.join(",")
    }
}

#[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
fn login(credentials: &str, database: &str) -> Result<Login, ConfigError> {
    let at = if credentials.is_empty() { "" } else { "@" };
    let rest = format!("{credentials}{at}host/{database}");
    if is_cut_short(&rest) {
        return Err(unreadable());
    }
    Ok(Login::new(
        &connection_info(&format!("redis://{rest}"))?,
        None,
    ))
}

#[cfg(all(test, any(feature = "redis-sentinel", feature = "redis-cluster")))]
mod tests {
    use super::*;

    #[test]
    fn hosts_without_a_port_have_the_default_one() {
        let rest = "user:secret@a,b:7000,[::1],[::2]:7001/name";
        let hosts = Hosts::parse("redis+sentinel", rest, 26379, &[]).unwrap();
        let shown = Hosts::shown(&hosts.hosts);
        assert_eq!(shown, "a:26379,b:7000,::1:26379,::2:7001");
        assert_eq!(hosts.path, ["name"]);
    }
}
