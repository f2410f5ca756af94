//! TLS with certificates of one's own, which are read at each connect.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};

/// Certificates for TLS to Redis, in PEM.
///
/// Files are read at each connect. A certificate that is renewed in place is used from the next
/// connection on, and a file that cannot be used costs attempts to connect until it is put right.
///
/// ```
/// use tower_api_token::{RedisStore, RedisTls};
///
/// let tls = RedisTls::new()
///     .ca_certificate_file("/etc/redis/ca.pem")
///     .identity_files("/etc/redis/client.pem", "/etc/redis/client.key");
/// let store = RedisStore::connect("rediss://redis.internal:6379")?.tls(tls);
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
    pub(super) const NOT_ENCRYPTED: &str =
        "there are certificates for Redis, and its URL does not ask for TLS, as rediss:// does";

    /// Creates settings without certificates: the machine's own list of authorities is used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the certificates of the authorities that the server's has to be signed by, instead of the
    /// machine's own list.
    #[must_use]
    pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authority = Some(Pem::text(pem));
        self
    }

    /// Sets the file that holds the authorities' certificates.
    #[must_use]
    pub fn ca_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authority = Some(Pem::File(path.into()));
        self
    }

    /// Sets the client's certificate, with those that lead to its authority, and its private key.
    #[must_use]
    pub fn identity(
        mut self,
        certificate: impl Into<Vec<u8>>,
        private_key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((Pem::text(certificate), Pem::text(private_key)));
        self
    }

    /// Sets the files that hold the client's certificate and its private key.
    #[must_use]
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        private_key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(private_key.into())));
        self
    }

    /// Reads what has to be read, and blocks meanwhile.
    ///
    /// # Errors
    /// Says which of them cannot be used, and nothing of what it holds.
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
        // Its error may quote a line of a key.
        Client::build_with_tls(info, certificates).map_err(|_| {
            "the certificates for Redis cannot be used: a part of their PEM is broken".to_owned()
        })
    }
}

impl Pem {
    fn text(pem: impl Into<Vec<u8>>) -> Self {
        Self::Text(pem.into().into())
    }

    /// The client takes a text without any part for an empty list, and would trust nobody.
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
            Self::Text(_) => "what is given for Redis".to_owned(),
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
