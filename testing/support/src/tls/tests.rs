use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;

/// Sends `PING` over TLS, trusts `ca`, and uses the `client` certificate and key, if any.
fn ping(addr: SocketAddr, host: &str, ca: &str, client: Option<(&str, &str)>) -> io::Result<()> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some((cert, key)) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let tls = ClientConnection::new(Arc::new(config), host).unwrap();
    let tcp = TcpStream::connect(addr)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(tls, tcp);
    stream.write_all(b"PING\r\n")?;
    let mut pong = [0; 7];
    stream.read_exact(&mut pong)?;
    assert_eq!(&pong, b"+PONG\r\n");
    Ok(())
}

#[test]
fn client_that_trusts_the_authority_is_served() {
    let redis = TlsRedisServer::start();
    assert_eq!(redis.url(), format!("rediss://127.0.0.1:{}/", redis.port()));
    let proxy = crate::FaultProxy::start(redis.addr());
    for host in ["127.0.0.1", "localhost"] {
        for addr in [redis.addr(), proxy.addr()] {
            ping(addr, host, redis.ca_pem(), None).unwrap();
        }
    }
    ping(redis.addr(), "redis.example", redis.ca_pem(), None).unwrap_err();
}

#[test]
fn client_that_trusts_another_authority_rejects_the_server() {
    let redis = TlsRedisServer::start();
    let refusal = ping(redis.addr(), "localhost", redis.stranger_ca_pem(), None).unwrap_err();
    assert!(refusal.to_string().contains("UnknownIssuer"), "{refusal}");
}

#[test]
fn plain_text_is_rejected_at_the_tls_port() {
    let redis = TlsRedisServer::start();
    let mut stream = TcpStream::connect(redis.addr()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut answer = Vec::new();
    // The connection may be closed or reset, but there is no reply of Redis.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"+"), "{answer:?}");
}

#[test]
fn mutual_server_accepts_only_certificates_of_its_authority() {
    let redis = TlsRedisServer::start_mutual();
    let ping = |client| ping(redis.addr(), "localhost", redis.ca_pem(), client);
    ping(Some((redis.client_cert_pem(), redis.client_key_pem()))).unwrap();
    ping(None).unwrap_err();
    ping(Some((redis.stranger_cert_pem(), redis.stranger_key_pem()))).unwrap_err();
}

#[test]
fn restart_keeps_the_certificates() {
    let redis = TlsRedisServer::start();
    redis.command(&["SET", "a", "1"]).ok();
    redis.server().save_and_restart();
    assert_eq!(redis.server().keys("*"), ["a"]);
    ping(redis.addr(), "localhost", redis.ca_pem(), None).unwrap();
    redis.server().kill();
    ping(redis.addr(), "localhost", redis.ca_pem(), None).unwrap_err();
}
