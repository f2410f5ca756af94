//! How the cache's keys are made, and with it what the database keeps.

use std::fmt;

use tower_api_token::store::KeyLayout;

use super::StartError;
use crate::db::Kept;

/// `KEY_LAYOUT`, and `REDIS_KEY_PREFIX` that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Keys by digest: nothing that is kept gives a token away.
    Digest,
    /// The Python service's keys, to share one Redis with it: they contain the tokens' text.
    Seed {
        /// What the Python service has as `REDIS_KEY_PREFIX`, or nothing.
        prefix: String,
    },
}

impl Layout {
    pub(super) fn seed(prefix: Option<&str>) -> Self {
        // White space around it does not count, as in Python.
        let prefix = prefix.unwrap_or_default().trim().to_owned();
        Self::Seed { prefix }
    }

    /// A prefix that no key would get is a deployment that believes it shares its Redis.
    pub(super) fn digest(prefix: Option<&str>) -> Result<Self, StartError> {
        match prefix {
            None => Ok(Self::Digest),
            Some(_) => Err(StartError::of(
                "REDIS_KEY_PREFIX",
                "means something with KEY_LAYOUT=seed only",
            )),
        }
    }

    /// As the cache has it.
    pub fn keys(&self) -> KeyLayout {
        match self {
            Self::Digest => KeyLayout::digest(),
            Self::Seed { prefix } => KeyLayout::seed_with_prefix(prefix),
        }
    }

    /// What the database has to keep for it.
    pub fn kept(&self) -> Kept {
        match self {
            Self::Digest => Kept::Digest,
            Self::Seed { .. } => Kept::Text,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest => f.write_str("digest"),
            Self::Seed { prefix } if prefix.is_empty() => {
                f.write_str("seed, shared with the Python service")
            }
            // Quoted, because a prefix may be anything.
            Self::Seed { prefix } => write!(
                f,
                "seed, shared with the Python service, keys prefixed {prefix:?}"
            ),
        }
    }
}
