//! The layout of the cache's keys, which decides whether the database stores the text of tokens.

use std::fmt;

use tower_api_token::store::KeyLayout;

use super::StartError;

/// The values of `KEY_LAYOUT` and `REDIS_KEY_PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Keys contain digests, so neither Redis nor the database holds a token.
    Digest,
    /// Keys are those of Dify's Python service, to share one Redis with it. They contain the tokens' text.
    Dify {
        /// The Python service's own `REDIS_KEY_PREFIX`; may be empty.
        prefix: String,
    },
}

impl Layout {
    pub(super) fn dify(prefix: Option<&str>) -> Self {
        // Python strips it too.
        let prefix = prefix.unwrap_or_default().trim().to_owned();
        Self::Dify { prefix }
    }

    /// Rejects a prefix, which no key of this layout has, because it is meant for a Redis that is shared with Dify.
    pub(super) fn digest(prefix: Option<&str>) -> Result<Self, StartError> {
        match prefix {
            None => Ok(Self::Digest),
            Some(_) => Err(StartError::of("REDIS_KEY_PREFIX", "needs KEY_LAYOUT=dify")),
        }
    }

    /// Returns the cache's setting.
    pub fn keys(&self) -> KeyLayout {
        match self {
            Self::Digest => KeyLayout::digest(),
            Self::Dify { prefix } => KeyLayout::dify().key_prefix(prefix),
        }
    }

    /// Returns whether the database must store the text of each token.
    pub fn needs_texts(&self) -> bool {
        matches!(self, Self::Dify { .. })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest => f.write_str("digest"),
            Self::Dify { prefix } if prefix.is_empty() => {
                f.write_str("dify, shared with Dify's Python service")
            }
            // Quoted, because a prefix may contain any character.
            Self::Dify { prefix } => write!(
                f,
                "dify, shared with Dify's Python service, keys prefixed {prefix:?}"
            ),
        }
    }
}
