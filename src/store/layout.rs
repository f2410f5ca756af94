//! How keys and values are written in Redis. Without I/O.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

#[cfg(feature = "redis")]
use crate::error::ConfigError;
#[cfg(feature = "dify")]
use crate::store::redis::dify::names::DifyNames;
use crate::token::{TokenDigest, hex_digits, same, write_hex};

/// How a [`RedisStore`](crate::RedisStore) writes keys and values.
///
/// ```
/// use tower_api_token::store::KeyLayout;
///
/// // With a pepper, a stolen dump does not even show which of the known tokens are in use.
/// let layout = KeyLayout::peppered("pepper-of-2027").previous_peppers(["pepper-of-2026"]);
/// # let _: KeyLayout = layout;
/// ```
#[derive(Clone)]
pub struct KeyLayout {
    layout: Layout,
    /// A setter that was called and does not belong to the layout.
    misplaced: Option<&'static str>,
}

#[derive(Clone)]
enum Layout {
    Digest {
        /// The pepper in use, and the earlier ones. `None` is the plain digest.
        current: Option<Pepper>,
        previous: Vec<Option<Pepper>>,
    },
    #[cfg(feature = "dify")]
    Dify(DifyNames),
}

impl KeyLayout {
    /// Returns the layout whose keys hold a digest of the token, and whose values hold no token: a stolen
    /// dump does not reveal tokens.
    ///
    /// This is the default.
    pub fn digest() -> Self {
        Self::of(Layout::Digest {
            current: None,
            previous: Vec::new(),
        })
    }

    /// Returns the layout whose keys hold an HMAC-SHA-256 of the digest under a pepper: without the pepper, a
    /// dump does not show which of the known tokens are in use.
    ///
    /// An empty text is no pepper, as with [`digest`](Self::digest).
    pub fn peppered(pepper: impl Into<String>) -> Self {
        Self::of(Layout::Digest {
            current: Pepper::new(pepper.into()),
            previous: Vec::new(),
        })
    }

    /// Sets the peppers of instances that do not have the current one yet, or no longer. An empty text is no
    /// pepper.
    ///
    /// Reads and fills use the current pepper only. An invalidation deletes under the previous ones too,
    /// before the current one.
    ///
    /// To change the pepper, first give all instances both, with the old one current. Then make the new one
    /// current. Remove the old one when the TTL is over.
    #[must_use]
    pub fn previous_peppers<P: Into<String>>(
        mut self,
        peppers: impl IntoIterator<Item = P>,
    ) -> Self {
        match &mut self.layout {
            Layout::Digest { previous, .. } => {
                let peppers = peppers.into_iter();
                *previous = peppers.map(|pepper| Pepper::new(pepper.into())).collect();
            }
            #[cfg(feature = "dify")]
            Layout::Dify(_) => self.misplaced = Some("previous_peppers"),
        }
        self
    }

    /// Returns the layout of Dify's `api_token_cache.py`, to share one Redis with it, byte for byte: keys
    /// `api_token:{type}:{token}`, with the token's text in key and value. Each side reads what the other
    /// wrote, and obeys what the other invalidated.
    ///
    /// The [token types](crate::ApiTokenCacheBuilder::token_types) must be declared, because keys hold one.
    /// The metadata's type must be readable from nothing, as `()` and an `Option` are: Python writes none.
    ///
    /// It is weaker than the digest layout: a stolen dump holds the tokens, an invalidation by digest is not
    /// possible, and a load on the Python side can bring back what was revoked meanwhile, because Python does
    /// not fence its writes. Use it only beside Dify's own service.
    #[cfg(feature = "dify")]
    pub fn dify() -> Self {
        Self::of(Layout::Dify(DifyNames::new("")))
    }

    /// Sets the `REDIS_KEY_PREFIX` of Dify's service.
    ///
    /// As there, whitespace around it is ignored, a colon follows it, and the index of a tenant has no prefix.
    #[cfg(feature = "dify")]
    #[must_use]
    pub fn key_prefix(mut self, prefix: &str) -> Self {
        match &mut self.layout {
            Layout::Dify(names) => *names = DifyNames::new(prefix),
            Layout::Digest { .. } => self.misplaced = Some("key_prefix"),
        }
        self
    }

    fn of(layout: Layout) -> Self {
        Self {
            layout,
            misplaced: None,
        }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.misplaced.map_or(Ok(()), |setter| {
            Err(ConfigError::of(setter, "not a setting of this key layout"))
        })
    }

    /// Returns the names of the Dify layout, if this is it.
    #[cfg(feature = "dify")]
    pub(super) fn dify_names(&self) -> Option<&DifyNames> {
        match &self.layout {
            Layout::Digest { .. } => None,
            Layout::Dify(names) => Some(names),
        }
    }

    pub(crate) fn is_dify(&self) -> bool {
        !matches!(self.layout, Layout::Digest { .. })
    }

    /// Returns the digest that reads and fills use.
    pub(super) fn current(&self, digest: &TokenDigest) -> KeyDigest {
        match &self.layout {
            Layout::Digest { current, .. } => keyed(current.as_ref(), digest),
            #[cfg(feature = "dify")]
            Layout::Dify(_) => keyed(None, digest),
        }
    }

    /// Returns the digests that an invalidation deletes under, the current one last.
    pub(super) fn all(&self, digest: &TokenDigest) -> Vec<KeyDigest> {
        match &self.layout {
            Layout::Digest { current, previous } => {
                // guard: P1
                let peppers = previous.iter().chain([current]);
                peppers
                    .map(|pepper| keyed(pepper.as_ref(), digest))
                    .collect()
            }
            #[cfg(feature = "dify")]
            Layout::Dify(_) => vec![keyed(None, digest)],
        }
    }
}

impl Default for KeyLayout {
    fn default() -> Self {
        Self::digest()
    }
}

impl fmt::Debug for KeyLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every field is named, so that a new field with a secret does not compile.
        match &self.layout {
            Layout::Digest { current, previous } => f
                .debug_struct("Digest")
                .field("peppered", &current.is_some())
                .field("previous", &previous.len())
                .finish(),
            #[cfg(feature = "dify")]
            Layout::Dify(names) => names.fmt(f),
        }
    }
}

fn keyed(pepper: Option<&Pepper>, digest: &TokenDigest) -> KeyDigest {
    pepper.map_or(KeyDigest(*digest.as_bytes()), |pepper| pepper.key(digest))
}

/// A secret that digests are keyed by. It is wiped when it is dropped.
#[derive(Clone)]
struct Pepper(Arc<Zeroizing<String>>);

impl Pepper {
    fn new(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        (!text.is_empty()).then(|| Self(Arc::new(text)))
    }

    fn key(&self, digest: &TokenDigest) -> KeyDigest {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .expect("HMAC takes a key of any length");
        mac.update(digest.as_bytes());
        KeyDigest(mac.finalize().into_bytes().into())
    }
}

/// The digest in a key and in a value, under the pepper if there is one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Returns some of its bits, to choose a shard by.
    pub(crate) fn spread(&self) -> usize {
        usize::from(self.0[0])
    }

    /// Returns its first eight bytes.
    pub(crate) fn start(&self) -> u64 {
        let (words, _) = self.0.as_chunks::<8>();
        u64::from_ne_bytes(words[0])
    }

    /// Appends it to a name, as `Display` writes it, without the cost of a formatter.
    pub(super) fn push_to(&self, name: &mut String) {
        write_hex(&self.0, name).expect("a String can be written to");
    }

    /// Returns whether `hex` is this digest in lower-case hexadecimal, in constant time.
    pub(crate) fn is_written(&self, hex: &str) -> bool {
        same(&hex_digits(&self.0), hex.as_bytes())
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0[..4], f)?;
        f.write_str("..")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hmac.new(b"new", hashlib.sha256(b"abc").digest(), "sha256").hexdigest()` in Python.
    const HMAC_OF_ABC: &str = "d464eb36856b9ca0d4ee3252b30b930f68ba1660f318e8b37db82f03b843977f";

    #[test]
    fn a_pepper_changes_each_digest_and_previous_ones_are_deleted_too() {
        let token = TokenDigest::of("abc");
        let plain = KeyLayout::digest().current(&token);
        let new = KeyLayout::peppered("new").previous_peppers(["old", ""]);
        let old = KeyLayout::peppered("old").current(&token);
        assert_ne!(new.current(&token), plain);
        assert_eq!(new.all(&token), [old, plain, new.current(&token)]);
        assert_eq!(new.current(&token).to_string(), HMAC_OF_ABC);
    }

    #[test]
    fn debug_shows_no_pepper() {
        let shown = format!("{:?}", KeyLayout::peppered("new").previous_peppers(["old"]));
        assert!(!shown.contains("new") && !shown.contains("old"), "{shown}");
    }
}
