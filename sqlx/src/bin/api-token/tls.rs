//! TLS to Redis.

use std::fs;

use tower_api_token::RedisStore;
use tower_api_token::store::RedisTls;

use crate::exit::Failure;
use crate::settings::Certificates;

const CLIENT: &str = "REDIS_CLIENT_CERT_FILE";
const CLIENT_KEY: &str = "REDIS_CLIENT_KEY_FILE";

/// Sets the certificates, and the process's crypto provider.
pub(crate) fn with(store: RedisStore, paths: &Certificates) -> Result<RedisStore, Failure> {
    // Fails only if it is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut tls = RedisTls::new();
    if let Some(path) = &paths.ca {
        tls = tls.ca_certificate(read("REDIS_CA_FILE", path)?);
    }
    tls = match (&paths.client, &paths.client_key) {
        (None, None) => tls,
        (Some(certificate), Some(key)) => {
            tls.identity(read(CLIENT, certificate)?, read(CLIENT_KEY, key)?)
        }
        _ => {
            return Err(Failure::usage(format!(
                "{CLIENT}: needs {CLIENT_KEY}, and it {CLIENT}"
            )));
        }
    };
    Ok(store.tls(tls))
}

fn read(name: &str, path: &str) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::usage(format!("{name}: cannot be read: {error}")))
}
