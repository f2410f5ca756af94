//! The nodes that a cluster's URL names.

use crate::error::ConfigError;
use crate::store::redis::transport::handshake::Target;
use crate::store::redis::transport::login::Login;
use crate::store::redis::transport::server::Server;
use crate::store::redis::transport::url::Hosts;

/// Some nodes of a cluster, from which the others are learnt, and the login for each node.
#[derive(Clone)]
pub(crate) struct Seeds {
    hosts: Vec<(String, u16)>,
    login: Login,
}

impl Seeds {
    pub(crate) fn parse(scheme: &str, rest: &str) -> Result<Self, ConfigError> {
        let hosts = Hosts::parse(scheme, rest, 6379, &["protocol"])?;
        if !hosts.path.is_empty() {
            return Err(ConfigError::new("a cluster URL has no database"));
        }
        Ok(Self {
            login: hosts.login(None)?,
            hosts: hosts.hosts,
        })
    }

    pub(crate) fn shown(&self) -> String {
        Hosts::shown(&self.hosts)
    }

    #[cfg(feature = "redis-rustls")]
    pub(crate) fn is_encrypted(&self) -> bool {
        self.login.encrypted
    }

    pub(crate) fn addresses(&self) -> &[(String, u16)] {
        &self.hosts
    }

    /// Returns the node at an address of the cluster.
    pub(crate) fn server(&self, host: &str, port: u16) -> Server {
        Server::Single(Target::in_group(&self.login, host, port))
    }
}
