//! Values that nobody should read over somebody's shoulder.

use std::fmt;

use tower_api_token::TokenDigest;

use super::StartError;
use crate::random;

/// A `redis://` URL. It may hold a password, so it is shown by its host alone.
#[derive(Clone)]
pub struct RedisUrl(String);

impl RedisUrl {
    pub(super) fn parse(text: &str) -> Result<Self, StartError> {
        let not_built = |what| {
            Err(StartError::of(
                "REDIS_URL",
                format!("{what} is not built yet"),
            ))
        };
        let scheme = text
            .split_once("://")
            .map_or("", |(scheme, _)| scheme)
            .to_ascii_lowercase();
        match scheme.as_str() {
            "redis" => Ok(Self(text.to_owned())),
            "rediss" => not_built("TLS (rediss://)"),
            "redis+cluster" | "rediss+cluster" => not_built("Redis Cluster (redis+cluster://)"),
            "redis+sentinel" | "rediss+sentinel" => not_built("Redis Sentinel (redis+sentinel://)"),
            "redis+unix" | "unix" => not_built("a Unix socket"),
            _ => Err(StartError::of(
                "REDIS_URL",
                "not a URL that begins with redis://",
            )),
        }
    }

    /// The URL, its password included.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        f.write_str(authority.rsplit('@').next().unwrap_or_default())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// The bearer token for `/admin`.
#[derive(Clone)]
pub struct AdminToken {
    digest: TokenDigest,
    /// Kept only if it is ours, to be printed.
    generated: Option<String>,
}

impl AdminToken {
    /// The operator's own.
    pub(super) fn given(text: &str) -> Result<Self, StartError> {
        if text.len() < 8 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StartError::of(
                "ADMIN_TOKEN",
                "needs at least 8 characters, visible ASCII only",
            ));
        }
        Ok(Self {
            digest: TokenDigest::of(text),
            generated: None,
        })
    }

    pub(super) fn random() -> Result<Self, StartError> {
        let text = random::secret().map_err(|error| StartError::of("ADMIN_TOKEN", error))?;
        Ok(Self {
            digest: TokenDigest::of(&text),
            generated: Some(text),
        })
    }

    /// What a presented token's digest is compared with.
    pub fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// The text, if it was made here. One that was given is never printed.
    pub fn generated(&self) -> Option<&str> {
        self.generated.as_deref()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}
