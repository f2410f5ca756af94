//! Certificates for TLS, which are read for each connection.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use redis::{Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::error::ConfigError;

/// Certificates for TLS to Redis, in PEM.
///
/// Files are read for each connection. A certificate that is renewed in place is used from the next
/// connection on. While a file cannot be used, attempts to connect fail.
///
/// ```
/// use tower_api_token::store::RedisTls;
/// use tower_api_token::RedisStore;
///
/// let tls = RedisTls::new()
///     .ca_certificate_file("/etc/redis/ca.pem")
///     .identity_files("/etc/redis/client.pem", "/etc/redis/client.key");
/// let store = RedisStore::new("rediss://redis.internal:6379")?.tls(tls);
/// # let _ = store;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct RedisTls {
    authority: Option<Pem>,
    identity: Option<(Pem, Pem)>,
}

#[derive(Clone)]
enum Pem {
    Text(Arc<[u8]>),
    File(PathBuf),
}

impl RedisTls {
    /// Creates settings without certificates: the machine's list of authorities is used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the certificates of the authorities that may sign the server's, instead of the machine's list.
    #[must_use]
    pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authority = Some(Pem::text(pem));
        self
    }

    /// Sets a file with the authorities' certificates, which is read for each connection.
    #[must_use]
    pub fn ca_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authority = Some(Pem::File(path.into()));
        self
    }

    /// Sets the client's certificate, with the chain to its authority, and its private key.
    #[must_use]
    pub fn identity(
        mut self,
        certificate: impl Into<Vec<u8>>,
        private_key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((Pem::text(certificate), Pem::text(private_key)));
        self
    }

    /// Sets files with the client's certificate and its private key, which are read for each connection.
    #[must_use]
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        private_key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(private_key.into())));
        self
    }

    /// Checks the certificates and keys that are given as text. Files may be written later.
    ///
    /// # Errors
    /// Says which text cannot be used, without its contents.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_text = |pem: &Pem| matches!(pem, Pem::Text(_));
        let authority = Self {
            authority: self.authority.clone().filter(is_text),
            identity: None,
        };
        authority.check_texts("ca_certificate")?;
        // Both parts of an identity are texts, or both are files.
        let identity = Self {
            authority: None,
            identity: self.identity.clone().filter(|(part, _)| is_text(part)),
        };
        identity.check_texts("identity")
    }

    fn check_texts(&self, setting: &'static str) -> Result<(), ConfigError> {
        match "rediss://host".into_connection_info() {
            Ok(info) => self
                .client(info)
                .map(drop)
                .map_err(|error| ConfigError::of(setting, error)),
            Err(_) => Ok(()),
        }
    }

    /// Creates a client, and blocks while it reads files.
    ///
    /// # Errors
    /// Says which certificate or key cannot be used, without its contents.
    pub(super) fn client(&self, info: ConnectionInfo) -> Result<Client, String> {
        const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
        let read = |pem: &Pem, kind| pem.read(kind);
        let root_cert = match &self.authority {
            Some(pem) => Some(read(pem, CERTIFICATE)?),
            None => None,
        };
        let client_tls = match &self.identity {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: read(certificate, CERTIFICATE)?,
                client_key: read(key, "PRIVATE KEY-----")?,
            }),
            None => None,
        };
        let certificates = TlsCertificates {
            client_tls,
            root_cert,
        };
        // The error of redis-rs may quote a line of a key.
        Client::build_with_tls(info, certificates).map_err(|_| {
            "the certificates for Redis cannot be used: a part of their PEM is invalid".to_owned()
        })
    }
}

impl Pem {
    fn text(pem: impl Into<Vec<u8>>) -> Self {
        Self::Text(pem.into().into())
    }

    /// Reads PEM that has at least one `part`: redis-rs takes other text for an empty list, and would trust no
    /// server.
    fn read(&self, part: &str) -> Result<Vec<u8>, String> {
        let pem = match self {
            Self::Text(pem) => pem.to_vec(),
            Self::File(path) => fs::read(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        if pem.windows(part.len()).any(|at| at == part.as_bytes()) {
            return Ok(pem);
        }
        let what = match self {
            Self::Text(_) => "a PEM text for Redis".to_owned(),
            Self::File(path) => path.display().to_string(),
        };
        let part = part.trim_matches('-').trim_start_matches("BEGIN ");
        Err(format!("{what} has no {part} in PEM"))
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("(..)"),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            authority,
            identity,
        } = self;
        f.debug_struct("RedisTls")
            .field("ca_certificate", authority)
            .field("identity", identity)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_to_have_the_wanted_part() {
        let pem = Pem::text("-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n");
        assert!(pem.read("PRIVATE KEY-----").is_ok());
        let error = pem.read("-----BEGIN CERTIFICATE-----").unwrap_err();
        assert_eq!(error, "a PEM text for Redis has no CERTIFICATE in PEM");
    }
}
