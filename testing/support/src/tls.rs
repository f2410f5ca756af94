//! A private Redis server behind TLS, with certificates of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::process::free_port;
use crate::redis::{RedisServer, Reply, node_args, plain_args, program};

/// A private `redis-server` with TLS and a certificate authority of its own.
///
/// The certificates are created at the start (a few milliseconds, ECDSA on P-256), so that none in the repository can
/// expire. The server's certificate is for `127.0.0.1` and `localhost`, so a [`FaultProxy`](crate::FaultProxy) may be in
/// front of it.
///
/// The server also has a port without TLS, for [`server`](Self::server). The port of [`url`](Self::url) accepts TLS only.
///
/// ```
/// use test_support::TlsRedisServer;
///
/// let redis = TlsRedisServer::start();
/// assert!(redis.url().starts_with("rediss://127.0.0.1:"));
/// assert!(redis.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// redis.command(&["SET", "greeting", "hello"]).ok();
/// redis.server().kill();
/// ```
#[derive(Debug)]
pub struct TlsRedisServer {
    server: RedisServer,
    tls_port: u16,
    certificates: Certificates,
}

impl TlsRedisServer {
    /// Starts a server that does not ask for client certificates.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`RedisServer::start`], and if the program is built without TLS.
    pub fn start() -> Self {
        Self::launch("no", &[])
    }

    /// Starts a cluster of one node, which owns all slots and announces its TLS port to clients with TLS.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`start`](Self::start).
    pub fn start_cluster() -> Self {
        let mut args = node_args();
        args.extend(["--tls-cluster", "yes"].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let redis = Self::launch("no", &args);
        redis.server().add_slots(0, 16_383);
        redis
    }

    /// Starts a server that accepts only clients with a certificate of its authority
    /// ([`client_cert_pem`](Self::client_cert_pem)).
    ///
    /// With TLS 1.3 the handshake of other clients succeeds, and their first read fails.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`start`](Self::start).
    pub fn start_mutual() -> Self {
        Self::launch("yes", &[])
    }

    fn launch(auth_clients: &str, further: &[&str]) -> Self {
        let certificates = Certificates::make();
        let mut tls_port = 0;
        let server = RedisServer::start_in(&program(), |dir, port| {
            certificates.write(dir);
            tls_port = free_port();
            let mut args = plain_args(port);
            let tls = ["--tls-port", &tls_port.to_string()];
            let auth = ["--tls-auth-clients", auth_clients];
            let files = [
                ["--tls-cert-file", SERVER_CERT],
                ["--tls-key-file", SERVER_KEY],
                ["--tls-ca-cert-file", CA_CERT],
            ];
            let tls = tls.iter().chain(&auth).chain(files.iter().flatten());
            args.extend(tls.chain(further).map(ToString::to_string));
            args
        });
        Self {
            server,
            tls_port,
            certificates,
        }
    }

    /// Replaces all certificates, including the authority's, in the same files, and restarts the server with them.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`RedisServer::restart`].
    pub fn renew(&mut self) {
        self.certificates = Certificates::make();
        self.certificates.write(self.server.dir());
        self.server.restart();
    }

    /// Returns the file with [`ca_pem`](Self::ca_pem).
    pub fn ca_file(&self) -> PathBuf {
        self.server.dir().join(CA_CERT)
    }

    /// Returns the files with [`client_cert_pem`](Self::client_cert_pem) and [`client_key_pem`](Self::client_key_pem).
    pub fn client_files(&self) -> (PathBuf, PathBuf) {
        let dir = self.server.dir();
        (dir.join(CLIENT_CERT), dir.join(CLIENT_KEY))
    }

    /// Returns `rediss://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        self.url_at(self.addr())
    }

    /// Returns the [`url`](Self::url) with another loopback address, such as that of a [`FaultProxy`](crate::FaultProxy).
    pub fn url_at(&self, addr: SocketAddr) -> String {
        format!("rediss://{addr}/")
    }

    /// Returns the TLS port.
    pub fn port(&self) -> u16 {
        self.tls_port
    }

    /// Returns the loopback address and the TLS port.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.tls_port).into()
    }

    /// Returns the server at its port without TLS, to inspect, kill, restart or pause it. Restarts keep the certificates.
    pub fn server(&self) -> &RedisServer {
        &self.server
    }

    /// Calls [`RedisServer::command`], without TLS.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`RedisServer::command`].
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&self, args: &[A]) -> Reply {
        self.server.command(args)
    }

    /// Returns the certificate of the server's authority, which clients have to trust.
    pub fn ca_pem(&self) -> &str {
        &self.certificates.ca
    }

    /// Returns a client certificate of that authority.
    pub fn client_cert_pem(&self) -> &str {
        &self.certificates.client.cert
    }

    /// Returns the private key of the client certificate (PKCS #8).
    pub fn client_key_pem(&self) -> &str {
        &self.certificates.client.key
    }

    /// Returns the certificate of another authority. A client that trusts only this one must not connect.
    pub fn stranger_ca_pem(&self) -> &str {
        &self.certificates.stranger_ca
    }

    /// Returns a client certificate of that other authority, which [`start_mutual`](Self::start_mutual) must reject.
    pub fn stranger_cert_pem(&self) -> &str {
        &self.certificates.stranger.cert
    }

    /// Returns the private key of that certificate (PKCS #8).
    pub fn stranger_key_pem(&self) -> &str {
        &self.certificates.stranger.key
    }
}

const CA_CERT: &str = "ca.crt";
const SERVER_CERT: &str = "server.crt";
const SERVER_KEY: &str = "server.key";
const CLIENT_CERT: &str = "client.crt";
const CLIENT_KEY: &str = "client.key";

/// All in PEM.
#[derive(Debug)]
struct Certificates {
    ca: String,
    server: Identity,
    client: Identity,
    stranger_ca: String,
    stranger: Identity,
}

#[derive(Debug)]
struct Identity {
    cert: String,
    key: String,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Certificates {
    fn make() -> Self {
        let ours = authority("tower-api-token tests");
        let theirs = authority("some other authority");
        let client = |ca| identity("client", &[], ExtendedKeyUsagePurpose::ClientAuth, ca);
        Self {
            server: identity(
                "redis-server",
                &["127.0.0.1", "localhost"],
                ExtendedKeyUsagePurpose::ServerAuth,
                &ours,
            ),
            client: client(&ours),
            stranger: client(&theirs),
            ca: ours.pem(),
            stranger_ca: theirs.pem(),
        }
    }

    /// Writes the files of the server and of the client.
    fn write(&self, dir: &Path) {
        for (name, pem) in [
            (CA_CERT, &self.ca),
            (SERVER_CERT, &self.server.cert),
            (SERVER_KEY, &self.server.key),
            (CLIENT_CERT, &self.client.cert),
            (CLIENT_KEY, &self.client.key),
        ] {
            std::fs::write(dir.join(name), pem)
                .unwrap_or_else(|error| panic!("cannot write {name}: {error}"));
        }
    }
}

fn authority(name: &str) -> Authority {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key()).expect("an authority signs its own certificate")
}

fn identity(
    name: &str,
    hosts: &[&str],
    usage: ExtendedKeyUsagePurpose,
    ca: &Authority,
) -> Identity {
    let mut params = params(name, hosts);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = key();
    let cert = params
        .signed_by(&key, ca)
        .expect("an authority signs a certificate");
    Identity {
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    // `new` turns IP addresses into IP names.
    let mut params = CertificateParams::new(hosts).expect("the host names are plain");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("cannot make a key")
}

#[cfg(test)]
mod tests;
